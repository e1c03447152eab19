"""Every error a person can meet, each with the exit code of its kind.

HakimError                  1   unexpected
├── ConfigurationError      2   what was typed, or a file of the repository, is wrong
├── NothingToDoError        3   an empty result where ``--fail-if-empty`` asked for one
├── BuildError              4   an image was not built
├── VerificationError       5   an artifact is not what it says it is
├── PublishError            6   a release is not complete
├── PromotionError          7   a Proxmox storage does not hold what it should
└── TemplateError           8   a Coder template was not pushed
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar


class HakimError(Exception):
    """A failure with a reason in one line and, where there is one, what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep *message* (what failed, by the name the user typed) and *hint* (what to do)."""
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(HakimError):
    """Something the user typed or wrote is wrong; lists every problem at once."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[str] = ()) -> None:
        """Keep *problems*, one line each, beside the summary *message*."""
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class NothingToDoError(HakimError):
    """There is nothing to do, and the caller asked to be told so by the exit code."""

    exit_code = 3


class BuildError(HakimError):
    """An image could not be built."""

    exit_code = 4


class VerificationError(HakimError):
    """An artifact does not hold what its name, its checksum or the image contract promise."""

    exit_code = 5


class PublishError(HakimError):
    """A release could not be made complete."""

    exit_code = 6


class PromotionError(HakimError):
    """A template could not be brought into a storage, or not be proven there."""

    exit_code = 7


class TemplateError(HakimError):
    """A Coder template could not be validated or pushed."""

    exit_code = 8


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """Return the hint for a name that is not among *known*: the nearest one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(typed, names, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'? Known: {', '.join(names)}."
    return f"Known: {', '.join(names)}."
