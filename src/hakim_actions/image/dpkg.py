"""The package database of an image, as dpkg keeps it in ``/var/lib/dpkg/status``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = ("Package", "Version", "Architecture", "Status")


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
