"""The software bill of materials: Debian packages and tools as CycloneDX 1.6 (JSON).

The same content makes the same document: its time is that of the image, its serial number follows
from what is in it.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from hakim_actions import __version__
from hakim_actions.artifact import Manifest
from hakim_actions.errors import BuildError
from hakim_actions.image import tar
from hakim_actions.image.pins import Digest, Source
from hakim_actions.image.registries import NPM_CPU
from hakim_actions.image.toolslock import Lock

_DOC: Final = b"usr/share/doc/"
_COPYRIGHT: Final = b"/copyright"
#: The longest one in Debian, that of chromium, has less than half of it.
_COPYRIGHT_LIMIT: Final = 8 << 20
_STATUS: Final = b"var/lib/dpkg/status"
_FORMAT: Final = re.compile(r"\AFormat:\s*\S*copyright-format", re.MULTILINE)
_LICENCE: Final = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
_CONJUNCTION: Final = re.compile(r"\s*(?:,|\s+(?:and|or|with)\s+|/)\s*", re.IGNORECASE)
_VERSIONED: Final = re.compile(r"(A?L?GPL|GFDL)-(\d)(?:\.(\d))?(\+?)")
#: Where Debian's short names differ from SPDX's: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name
_SPDX: Final = {
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "isc": "ISC",
    "mit": "MIT",
    "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0",
    "perl": "Artistic-1.0-Perl",
    "python-2.0": "Python-2.0",
    "zlib": "Zlib",
}
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/hakim-actions")
_LARGEST: Final = 10


@dataclass(frozen=True, kw_only=True)
class Details:
    """What the manifest does not have: licences and installed size (bytes) by package."""

    licences: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]

    def largest(self, count: int = _LARGEST) -> dict[str, int]:
        """Return the *count* packages that take most room, the largest first."""
        ordered = sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
        return dict(ordered[:count])


def read_details(rootfs: Path) -> Details:
    """Read licences and sizes out of the tar *rootfs*, in one pass over its headers."""
    licences: dict[str, Sequence[str]] = {}
    status = b""
    with tar.opened(rootfs) as read_at:
        ahead = tar.reading_ahead(read_at)
        for member in tar.scan(ahead, source=rootfs.name):
            if member.kind != tar.FILE or member.size > _COPYRIGHT_LIMIT:
                continue
            if member.path == _STATUS:
                status = read_at(member.offset, member.size)
            elif member.path.startswith(_DOC) and member.path.endswith(_COPYRIGHT):
                package = member.path[len(_DOC) : -len(_COPYRIGHT)].decode(errors="replace")
                text = read_at(member.offset, member.size).decode(errors="replace")
                if names := licences_of(text):
                    licences[package] = names
    return Details(licences=licences, sizes=dict(_sizes(status.decode(errors="replace"))))


def _sizes(status: str) -> Iterator[tuple[str, int]]:
    """Yield name and installed size; dpkg counts in KiB (man deb-substvars)."""
    wanted = re.compile(r"^(Package|Installed-Size|Status): (.*)$", re.MULTILINE)
    for paragraph in status.split("\n\n"):
        fields = dict(wanted.findall(paragraph))
        if fields.get("Status", "").endswith(" installed") and "Installed-Size" in fields:
            yield fields["Package"], int(fields["Installed-Size"]) * 1024


def licences_of(text: str) -> tuple[str, ...]:
    """Return the licences that a machine-readable copyright file names, sorted; else nothing.

    Those that SPDX knows get its identifier. The format:
    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    if not _FORMAT.search(text):
        return ()
    names = {
        _spdx(name)
        for line in _LICENCE.findall(text)
        for name in _CONJUNCTION.split(line.strip())
        if name and not name.lower().endswith("exception")
    }
    return tuple(sorted(names))


def _spdx(name: str) -> str:
    versioned = _VERSIONED.fullmatch(name)
    if versioned:
        family, major, minor, later = versioned.groups()
        name = f"{family}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
    return _SPDX.get(name.lower(), name)


def document(manifest: Manifest, *, lock: Lock | None, details: Details) -> str:
    """Return the bill of materials of the image that *manifest* describes, as JSON text.

    *lock* tells where the tools of the manifest came from. Raises BuildError when the manifest
    lists nothing, because a bill without items is no bill.
    """
    if not manifest.packages:
        msg = f"The manifest of {manifest.name.stem} lists no package."
        raise BuildError(msg, hint="Build the image again.")
    found = [*_packages(manifest, details), *_tools(manifest, lock)]
    # The same package may be part of two trees.
    components = list({str(component.purl): component for component in found}.values())
    subject = Component(
        name=manifest.name.stem,
        version=manifest.version,
        type=ComponentType.CONTAINER,
        bom_ref=manifest.name.stem,
        properties=[Property(name="hakim:missing", value=name) for name in manifest.missing],
    )
    identity = "\n".join([manifest.name.stem, manifest.version, *(str(c.purl) for c in components)])
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(_NAMESPACE, identity),
        metadata=BomMetaData(
            component=subject,
            timestamp=datetime.fromtimestamp(manifest.epoch, tz=UTC),
            tools=ToolRepository(components=[_ourselves()]),
        ),
    )
    bom.register_dependency(subject, components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _ourselves() -> Component:
    return Component(
        name="hakim-actions", version=__version__, type=ComponentType.APPLICATION, bom_ref="made-by"
    )


def _packages(manifest: Manifest, details: Details) -> Iterator[Component]:
    for key, version in sorted(manifest.packages.items()):
        name, _, foreign = key.partition(":")
        qualifiers = {"arch": foreign or manifest.arch, "distro": manifest.release}
        purl = PackageURL("deb", "debian", name, version, qualifiers)
        yield Component(
            name=name,
            version=version,
            purl=purl,
            bom_ref=str(purl),
            licenses=[_licence(licence) for licence in details.licences.get(name, ())],
        )


def _licence(name: str) -> DisjunctiveLicense:
    return DisjunctiveLicense(id=name) if is_supported_id(name) else DisjunctiveLicense(name=name)


def _tools(manifest: Manifest, lock: Lock | None) -> Iterator[Component]:
    for name, version in sorted(manifest.tools.items()):
        tool = lock.tools.get(name) if lock is not None else None
        source = tool.source(manifest.arch) if tool is not None else None
        if source is not None and source.kind == "apt-repo":
            continue  # its packages are among dpkg's
        purl = _purl(name, version, source)
        yield Component(
            name=name,
            version=version,
            type=ComponentType.APPLICATION,
            purl=purl,
            bom_ref=str(purl),
            hashes=_hashes(source.digest if source is not None else None),
        )
        if lock is not None and source is not None and source.lockfile:
            yield from _tree(lock.path.parent / source.lockfile, manifest.arch)


def _tree(folder: Path, arch: str) -> Iterator[Component]:
    """Yield the npm packages that the lock file in *folder* brings on *arch*."""
    packages = json.loads((folder / "package-lock.json").read_text("utf-8"))["packages"]
    for path, entry in sorted(packages.items()):
        scope, _, name = path.rpartition("node_modules/")[2].rpartition("/")
        if not path or not _is_for(entry, arch):
            continue
        purl = PackageURL("npm", scope or None, name, entry["version"])
        licence = entry.get("license")
        yield Component(
            name=f"{scope}/{name}" if scope else name,
            version=entry["version"],
            purl=purl,
            bom_ref=str(purl),
            licenses=[_licence(licence)] if isinstance(licence, str) else [],
            hashes=_hashes(Digest.of_integrity(entry.get("integrity", ""))),
        )


def _is_for(entry: Mapping[str, Any], arch: str) -> bool:
    """Tell whether npm installs a package on Linux with glibc on *arch*, and not for developers."""
    wanted = {"os": "linux", "cpu": NPM_CPU[arch], "libc": "glibc"}
    fits = all(
        value in entry.get(key, [value]) or "!" in "".join(entry.get(key, []))
        for key, value in wanted.items()
    )
    return fits and not entry.get("dev")


def _purl(name: str, version: str, source: Source | None) -> PackageURL:
    """Return the package URL: https://github.com/package-url/purl-spec."""
    if source is not None and source.kind == "npm":
        scope, _, package = source.location.rpartition("/")
        return PackageURL("npm", scope or None, package, version)
    if source is not None and source.kind == "pypi":
        return PackageURL("pypi", None, source.location.lower().replace("_", "-"), version)
    qualifiers = {"download_url": source.location} if source is not None else None
    return PackageURL("generic", None, name, version, qualifiers)


def _hashes(digest: Digest | None) -> list[HashType]:
    if digest is None:
        return []
    algorithm = {"sha256": HashAlgorithm.SHA_256, "sha512": HashAlgorithm.SHA_512}
    return [HashType(alg=algorithm[digest.algorithm], content=digest.value)]
