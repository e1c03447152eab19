"""Rules about the manifest beside an archive: it must be of this image and no other."""

from collections.abc import Iterator, Mapping
from typing import Final

from hakim_actions.artifact import Manifest
from hakim_actions.image.rules import Finding, Image, define, rule, some

READABLE: Final = define(
    "manifest-readable",
    "The manifest can be read",
    why="What is in the image, and from what it was made, is only known from it.",
)
FILES: Final = define(
    "manifest-files",
    "The files have the size and sha256 that the manifest gives",
    why="A manifest of another build says nothing about these files.",
)


@rule(
    "manifest-name",
    "The manifest is of the variant, release and architecture in the name",
    why="A manifest of another image lists other packages than are installed.",
)
def _name(image: Image) -> Iterator[Finding]:
    if image.manifest is None:
        return
    found, name = image.manifest.name, image.name
    if (found.variant, found.release, found.arch) != (name.variant, name.release, name.arch):
        yield Finding(f"a manifest of {found.stem}", name.stem)


@rule(
    "manifest-unpacked-size",
    "Unpacked, the image has the size that the manifest gives",
    why="The room that is made for it on a disk goes by the manifest.",
)
def _unpacked_size(image: Image) -> Iterator[Finding]:
    told = image.manifest.unpacked_bytes if image.manifest is not None else 0
    if told and told != image.rootfs.raw_size:
        yield Finding(f"{image.rootfs.raw_size} bytes", f"{told}, as the manifest says")


@rule(
    "manifest-packages",
    "The manifest lists the packages that are installed, with their versions",
    why="Who looks for a vulnerable package in the manifest must find it.",
)
def _packages(image: Image) -> Iterator[Finding]:
    if image.manifest is None:
        return
    listed = dict(image.manifest.packages)
    installed = {name: package.version for name, package in image.packages.items()}
    names = sorted(listed.keys() | installed.keys())
    different = [
        f"{name} ({listed.get(name, 'not listed')}, {installed.get(name, 'not installed')})"
        for name in names
        if listed.get(name) != installed.get(name)
    ]
    if different:
        yield Finding(f"{some(different)} (manifest, image)", "the same packages in both")


def compare_files(
    manifest: Manifest, archive: str, read: Mapping[str, tuple[int, str]]
) -> Iterator[Finding]:
    """Compare the records of *manifest* with what was *read*: size and sha256 by file name.

    A file that was not read is not compared, but *archive* must have its record.
    """
    records = {record.name: record for record in manifest.files}
    if archive not in records:
        yield Finding(f"{archive} is not in the manifest", "a record of the archive")
    for name, record in records.items():
        if name in read and (record.size, record.sha256) != read[name]:
            size, sha256 = read[name]
            yield Finding(
                f"{name} has {size} bytes and sha256 {sha256}",
                f"{record.size} bytes and {record.sha256}, as the manifest says",
            )
