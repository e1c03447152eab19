"""The names templates get in a storage, and which names there are ours."""

import re
from dataclasses import replace
from typing import Final

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import ConfigurationError

#: Everything else is rewritten by the storage without a word, so we do it first
#: (normalize_content_filename in PVE/Storage.pm, https://git.proxmox.com/?p=pve-storage.git).
_UNFIT: Final = re.compile(r"[^A-Za-z0-9.-]+")


def versioned(name: ArtifactName, version: str) -> ArtifactName:
    """Return *name* with *version*, such as a tag, in the characters a storage keeps."""
    fit = _UNFIT.sub("-", version).strip(".-")
    if not fit:
        msg = f"The version {version!r} of the source has no character a file name may hold."
        raise ConfigurationError(msg, hint="Publish with a tag like v1.2.0.")
    return replace(name, version=fit)


def distinct(name: ArtifactName, sha256: str) -> ArtifactName:
    """Return *name* with the start of *sha256* behind its version, where the plain one is taken."""
    return replace(name, version=f"{name.version}-{sha256[:8]}")


def ours(file_name: str) -> ArtifactName | None:
    """Return the parsed name when this project made it, else None."""
    try:
        return ArtifactName.parse(file_name)
    except ConfigurationError:
        return None


def contract(name: ArtifactName) -> ArtifactName:
    """Return *name* without a version: the name that Coder templates point at by default."""
    return replace(name, version="")
