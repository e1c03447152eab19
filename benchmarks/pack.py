#!/usr/bin/env python3
"""Compare our packing of a root file system with ``xz -T0 -6`` of the same tar, in one run.

    benchmarks/pack.py [rootfs.tar] [--rounds N] [--single]

The two take turns, so that a busy machine slows both. Ratios matter, not seconds: the machine is
part of every number. Without a tar a synthetic one is made. Memory is the largest resident set of
the process that did the work, and of its children.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = 1_767_225_600
_PACK = """
import sys
from pathlib import Path
from hakim_actions.image.pack import pack_tar
from hakim_actions.image.pieces import PieceStore
source, target, store = map(Path, sys.argv[1:])
pack_tar(source, target, epoch=%d, store=PieceStore(store))
"""


@dataclass(frozen=True)
class Run:
    """One run: wall-clock and processor seconds, largest memory and size of the result in bytes."""

    seconds: float
    cpu: float
    memory: int
    size: int


def measure(command: Sequence[str], output: Path, *, to_stdout: bool = False) -> Run:
    """Run *command*, which writes *output* itself or to its standard output."""
    with output.open("wb") if to_stdout else open(os.devnull, "wb") as stream:  # noqa: PTH123
        began = time.monotonic()
        child = subprocess.Popen(
            command, stdout=stream, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command[0]} failed with status {child.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(seconds, cpu, usage.ru_maxrss * 1024, output.stat().st_size)


def compare(source: Path, folder: Path, *, rounds: int, single: bool) -> dict[str, list[Run]]:
    """Return the runs of each way, which take turns *rounds* times."""
    ways: dict[str, list[Run]] = {}
    output = folder / "out.tar.xz"
    for number in range(rounds):
        store = folder / f"pieces-{number}"
        ours = [sys.executable, "-c", _PACK % EPOCH, str(source), str(output), str(store)]
        xz = {"xz -T0 -6": ["-T0"]} | ({"xz -T1 -6": ["-T1"]} if single else {})
        for name, threads in xz.items():
            command = ["xz", "-6", *threads, "--keep", "--stdout", str(source)]
            ways.setdefault(name, []).append(measure(command, output, to_stdout=True))
        ways.setdefault("ours, cold", []).append(measure(ours, output))
        ways.setdefault("ours, warm", []).append(measure(ours, output))
    return ways


def table(ways: dict[str, list[Run]]) -> str:
    """Return a Markdown table; ratios are against the first way."""
    lines = [
        "| way | seconds: min / median / max | CPU s | MiB | peak MiB | speed | size |",
        "|---|---|---|---|---|---|---|",
    ]
    first = next(iter(ways.values()))
    speed, size = statistics.median(run.seconds for run in first), first[0].size
    for name, runs in ways.items():
        seconds = [run.seconds for run in runs]
        median = statistics.median(seconds)
        lines.append(
            f"| {name} | {min(seconds):.1f} / {median:.1f} / {max(seconds):.1f} "
            f"| {statistics.median(run.cpu for run in runs):.1f} | {runs[0].size / 2**20:.1f} "
            f"| {max(run.memory for run in runs) / 2**20:.0f} | {speed / median:.2f} x "
            f"| {100 * (runs[0].size / size - 1):+.2f} % |"
        )
    return "\n".join(lines)


def synthetic(path: Path, megabytes: int) -> Path:
    """Write a root file system with that much of text and of numbers that compress a little."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    from rootfs import Package, default_packages, file, make_rootfs_tar  # noqa: PLC0415

    source = random.Random(1)  # noqa: S311
    words = [source.randbytes(source.randint(2, 9)).hex().encode() for _ in range(4000)]
    packages, files = [], []
    for number in range(megabytes):
        name = f"package{number}"
        paths = [f"/usr/share/{name}/{part}" for part in range(16)]
        packages.append(Package(name=name, version="1", files=paths))
        for place in paths:
            text = b" ".join(source.choices(words, k=3000))
            files.append(file(f".{place}", (text + source.randbytes(20_000))[: 1 << 16]))
    return make_rootfs_tar(path, packages=[*default_packages(), *packages], extra=files)


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tar", nargs="?", type=Path, help="an uncompressed rootfs.tar")
    parser.add_argument("--rounds", type=int, default=1, help="how often each way runs (1)")
    parser.add_argument("--single", action="store_true", help="one stream of xz -6 as well")
    parser.add_argument("--megabytes", type=int, default=64, help="size of the synthetic tar (64)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hakim-bench-") as name:
        folder = Path(name)
        tar = options.tar or synthetic(folder / "rootfs.tar", options.megabytes)
        ways = compare(tar, folder, rounds=options.rounds, single=options.single)
        print(f"{tar.name}, {tar.stat().st_size / 2**20:.0f} MiB, {os.cpu_count()} processors\n")
        print(table(ways))


if __name__ == "__main__":
    main()
