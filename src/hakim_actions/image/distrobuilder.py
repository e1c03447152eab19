"""Runs distrobuilder: from the definition to an uncompressed tar of the root file system."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import read_yaml
from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.image import mirror, tmpfs
from hakim_actions.system import process, units
from hakim_actions.system.progress import PhaseClock

#: The oldest distrobuilder whose native filters and generators the definition uses.
OLDEST: Final = "3.2"
#: A method that distrobuilder does not know leaves the tar as it is, which is what packing reads.
_UNCOMPRESSED: Final = "--compression=none"

#: What the action scripts read, for a mirror of another layout and for a build from a snapshot.
_HANDED_ON: Final = (mirror.SECURITY_MIRROR, mirror.NAMED_MIRROR, mirror.NAMED_SECURITY_MIRROR)

#: What distrobuilder's log says when it enters a phase; our name for it, and its title.
#: https://github.com/lxc/distrobuilder/blob/main/distrobuilder/main_lxc.go
_PHASES: Final = (
    ('msg="Downloading source"', "source", "Bootstrap Debian"),
    ('msg="Managing repositories"', "packages", "Install packages"),
    ('msg="Running generator"', "setup", "Set up the image"),
    ('msg="Creating LXC image"', "tar", "Collect the root file system"),
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the root file system starts: Debian's archive, or the tar of a base layer.

    ``mirror`` is a URL, empty for debootstrap's own default; ``layer`` wins when it is given.
    """

    mirror: str = ""
    layer: Path | None = None

    def overrides(self) -> Sequence[str]:
        """Return the overrides of the definition that select this source."""
        if self.layer is not None:
            return ("source.downloader=rootfs-http", f"source.url={self.layer.as_uri()}")
        return (f"source.url={self.mirror}",) if self.mirror else ()


@dataclass(frozen=True, kw_only=True)
class Rootfs:
    """What distrobuilder made: the tar of the root file system and LXC's metadata archive."""

    tar: Path
    metadata: Path


def version(*, env: Mapping[str, str]) -> str | None:
    """Return the version of the distrobuilder on PATH, or None when there is none."""
    try:
        return process.run(
            ("distrobuilder", "--version"), env=process.child_environment(env)
        ).stdout.strip()
    except process.ProcessError:
        return None


def validate(definition: Path, *, env: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a broken definition.

    It has line and column of what is no YAML, and distrobuilder's own words for the rest.
    """
    read_yaml(definition)
    argv = ("distrobuilder", "validate", definition)
    try:
        process.run(argv, env=process.child_environment(env))
    except process.ProcessError as error:
        msg = f"{definition} is not a valid definition: {error.message}"
        raise ConfigurationError(
            msg, hint="See https://linuxcontainers.org/distrobuilder/docs/"
        ) from None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of distrobuilder.

    ``version`` and ``commit`` end up in /etc/hakim-release, ``tools`` is the tar that the first
    entry of the definition's ``files`` copies in, ``apt_proxy`` is a URL or empty, ``work_dir`` is
    a folder of its own with room for the root file system and its tar. With ``memory`` the root
    file system is made in as many bytes of it, and only the tar in ``work_dir``.
    """

    name: ArtifactName
    definition: Path
    root: Path
    source: Source
    version: str
    commit: str
    work_dir: Path
    tools: Path | None = None
    apt_proxy: str = ""
    memory: int = 0

    def argv(self) -> list[process.StrPath]:
        """Return the command line."""
        overrides = (
            f"image.variant={self.name.variant}",
            f"image.release={self.name.release}",
            f"image.architecture={self.name.arch}",
            f"image.serial={self.version}",
            *self.source.overrides(),
            *([f"files.0.source={self.tools}"] if self.tools else []),
        )
        cache = self.work_dir / "cache"
        argv: list[process.StrPath] = [
            *("distrobuilder", "build-lxc", self.definition, self.work_dir),
            *("--cache-dir", cache / "rootfs", _UNCOMPRESSED),
            *(part for override in overrides for part in ("-o", override)),
        ]
        return tmpfs.inside(argv, folder=cache, size=self.memory) if self.memory else argv

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the environment, which distrobuilder hands on to debootstrap and the actions."""
        extra = {"HAKIM_COMMIT": self.commit}
        if self.apt_proxy:
            extra["http_proxy"] = self.apt_proxy
        extra |= {name: env[name] for name in _HANDED_ON if name in env}
        return process.child_environment(env, extra)


def run(job: Job, *, log: Path, clock: PhaseClock, env: Mapping[str, str]) -> Rootfs:
    """Run *job*, adding all of its output to *log*, and return what it made.

    Raises BuildError with the reason that is in the output. distrobuilder mounts only in a mount
    namespace of its own, so ending it leaves no mount behind.
    """

    def on_line(line: str) -> None:
        for mark, name, title in _PHASES:
            if mark in line:
                clock.start(name, title)
        clock.progress.line(line)

    (job.work_dir / "cache").mkdir(exist_ok=True)
    try:
        with log.open("a", encoding="utf-8") as stream:
            process.stream(
                process.bound(job.argv()),
                env=job.environment(env),
                on_line=on_line,
                log=stream,
                cwd=job.root,
            )
    except process.ProcessError as error:
        for line in error.tail:
            clock.progress.note(f"    {line}")
        reason = _reason(error)
        msg = f"distrobuilder could not build {job.name.stem}: {reason}{_place(reason, job)}"
        hint = f"All of its output is in {log}."
        if job.memory and any("no space left" in line.lower() for line in error.tail):
            size = units.size(job.memory)
            hint = f"It had {size} of memory. To make it on a disk, name one with --work-dir."
        raise BuildError(msg, hint=hint) from None
    rootfs = Rootfs(tar=job.work_dir / "rootfs.tar", metadata=job.work_dir / "meta.tar.xz")
    if not rootfs.tar.is_file() or not rootfs.metadata.is_file():
        msg = f"distrobuilder ended well, but left no {rootfs.tar.name} for {job.name.stem}."
        raise BuildError(msg, hint=f"All of its output is in {log}.")
    return rootfs


def _place(reason: str, job: Job) -> str:
    """Return where the definition asks for the package that apt does not know, if it is that."""
    match = re.search(r"(?:Unable to locate package|Package '?)\s*([a-z0-9][a-z0-9+.:-]+)", reason)
    if match is None:
        return ""
    sets = read_yaml(job.definition).get("packages", {}).get("sets", [])
    for number, entry in enumerate(sets):
        if match[1] in (entry.get("packages") or ()):
            who = ", ".join(entry.get("variants") or entry.get("releases") or ["all images"])
            return f" (packages.sets[{number}] of {job.definition.name}, for {who})"
    return ""


def _reason(error: process.ProcessError) -> str:
    """Return the line that tells most: apt's or debootstrap's own error, else the last one."""
    for line in reversed(error.tail):
        if re.match(r"(E|W: Failure|dpkg: error)[: ]", line):
            return line
    return error.tail[-1] if error.tail else error.message
