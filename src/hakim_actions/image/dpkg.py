"""The package database of an image, as dpkg keeps it in ``/var/lib/dpkg/status``."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = ("Package", "Version", "Architecture", "Status")
_RELATIONS: Final = re.compile(
    r"^(Package|Priority|Essential|Provides|Depends|Pre-Depends): (.*)$", re.MULTILINE
)
#: A name in a field of relations, which may go on with ``:any``, a version and alternatives:
#: https://www.debian.org/doc/debian-policy/ch-relationships.html
_NAME: Final = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that dpkg knows; *status* is ``installed`` when it is whole and set up."""

    name: str
    version: str
    arch: str
    status: str


def parse_status(text: str) -> list[Package]:
    """Read dpkg's status file; packages that were removed but left their settings are not in it.

    The format: https://manpages.debian.org/dpkg-query (``deb822`` paragraphs).
    """
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.split("\n") if _is_wanted(line))
        status = fields.get("Status", "").rpartition(" ")[2]
        if len(fields) == len(_FIELDS) and status not in {"config-files", "not-installed"}:
            found.append(
                Package(
                    name=fields["Package"],
                    version=fields["Version"],
                    arch=fields["Architecture"],
                    status=status,
                )
            )
    return found


def _is_wanted(line: str) -> bool:
    key, colon, _ = line.partition(": ")
    return bool(colon) and key in _FIELDS


def by_name(packages: list[Package], *, native: str) -> Mapping[str, Package]:
    """Return *packages* by name, those of an architecture other than *native* by ``name:arch``."""
    return {
        package.name
        if package.arch in {native, "all"}
        else f"{package.name}:{package.arch}": package
        for package in packages
    }


def needed(status: str, names: Collection[str]) -> frozenset[str]:
    """Return *names*, what every Debian has, and the installed packages that these depend on.

    *status* is the text of dpkg's status file. Of alternatives all that are installed count. What
    every Debian has is essential, or required as debootstrap takes it.
    """
    relations: dict[str, str] = {}
    providers: dict[str, list[str]] = defaultdict(list)
    wanted = list(names)
    for paragraph in status.split("\n\n"):
        fields = dict(_RELATIONS.findall(paragraph))
        name = fields.get("Package", "")
        relations[name] = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
        for virtual in _NAME.findall(fields.get("Provides", "")):
            providers[virtual].append(name)
        if fields.get("Essential") == "yes" or fields.get("Priority") == "required":
            wanted.append(name)
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in relations and name not in found:
            found.add(name)
            wanted += _NAME.findall(relations[name])
        elif name not in relations:
            wanted += providers.pop(name, [])
    return frozenset(found)
