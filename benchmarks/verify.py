"""How fast and how frugal verify is, against sha256sum and xz; prints Markdown.

    python benchmarks/verify.py [ARCHIVE]

Without ARCHIVE a synthetic one of about 1 GB (raw) is made in a temporary folder; it breaks many
rules about its content, which does not change how it is read. Ratios are of runs that alternate in
this one process, and of the fastest run each, so that other work on the machine hits both alike.
"""

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hakim_actions.image.verify import verify_paths

ROUNDS: Final = 7
MEMBERS: Final = 40_000
MEMBER_SIZE: Final = 26_000
COMMAND: Final = (sys.executable, "-I", "-m", "hakim_actions", "verify")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", nargs="?", type=Path, help="hakim-*.tar.xz")
    given = parser.parse_args().archive
    with tempfile.TemporaryDirectory(prefix="hakim-bench-") as folder:
        archive = given or synthetic(Path(folder))
        size = archive.stat().st_size
        print(f"`{archive.name}`: {size / 1e6:.0f} MB, raw {raw_size(archive) / 1e6:.0f} MB\n")
        print("| what | seconds | of the tool's speed | peak memory |")
        print("|---|---:|---:|---:|")
        report_checksum(archive)
        report_structure(archive)


def report_checksum(archive: Path) -> None:
    """Compare --checksums-only with sha256sum, both on a file in the page cache."""
    ours, tools = alternate(
        lambda: verify_paths([archive], checksums_only=True),
        lambda: run(["sha256sum", str(archive)]),
        rounds=ROUNDS,
    )
    print(f"| `sha256sum` | {tools:.2f} | | |")
    print(f"| checksum by verify | {ours:.2f} | {tools / ours:.2f} | |")


def report_structure(archive: Path) -> None:
    """Compare a whole verification in a child with `xz -dc`, which only unpacks."""
    peaks: list[int] = []
    ours, tools = alternate(
        lambda: peaks.append(run([*COMMAND, str(archive)])),
        lambda: run(["xz", "-dc", str(archive)]),
        rounds=2,
    )
    print(f"| `xz -dc` | {tools:.1f} | | |")
    print(
        f"| checksum and structure by verify | {ours:.1f} | {tools / ours:.2f} "
        f"| {max(peaks) / 2**20:.0f} MiB |"
    )


def alternate(
    ours: Callable[[], object], tools: Callable[[], object], *, rounds: int
) -> tuple[float, float]:
    """Return the least seconds of each, run in turns after one turn that warms the cache."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for work, times in zip((ours, tools), seconds, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                times.append(time.perf_counter() - start)
    return min(seconds[0]), min(seconds[1])


def run(command: Sequence[str]) -> int:
    """Run *command* to its end, whatever its status, and return its peak memory in bytes."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in {0, 5}:
        sys.exit(f"{command[0]} ended with status {child.returncode}")
    return usage.ru_maxrss * 1024


def raw_size(archive: Path) -> int:
    """Return what `xz` says the archive holds, in bytes."""
    listed = subprocess.check_output(["xz", "--robot", "--list", str(archive)], text=True)
    return int(listed.splitlines()[-1].split("\t")[4])


def synthetic(folder: Path) -> Path:
    """Write an archive with many members of about 1 GB; a third of it does not compress."""
    path = folder / "hakim-base-trixie-amd64.tar.xz"
    noise = random.Random(0)  # noqa: S311 - only has to be the same each time
    with (
        path.open("wb") as target,
        subprocess.Popen(["xz", "-1", "-T0"], stdin=subprocess.PIPE, stdout=target) as compressor,
        tarfile.open(fileobj=compressor.stdin, mode="w|") as archive,
    ):
        for number in range(MEMBERS):
            header = tarfile.TarInfo(f"./usr/share/folder-{number // 100:03}/file-{number:06}")
            content = noise.randbytes(MEMBER_SIZE // 3)
            header.size = MEMBER_SIZE
            content += bytes(MEMBER_SIZE - len(content))
            archive.addfile(header, io.BytesIO(content))
    return path


if __name__ == "__main__":
    for tool in ("sha256sum", "xz"):
        if shutil.which(tool) is None:
            sys.exit(f"The program '{tool}' was not found.")
    main()
