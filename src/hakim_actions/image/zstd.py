"""The twin of a template: the same tar packed with zstd, which unpacks several times faster.

It is for those who create containers often and can spare the disk; ``pct create`` takes both:
https://pve.proxmox.com/pve-docs/chapter-pct.html
"""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from hakim_actions.errors import BuildError, VerificationError
from hakim_actions.image.rules import define
from hakim_actions.system import process

#: A window of 128 MiB, the longest that ``zstd -d`` and libarchive accept unasked, finds what
#: repeats in an image: level 9 with it is as small as 19 without, in a twentieth of the time.
#: The bytes do not depend on how many workers there are.
_PACK: Final = ("zstd", "-9", "--long=27", "--threads=0", "--check", "--quiet", "--force")
_UNPACK: Final = ("zstd", "--decompress", "--stdout", "--quiet")
_CHUNK: Final = 1 << 20
_ENDING: Final = ".tar.zst"


#: An artifact may have both; who takes the one must get what the other was proven to be.
SAME: Final = define(
    "twin-same",
    "The .tar.zst unpacks to the bytes of the .tar.xz",
    why="Only the .tar.xz is looked into and booted; the other is proven by being the same.",
)


class UnusableTwinError(VerificationError):
    """A twin that zstd cannot unpack, or that unpacks to more than it should."""


def pack_twin(archive: Path, target: Path, *, raw_bytes: int, env: Mapping[str, str]) -> None:
    """Pack what *archive* (.tar.xz) unpacks to, *raw_bytes* of it, as *target*.

    Raises BuildError with what the program that failed said.
    """
    env = process.child_environment(env)
    unpack = (process.find("xz", env=env), "--decompress", "--stdout", str(archive))
    pack = (process.find("zstd", env=env), *_PACK[1:])
    with (
        process.started(unpack, env=env, stdout=subprocess.PIPE) as source,
        process.started(
            (*pack, f"--stream-size={raw_bytes}", "-o", str(target)),
            env=env,
            stdin=source.stdout,
            stdout=subprocess.PIPE,
        ) as packer,
    ):
        assert source.stdout is not None  # noqa: S101 - given as PIPE; narrows the type
        assert packer.stdout is not None  # noqa: S101 - likewise
        source.stdout.close()  # or xz would wait for ever after zstd ended
        said = packer.stdout.read().decode(errors="replace").strip()
        if packer.wait() != 0 or source.wait() != 0:
            msg = f"{target.name} could not be made: {said or 'xz failed'}."
            raise BuildError(msg, hint=f"Is {archive.name} whole, and is there room on the disk?")


def is_twin(name: str) -> bool:
    """Tell whether *name* is that of a twin, going by its two ends only."""
    return name.startswith("hakim-") and name.endswith(_ENDING)


def archive_of(name: str) -> str:
    """Return the name of the archive that the twin *name* belongs to."""
    return f"{name.removesuffix(_ENDING)}.tar.xz"


def twin_of(name: str) -> str:
    """Return the name that the twin of the archive *name* has."""
    return f"{name.removesuffix('.tar.xz')}{_ENDING}"


def raw_sha256(twin: IO[bytes], *, limit: int) -> str:
    """Return the sha256 of what the open file *twin* unpacks to.

    Raises UnusableTwinError when that is no zstd or more than *limit* bytes, and ProcessError
    when there is no program to unpack it with.
    """
    env = process.child_environment({})
    digest, size = hashlib.sha256(), 0
    with process.started(
        (process.find("zstd", env=env), *_UNPACK[1:]), env=env, stdin=twin, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None  # noqa: S101 - given as PIPE; narrows the type
        while piece := child.stdout.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
            if size > limit:
                msg = f"unpacks to more than {limit} bytes"
                raise UnusableTwinError(msg)
        if child.wait() != 0:
            msg = "the compressed data is damaged or no zstd"
            raise UnusableTwinError(msg)
    return digest.hexdigest()
