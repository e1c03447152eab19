"""Versions of Debian packages: which of two is the newer one.

Rules: https://www.debian.org/doc/debian-policy/ch-controlfields.html#version
"""

import re
from typing import Final

_PIECES: Final = re.compile(r"([^0-9]*)([0-9]*)")

Part = tuple[tuple[tuple[int, ...], int], ...]
Key = tuple[int, Part, Part]

_END: Final = ((0,), 0)


def sort_key(version: str) -> Key:
    """Return a key that orders versions as ``dpkg --compare-versions`` does."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return int(epoch) if epoch.isdigit() else 0, _part(upstream), _part(revision)


def _part(text: str) -> Part:
    """Cut *text* into words and numbers; the ends are marked so that '~' sorts before them."""
    pieces = [(_word(word), int(number or 0)) for word, number in _PIECES.findall(text)]
    # A zero at the end is as good as nothing: '1.0-0' and '1.0' are the same version.
    while pieces and pieces[-1] == _END:
        pieces.pop()
    # Twice, because a version that is only zero was cut away as a whole: '0~' is before '0'.
    return (*pieces, _END, _END)


def _word(word: str) -> tuple[int, ...]:
    return (*(_weight(character) for character in word), 0)


def _weight(character: str) -> int:
    """Order: '~', the end (0), letters, everything else."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
