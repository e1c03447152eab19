"""Hashes as Debian writes them, and those that are not worth or not safe to compare."""

import pytest
from rootfs import BOOTSTRAP_CRYPT

from hakim_actions.image import passwords

#: yescrypt of ``password``, as chpasswd writes it on Debian.
YESCRYPT = "$y$j9T$hakimtestsalt0123456$S.dpdVPbRrYBo1mUtV5tgkvEARbGHWIJgEJ1cyAZ8O2"


@pytest.mark.parametrize("field", [BOOTSTRAP_CRYPT, YESCRYPT])
def test_a_password_is_known_by_its_hash(field: str) -> None:
    assert passwords.is_hash(field)
    assert passwords.matches("password", field) is True
    assert passwords.matches("Password", field) is False


@pytest.mark.parametrize("field", ["", "*", "!", "!$6$salt$locked", "x", "$6$"])
def test_locks_and_empty_fields_are_no_hashes(field: str) -> None:
    assert not passwords.is_hash(field)


@pytest.mark.parametrize(
    "field",
    ["$6$rounds=999999999$salt$hash", "$y$jFT$salt$hash", "$1$salt$hash", "$6$sält$hash", "*"],
)
def test_a_hash_that_could_take_hours_is_not_computed(field: str) -> None:
    assert passwords.matches("password", field) is None


def test_without_the_library_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_LIBRARIES", ("libnone.so.1",))

    assert passwords.matches("password", BOOTSTRAP_CRYPT) is None
