"""Becomes root through sudo where a command needs it, says why, and gives the files back."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from hakim_actions.errors import ConfigurationError

#: Variables that configure a command or that the runner reads results from; sudo drops the rest.
_KEPT_PREFIXES = ("HAKIM_", "GITHUB_", "RUNNER_")
_KEPT = ("CI", "NO_COLOR", "SOURCE_DATE_EPOCH", "TERM", "http_proxy", "https_proxy", "no_proxy")


def become_root(reason: str, *, env: Mapping[str, str]) -> None:
    """Return when this process is root; else start over through sudo and never return.

    Raises ConfigurationError with *reason* when there is no sudo.
    """
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo", path=env.get("PATH"))
    if sudo is None:
        msg = f"Root is needed {reason}."
        raise ConfigurationError(msg, hint="Run the command as root, or install sudo.")
    click.echo(f"Root is needed {reason}; asking sudo.", err=True)
    names = [name for name in env if name in _KEPT or name.startswith(_KEPT_PREFIXES)]
    command = [
        *(sudo, f"--preserve-env={','.join(sorted(names))}", "--"),
        *(sys.executable, "-I", "-m", "hakim_actions", *sys.argv[1:]),
    ]
    os.execve(sudo, command, dict(env))  # noqa: S606 - a list, no shell


def give_back(folder: Path, *, env: Mapping[str, str]) -> None:
    """Give *folder* and what is in it to the user who called sudo, if one did."""
    if "SUDO_UID" not in env or "SUDO_GID" not in env:
        return
    owner, group = int(env["SUDO_UID"]), int(env["SUDO_GID"])
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner, group, follow_symlinks=False)
