"""What must differ between two containers of one image: SSH host keys and the machine-id."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KEYS: Final = re.compile(r"ssh_host_\w+_key\.pub")


@dataclass(frozen=True)
class Identity:
    """What must differ between two containers of one image, as it stands in a root file system.

    *keys* are the sha256 of the public SSH host keys by file name.
    """

    keys: Mapping[str, str]
    machine_id: str


def identity(rootfs: Path) -> Identity:
    """Read what is unique to a container from its root file system, following no symbolic link."""
    keys: dict[str, str] = {}
    with contextlib.suppress(OSError), _opened(rootfs, "etc", "ssh") as folder:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _KEYS.fullmatch(entry.name)]
        keys = {name: hashlib.sha256(_read(name, folder)).hexdigest() for name in names}
    machine_id = ""
    with contextlib.suppress(OSError), _opened(rootfs, "etc") as folder:
        machine_id = _read("machine-id", folder).decode(errors="replace").strip()
    return Identity(keys, machine_id)


@contextlib.contextmanager
def _opened(rootfs: Path, *names: str) -> Iterator[int]:
    handle = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _read(name: str, folder: int) -> bytes:
    # Non-blocking: what is a pipe in a hostile archive must not hold us up.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as stream:
        return stream.read(65_536)
