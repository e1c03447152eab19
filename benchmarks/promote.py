"""Promotion in numbers, against the fake cluster of the tests.

``python benchmarks/promote.py scale``   1, 10 and 100 nodes, 6 files each: time, requests, memory
``python benchmarks/promote.py upload``  one file of 1.5 GB: speed against ``curl -T``, memory
``python benchmarks/promote.py nothing`` a promotion with nothing to do: time, requests, writes
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import Process, Queue
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from fakes.promotions import publish, site  # noqa: E402
from fakes.proxmox import serving_files  # noqa: E402

from hakim_actions.promote.api import Api  # noqa: E402
from hakim_actions.promote.endpoint import Endpoint, Token  # noqa: E402
from hakim_actions.system.http import Deadline  # noqa: E402
from hakim_actions.system.tls import Trust  # noqa: E402

SIZE = 1_500_000_000
VARIANTS = ("base", "php", "dotnet", "js", "rust", "elixir")


@contextlib.contextmanager
def cluster(root: Path, nodes: int, *, fetch: bool) -> Iterator[Any]:
    """Run the fake in a process of its own, so that only the client is measured here."""
    ready: Queue[Any] = Queue()
    stop: Queue[Any] = Queue()
    server = Process(target=_serve, args=(root, nodes, fetch, ready, stop))
    server.start()
    try:
        yield ready.get(timeout=30), stop, ready
    finally:
        stop.put("end")
        server.join()


def _serve(root: Path, nodes: int, fetch: bool, ready: Any, stop: Any) -> None:
    names = [f"pve{number}" for number in range(1, nodes + 1)]
    (root / "public").mkdir(exist_ok=True)
    with site(root, nodes=names, fetch=fetch) as here, serving_files(root / "public") as url:
        here.fake.hashes = False
        ready.put((here.fake.url, str(here.fake.certificate), here.token, url))
        while stop.get() != "end":
            ready.put((len(here.fake.calls), len(here.fake.writes)))
            here.fake.calls.clear()


def _promote(where: Any, root: Path, *args: str) -> tuple[float, int]:
    """Promote in a process of its own; returns seconds and its largest memory in MiB."""
    url, certificate, *_ = where
    argv = ["command", "promote", *args, "--endpoint", url, "--ca-file", certificate]
    return _client(where, root, *argv, "--storage", "tmpl", "--state", str(root / "state.json"))


def _client(where: Any, root: Path, *args: str) -> tuple[float, int]:
    token = where[2]
    argv = [sys.executable, __file__, *args]
    env = {"PROXMOX_TOKEN": token, "HOME": str(root), "PATH": os.defpath}
    done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return float(seconds), int(memory)


def _measured(work: Callable[[], object]) -> None:
    """Be the measured client: print the seconds of *work*, and the memory of this process."""
    start = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    seconds = time.monotonic() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps([round(seconds, 3), memory]))


def _command(argv: list[str]) -> None:
    from hakim_actions.cli.main import main as run  # noqa: PLC0415 - its import is not measured

    def work() -> None:
        code = run(argv, dict(os.environ))
        assert code == 0, code

    _measured(work)


def _transfer(url: str, certificate: str, file: str, sha256: str) -> None:
    """Send one file to the storage: the part of a promotion that curl does too."""
    endpoint = Endpoint.parse(url, trust=Trust(ca_file=Path(certificate)))
    token = Token.parse(os.environ["PROXMOX_TOKEN"], source="PROXMOX_TOKEN")
    api = Api(endpoint, token, deadline=Deadline(600))
    _measured(
        lambda: api.upload(
            "nodes/pve1/storage/tmpl/upload",
            Path(file),
            name=Path(file).name,
            sha256=sha256,
            on_bytes=lambda _count: None,
        )
    )


def scale(root: Path, counts: list[int]) -> list[dict[str, Any]]:
    """Measure a first promotion of six files by download, and one with nothing to do."""
    rows = []
    for count in counts:
        home = root / f"nodes-{count}"
        publish(home / "public" / "v1", "v1", variants=VARIANTS, size=20_000)
        with cluster(home, count, fetch=True) as (where, stop, ready):
            source = f"{where[3]}v1/index.json"
            for title in ("first", "again"):
                seconds, memory = _promote(where, home, "--from", source)
                stop.put("counts")
                calls, writes = ready.get()
                rows.append(
                    {
                        "nodes": count,
                        "run": title,
                        "seconds": seconds,
                        "seconds_per_node": round(seconds / count, 3),
                        "requests_per_node": round(calls / count, 1),
                        "writes": writes,
                        "memory_mib": memory,
                    }
                )
    return rows


def upload(root: Path, size: int = SIZE, rounds: int = 3) -> dict[str, Any]:
    """Measure an upload and, in turn with it, what curl reaches with a plain PUT."""
    file = root / "hakim-base-trixie-amd64.tar.xz"
    sha256 = _fill(file, size)
    ours, curls, largest = [], [], 0
    with cluster(root, 1, fetch=False) as (where, _stop, _ready):
        for _ in range(rounds):
            curls.append(_curl(where, file))
            seconds, memory = _client(where, root, "transfer", *where[:2], str(file), sha256)
            ours.append(size / seconds)
            largest = max(largest, memory)
            time.sleep(2)  # the server's own copy of the file must not slow down the next one
    return {
        "size": size,
        "curl_mb_per_second": round(max(curls) / 1e6),
        "ours_mb_per_second": round(max(ours) / 1e6),
        "ratio": round(max(ours) / max(curls), 2),
        "memory_mib": largest,
    }


def _curl(where: Any, file: Path) -> float:
    url, certificate, *_ = where
    argv = ["curl", "-sS", "--fail", "--http1.1", "--cacert", certificate, "-H", "Expect:"]
    argv += ["-o", "/dev/null", "-w", "%{time_total}", "-T", str(file), f"{url}/sink/file"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return file.stat().st_size / float(done.stdout)


def _fill(file: Path, size: int) -> str:
    block, digest = os.urandom(1_000_000), hashlib.sha256()
    with file.open("wb") as stream:
        for _ in range(size // len(block)):
            stream.write(block)
            digest.update(block)
    return digest.hexdigest()


def nothing(root: Path) -> dict[str, Any]:
    """Measure a promotion of six files to three nodes where all is there."""
    return scale(root, [3])[1]


def main() -> None:
    """Run one benchmark and print its result as JSON."""
    match sys.argv[1:]:
        case ["command", *argv]:
            return _command(argv)
        case ["transfer", url, certificate, file, sha256]:
            return _transfer(url, certificate, file, sha256)
        case _:
            pass
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["scale", "upload", "nothing"])
    name = parser.parse_args().name
    with tempfile.TemporaryDirectory(prefix="hakim-bench-") as folder:
        root = Path(folder)
        result = {"scale": lambda: scale(root, [1, 10, 100])}.get(
            name, lambda: upload(root) if name == "upload" else nothing(root)
        )()
    print(json.dumps(result, indent=2))
    return None


if __name__ == "__main__":
    main()
