"""What the versions of a node mean for containers made from these templates.

Changes: https://git.proxmox.com/?p=pve-container.git;a=blob;f=debian/changelog
"""

import re
from collections.abc import Iterable

_NUMBERS = re.compile(r"\d+")


def parse(version: str) -> tuple[int, ...]:
    """Return ``6.1.10-1`` as ``(6, 1, 10)``; the packaging revision does not count."""
    return tuple(int(number) for number in _NUMBERS.findall(re.split("[-~]", version)[0]))


def advice(*, pve: str, container: str, releases: Iterable[str]) -> list[str]:
    """Return one line for everything to know about *releases* on such a node.

    *pve* and *container* are the versions of pve-manager and pve-container, "" if not known.
    """
    lines = []
    if () < parse(pve) < (8,):
        lines.append(f"Proxmox VE {pve} is older than 8, which nobody maintains any more")
    if not container:
        return lines
    known = parse(container)
    nine = known >= (6,)
    if "trixie" in releases and known < ((6, 0, 10) if nine else (5, 3, 1)):
        fixed = "6.0.10" if nine else "5.3.1"
        lines.append(
            f"pve-container {container} refuses ostype debian for Debian 13: "
            f"update to {fixed}, or use ostype unmanaged"
        )
    if (6, 0, 19) <= known < (6, 1, 1):
        lines.append(
            f"pve-container {container} cannot create containers with ostype unmanaged: "
            "update to 6.1.1"
        )
    if known >= (6, 0, 19):
        lines.append(
            "with nesting off and ostype debian, creating and starting end with WARNINGS: 1; "
            "the images work without nesting"
        )
    return lines
