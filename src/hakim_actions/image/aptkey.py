"""Keys of signed apt repositories, as GnuPG reads them."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from hakim_actions.errors import BuildError
from hakim_actions.system import process


def fingerprints(key: Path, *, env: Mapping[str, str]) -> set[str]:
    """Return the fingerprints of the primary keys in the file *key*, armored or not.

    Empty when there is no key in it. Raises BuildError when this machine has no gpg.
    """
    with TemporaryDirectory() as home:
        command = ["gpg", "--homedir", home, "--batch", "--with-colons", "--show-keys"]
        try:
            environment = process.child_environment(env)
            said = process.run([*command, key], env=environment, check=False).stdout
        except process.ProcessError as error:
            raise BuildError(error.message, hint="sudo apt-get install gpg") from None
    # doc/DETAILS of GnuPG: after a "pub" record, the next "fpr" record has its fingerprint.
    found: set[str] = set()
    primary = False
    for fields in (line.split(":") for line in said.splitlines()):
        if fields[0] in {"pub", "sub"}:
            primary = fields[0] == "pub"
        elif fields[0] == "fpr" and primary:
            found.add(fields[9])
    return found
