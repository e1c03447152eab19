"""Saves and restores as actions/cache does: a key is never overwritten, the newest prefix wins.

https://docs.github.com/actions/reference/workflows-and-actions/dependency-caching
"""

import os
import shutil
import sys
from pathlib import Path

ENTRIES = Path(os.environ["HAKIM_TEST_CACHE"])
KEY, PATH = os.environ["KEY"], os.environ["PATHS"].strip()


def found() -> Path | None:
    """Return the entry of the key, else the newest that starts like one of the restore keys."""
    if (ENTRIES / KEY / PATH).exists():
        return ENTRIES / KEY
    for start in os.environ["RESTORE_KEYS"].split():
        matching = [
            it for it in ENTRIES.iterdir() if it.name.startswith(start) and (it / PATH).exists()
        ]
        if matching:
            return max(matching, key=lambda entry: entry.stat().st_mtime)
    return None


def restore() -> None:
    """Copy the entry into the workspace, and say whether it has the very key."""
    entry = found()
    sys.stdout.write(f"Restored {entry.name if entry else 'nothing'} for {KEY}\n")
    if entry:
        shutil.copytree(entry / PATH, PATH, dirs_exist_ok=True)
        with Path(os.environ["GITHUB_OUTPUT"]).open("a") as stream:
            stream.write(f"cache-hit={str(entry.name == KEY).lower()}\n")


def save() -> None:
    """Copy what is in the workspace, unless there is an entry of this key."""
    entry = ENTRIES / KEY
    if not KEY or len(KEY) > 512 or "," in KEY:
        sys.exit(f"'{KEY}' is not a key")
    if entry.exists():
        sys.stdout.write(f"Unable to reserve cache with key {KEY}\n")
        return
    shutil.copytree(PATH, entry / PATH)
    sys.stdout.write(f"Saved {KEY}\n")


ENTRIES.mkdir(exist_ok=True)
{"restore": restore, "save": save}[sys.argv[1]]()
