"""Upload six assets of 200 MiB to the GitHub fake on loopback, against six parallel ``curl -T``.

The fake runs in this process, the uploaders in others. Prints both times, their ratio, and the
largest resident memory of ours. ``python benchmarks/publish.py [MiB]``
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "src"), str(_ROOT / "tests")]

from fakes import github, publications  # noqa: E402
from fakes.publications import Made  # noqa: E402

_VARIANTS: Final = ("base", "php", "dotnet", "js", "rust", "elixir")
#: VmHWM, because ru_maxrss also counts what this process had when it started the child.
_OURS: Final = """
from pathlib import Path
from hakim_actions.__main__ import start
status = start()
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
raise SystemExit(status)
"""


def main(mebibytes: int) -> None:
    """Measure both, curl before and after ours, and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for variant in _VARIANTS:
            publications.write(folder, Made(variant=variant, archive=os.urandom(mebibytes << 20)))
        before = _curl(folder)
        whole, uploading, memory = _ours(folder)
        after = _curl(folder)
    curl = min(before, after)
    print(f"curl -T, six at once: {before:.2f} s before, {after:.2f} s after")
    print(f"ours, uploading:      {uploading:.2f} s, {uploading / curl:.2f} times curl")
    print(f"ours, whole command:  {whole:.2f} s, {whole / curl:.2f} times curl (hashes everything)")
    print(f"ours, memory:         {memory / 1024:.0f} MiB")


def _curl(folder: Path) -> float:
    with github.running() as server:
        upload_url = server.add_release("v1.2.0", draft=True)["upload_url"].partition("{")[0]
        start = time.monotonic()
        children = [
            subprocess.Popen(_curl_command(path, upload_url), stdout=subprocess.DEVNULL)
            for path in sorted(folder.glob("*/*[a-z0-9].tar.xz"))
            if not path.name.endswith(".meta.tar.xz")
        ]
        assert len(children) == len(_VARIANTS)
        assert not any(child.wait() for child in children)
        assert len(server.of_tag("v1.2.0")[0]["assets"]) == len(_VARIANTS)
        return time.monotonic() - start


def _curl_command(path: Path, upload_url: str) -> list[str]:
    token = f"Authorization: Bearer {github.TOKEN}"  # the fake's own, a secret of nobody
    url = f"{upload_url}?name={path.name}"
    return ["curl", "-sSf", "-X", "POST", "-H", token, "-T", str(path), url]


def _ours(folder: Path) -> tuple[float, float, int]:
    """Return seconds of the whole command and of its uploads, and the memory in KiB."""
    uploads: list[float] = []

    def note(exchange: github.Exchange) -> None:
        if exchange.is_upload:
            uploads.append(time.monotonic())

    with github.running() as server:
        server.on_request = server.on_reply = note
        start = time.monotonic()
        argv = [sys.executable, "-c", _OURS, "publish", "--target", "github", str(folder)]
        environment: Mapping[str, str] = (
            os.environ | server.environment() | {"PYTHONPATH": str(_ROOT / "src")}
        )
        done = subprocess.run(
            [*argv, "--parallel", "6"], check=True, env=environment, capture_output=True, text=True
        )
        whole = time.monotonic() - start
        assert server.published("v1.2.0") is not None
    return whole, max(uploads) - min(uploads), int(done.stdout.split()[-1])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
