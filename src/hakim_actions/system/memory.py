"""How much memory this machine has left."""

import re
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def available() -> int:
    """Return how many bytes programs can have without swapping, as the kernel estimates it.

    A limit on this process and others, as a runner in a container has it, counts as well.
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _MEMINFO.read_text("ascii"), re.MULTILINE)
    left = [int(match[1]) << 10 if match else 0]
    own = re.search(r"^0::/(.*)$", _OWN_CGROUP.read_text(), re.MULTILINE)
    folder = _CGROUPS / own[1] if own else _CGROUPS
    for cgroup in (folder, *folder.parents):
        if cgroup.is_relative_to(_CGROUPS):
            left += _left_by(cgroup)
    return max(min(left), 0)


def _left_by(cgroup: Path) -> list[int]:
    """Return what the limit of *cgroup* leaves, and nothing where it has none."""
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = int((cgroup / "memory.current").read_text("ascii"))
        cached = re.search(
            r"^inactive_file (\d+)$", (cgroup / "memory.stat").read_text(), re.MULTILINE
        )
    except OSError:
        return []
    # The kernel takes back what it only keeps of files before it ends a program.
    return [] if limit == "max" else [int(limit) - used + int(cached[1] if cached else 0)]
