"""Packs a template into the tar that Coder takes: complete, and the same bytes for the same files.

Coder wants plain ustar without pax headers and at most 1 MiB, and drops on extraction what is
outside of the folder, a link, or hidden; so links are followed here, and what would be dropped is
refused. https://coder.com/docs/admin/templates/managing-templates
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hakim_actions.errors import ConfigurationError, TemplateError

#: TemplateArchiveLimit of Coder's own command line: the whole tar, headers included, in bytes.
LIMIT: Final = 1 << 20
LOCK_FILE: Final = ".terraform.lock.hcl"


@dataclass(frozen=True, kw_only=True)
class Pack:
    """A packed template: its bytes, their sha256, and the names that are in it."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    members: tuple[str, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return len(self.data)


def pack(folder: Path, *, root: Path, overlay: Mapping[str, bytes] | None = None) -> Pack:
    """Pack *folder*, whose links may lead anywhere inside of *root*.

    *overlay* maps names in the archive to contents that replace the files of that name. Raises
    ConfigurationError with every file that Coder would drop, TemplateError when it is too big.
    """
    files = {name: path.read_bytes() for name, path in _collect(folder, root.resolve())}
    for name, content in (overlay or {}).items():
        if name not in files:
            msg = f"The template {folder.name} has no {name} that could be replaced."
            raise ConfigurationError(msg, hint="It needs one, or a link to one.")
        files[name] = content
    data = _tar(files)
    if len(data) >= LIMIT:
        largest = max(files, key=lambda name: len(files[name]))
        msg = (
            f"The template {folder.name} takes {len(data)} bytes, and Coder less than {LIMIT}; "
            f"the largest file is {largest} with {len(files[largest])}."
        )
        raise TemplateError(msg, hint="Move what the template does not need out of its folder.")
    digest = hashlib.sha256(data).hexdigest()
    return Pack(name=folder.name, data=data, sha256=digest, members=tuple(sorted(files)))


def _collect(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    problems: list[str] = []
    found = list(_walk(folder, "", root, (folder.resolve(),), problems))
    if problems:
        msg = f"The template {folder.name} cannot be packed as it is."
        raise ConfigurationError(
            msg,
            hint="Coder would leave these out without a word; rename or remove them.",
            problems=sorted(problems),
        )
    yield from found


def _walk(
    folder: Path, prefix: str, root: Path, above: tuple[Path, ...], problems: list[str]
) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        name = prefix + path.name
        if _is_ours_alone(name, path):
            continue
        real = path.resolve()
        problem = _problem(name, path, real, root, above)
        if problem:
            problems.append(f"{name}: {problem}")
        elif real.is_dir():
            yield from _walk(path, f"{name}/", root, (*above, real), problems)
        else:
            yield name, path


def _is_ours_alone(name: str, path: Path) -> bool:
    """Tell whether a file is for development: Terraform's working folder, and tests."""
    return path.name == ".terraform" or name == "tests" or path.name.endswith(".tftest.hcl")


def _problem(name: str, path: Path, real: Path, root: Path, above: tuple[Path, ...]) -> str:
    """Return why *path* cannot go into the archive as *name*, or nothing."""
    base = path.name
    values = ("terraform.tfvars", "terraform.tfvars.json")
    reasons = {
        "hidden files are dropped": base.startswith(".") and name != LOCK_FILE,
        "a state holds secrets, and is dropped": ".tfstate" in name,
        "values of variables are dropped; give them with --variables-file": name in values
        or base.endswith((".auto.tfvars", ".auto.tfvars.json")),
        "only ASCII names of up to 100 characters fit into the archive": not name.isascii()
        or len(name) > 100,
        f"a link that leaves the project ({real})": not real.is_relative_to(root),
        "a link to a folder that it is in": real in above,
        "a link to nothing, or not a file": not real.is_dir() and not real.is_file(),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Write a ustar: folders before what is in them, sorted, no times, no owners."""
    folders = {
        f"{parent}/" for name in files for parent in Path(name).parents if str(parent) != "."
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted({*folders, *files}):
            member = tarfile.TarInfo(name)
            member.mtime = 0
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            else:
                member.mode, member.size = 0o644, len(files[name])
                archive.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()
