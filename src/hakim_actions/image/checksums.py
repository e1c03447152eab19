"""Rules about the files of an artifact as files: there, whole, listed, and not elsewhere."""

from pathlib import Path
from typing import Final

from hakim_actions.artifact import SUMS_NAME
from hakim_actions.image.rules import define

FOUND: Final = define(
    "artifacts-present",
    "There is something to verify",
    why="A check of nothing always succeeds; releases without any file have been published so.",
)
USABLE: Final = define(
    "file-usable",
    "Every file is a regular file inside its folder, and can be read",
    why="What cannot be read is not proven; a link could lead anywhere, and a pipe never ends.",
)
PRESENT: Final = define(
    "sums-present",
    f"{SUMS_NAME} is beside the artifacts",
    why="Without it nobody can tell a whole download from a partial one.",
)
READABLE: Final = define(
    "sums-readable",
    f"{SUMS_NAME} has a sha256 and a base name a line, and no name twice",
    why="A line that is not understood checks nothing, and a path could name any file.",
)
COMPLETE: Final = define(
    "sums-complete",
    f"Every hakim-* file but the build log is in {SUMS_NAME}",
    why="A file that is not listed could be exchanged without anybody noticing.",
)
LISTED_FILES: Final = define(
    "sums-files-present",
    f"Every file in {SUMS_NAME} is there",
    why="An upload or download that lost a file looks complete otherwise.",
)
MATCH: Final = define(
    "sums-match",
    f"Every file has the sha256 that {SUMS_NAME} gives",
    why="The file is damaged, cut off, or not the one that was built.",
)


def must_be_listed(name: str) -> bool:
    """Tell whether the file *name* is part of an artifact; logs are not."""
    return name.startswith("hakim-") and not name.endswith(".build.log")


def is_archive(name: str) -> bool:
    """Tell whether *name* is that of a root file system, going by its two ends only."""
    return name.startswith("hakim-") and name.endswith(".tar.xz") and ".meta." not in name


def holds_artifacts(folder: Path) -> bool:
    """Tell whether *folder* is one that must hold together as an artifact."""
    return any(path.name == SUMS_NAME or is_archive(path.name) for path in folder.iterdir())
