"""Compares a password with a hash of ``/etc/shadow``, by the C library that made the hash."""

import ctypes
import re
from typing import Final

#: libxcrypt under the names that distributions give it; Python's own crypt module is gone in 3.13.
_LIBRARIES: Final = ("libcrypt.so.1", "libcrypt.so.2")

#: SHA-512 and yescrypt at the costs that Debian sets. A hash of a hostile image could name others,
#: which take hours (https://manpages.debian.org/crypt.5).
_USUAL: Final = re.compile(r"\$6\$[A-Za-z0-9./]{1,16}\$.+|\$y\$j9T\$[A-Za-z0-9./]+\$.+")


def is_hash(field: str) -> bool:
    """Tell a hash from a lock, and from an empty field, which lets anybody in."""
    return field.startswith("$") and field.count("$") >= 3


def matches(password: str, field: str) -> bool | None:
    """Tell whether *field* is the hash of *password*; None when that cannot be found out here."""
    if not _USUAL.fullmatch(field) or not field.isascii():
        return None
    for name in _LIBRARIES:
        try:
            crypt = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        crypt.restype = ctypes.c_char_p
        made: bytes | None = crypt(password.encode(), field.encode())
        return None if made is None or made.startswith(b"*") else made == field.encode()
    return None
