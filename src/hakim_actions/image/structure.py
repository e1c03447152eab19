"""Holds an archive to the image contract: one pass over it, no root, nothing unpacked to disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hakim_actions.artifact import ArtifactName, Manifest
from hakim_actions.debian import ARCHITECTURES, RELEASES
from hakim_actions.errors import ConfigurationError, did_you_mean
from hakim_actions.image import (
    dpkg,
    rules_accounts,
    rules_archive,
    rules_hygiene,
    rules_manifest,
    rules_system,
)
from hakim_actions.image.rootfs import Rootfs, read_rootfs
from hakim_actions.image.rules import CHECKS, RULES, Failure, Image, define
from hakim_actions.image.xzreader import ArchiveError, XzReader

#: The modules that bring the rules, the most telling failures first.
_MODULES: Final = (rules_archive, rules_system, rules_accounts, rules_hygiene, rules_manifest)
_ORDER: Final = [module.__name__ for module in _MODULES]
_CHECKS: Final = sorted(CHECKS.items(), key=lambda item: _ORDER.index(item[1].__module__))

NAME: Final = define(
    "artifact-name",
    "The file is called hakim-VARIANT-RELEASE-ARCH.tar.xz",
    why="The name says what to hold the image to; templates and storages choose by it.",
)


def check_structure(
    reader: XzReader, path: Path, *, size: int, manifest: Manifest | None = None
) -> Iterator[Failure]:
    """Read the archive of *size* bytes in *reader* and yield every rule it breaks.

    *path* gives the name that the image must live up to and stands in the failures. With a
    *manifest* what it says about the image is compared as well.
    """
    try:
        name = _known_name(path)
    except ConfigurationError as error:
        yield NAME.broken(path, found=error.message, expected=error.hint)
        return
    try:
        rootfs = read_rootfs(reader)
    except ArchiveError as error:
        finding = rules_archive.unreadable(error.message)
        yield rules_archive.READABLE.broken(path, found=finding.found, expected=finding.expected)
        return
    rootfs.raw_size = reader.offset
    if (other := rules_archive.what_else(rootfs)) is not None:
        rule_id, finding = other
        yield RULES[rule_id].broken(path, found=finding.found, expected=finding.expected)
        return
    yield from _apply(_image(name, rootfs, size, manifest), path)


def _known_name(path: Path) -> ArtifactName:
    name = ArtifactName.parse(path.name)
    for what, given, known in (
        ("release", name.release, RELEASES),
        ("architecture", name.arch, ARCHITECTURES),
    ):
        if given not in known:
            msg = f"the unknown {what} '{given}'"
            raise ConfigurationError(msg, hint=did_you_mean(given, known))
    return name


def _image(name: ArtifactName, rootfs: Rootfs, size: int, manifest: Manifest | None) -> Image:
    packages = dpkg.parse_status(rootfs.text("var/lib/dpkg/status") or "")
    return Image(
        name=name,
        release=RELEASES[name.release],
        arch=ARCHITECTURES[name.arch],
        rootfs=rootfs,
        packages=dpkg.by_name(packages, native=name.arch),
        compressed=size,
        manifest=manifest,
    )


def _apply(image: Image, path: Path) -> Iterator[Failure]:
    for rule_id, check in _CHECKS:
        for finding in check(image):
            yield RULES[rule_id].broken(path, found=finding.found, expected=finding.expected)
