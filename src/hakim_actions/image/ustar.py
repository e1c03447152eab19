"""Writes the headers of a tar so that every reader understands them.

They are ustar headers. Names that do not fit get GNU's ``L`` and ``K`` members, since BusyBox knows
no PAX names and the bytes stay what they are. Extended attributes and ACLs get PAX records.
See https://www.gnu.org/software/tar/manual/html_node/Standard.html.
"""

import struct
from typing import Final

from hakim_actions.image.tar import BLOCK, FILE, FOLDER, HARD_LINK, USTAR, Member, padded

#: What ends a tar.
END: Final = bytes(2 * BLOCK)

_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8s1s100s8s64x8s8s155s12x")


def header(member: Member) -> bytes:
    """Return all that stands before the data of *member*, with names starting ``./``.

    User and group names stay empty: the numbers are what an image means.
    """
    path = b"./" + member.path + (b"/" if member.kind == FOLDER and member.path else b"")
    link = b"./" + member.link if member.kind == HARD_LINK else member.link
    before = b""
    if member.records:
        before = _extension(b"x", b"".join(_record(*record) for record in member.records))
    if len(link) > 100:
        before += _extension(b"K", link + b"\0")
    prefix, name = _split(path)
    if not name:
        before += _extension(b"L", path + b"\0")
        name = path[:100]
    return before + _block(member, member.kind, prefix=prefix, name=name, link=link[:100])


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return ustar's prefix and name of *path*, both empty when it fits in no way."""
    if len(path) <= 100:
        return b"", path
    at = path.find(b"/", len(path) - 101, len(path) - 1)
    return (path[:at], path[at + 1 :]) if 0 < at <= 155 else (b"", b"")


def _block(member: Member, kind: bytes, *, prefix: bytes, name: bytes, link: bytes) -> bytes:
    block = _FIELDS.pack(
        name,
        b"%07o" % member.mode,
        _field(member.uid, 8),
        _field(member.gid, 8),
        _field(member.size if member.kind == FILE else 0, 12),
        _field(member.mtime, 12),
        b" " * 8,
        kind,
        link,
        USTAR,
        b"0000000",
        b"0000000",
        prefix,
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _field(value: int, width: int) -> bytes:
    digits = b"%0*o" % (width - 1, value)
    if len(digits) < width:
        return digits
    return b"\x80" + value.to_bytes(width - 1, "big")


def _extension(kind: bytes, data: bytes) -> bytes:
    name = b"././@PaxHeader" if kind == b"x" else b"././@LongLink"
    member = Member(path=b"", kind=FILE, mode=0o644, uid=0, gid=0, mtime=0, size=len(data))
    block = _block(member, kind, prefix=b"", name=name, link=b"")
    return block + data + bytes(padded(len(data)) - len(data))


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return a PAX record, whose length counts its own digits."""
    rest = len(keyword) + len(value) + len(b" =\n")
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)
