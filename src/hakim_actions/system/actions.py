"""GitHub's runner: workflow commands on stdout, and the files it reads after a step.

Rules: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

#: The runner refuses a summary above 1 MiB as a whole; the rest is for the note.
SUMMARY_LIMIT: Final = 1024 * 1024 - 1024
#: GitHub shows so many annotations of a step, for each level.
ANNOTATIONS_LIMIT: Final = 10
#: How the lines of apt, dpkg, GNU tar and shellcheck become annotations.
PROBLEM_MATCHERS: Final = Path(__file__).with_name("problem-matchers.json")
PROBLEM_MATCHER_OWNERS: Final = ("hakim-apt", "hakim-dpkg", "hakim-gcc-style")

#: Variables that hold a secret, whoever set them.
_SECRETS: Final = ("CODER_SESSION_TOKEN", "GH_TOKEN", "GITHUB_TOKEN", "PROXMOX_TOKEN")
#: Shorter words would be hidden all over the log, and hide nothing.
_SHORTEST_SECRET: Final = 4


def inside(env: Mapping[str, str]) -> bool:
    """Tell whether this process runs in a step of a workflow."""
    return env.get("GITHUB_ACTIONS") == "true"


def escape_data(text: str) -> str:
    """Escape *text* as the message of a command; '%' first, so that nothing is escaped twice."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape *text* as a property of a command (``title=``, ``file=``)."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def command(name: str, message: str = "", **properties: str) -> str:
    """Return one workflow command, such as ``::error title=Build::no disk``."""
    listed = ",".join(f"{key}={escape_property(value)}" for key, value in properties.items())
    return f"::{name}{' ' + listed if listed else ''}::{escape_data(message)}"


def annotations(level: str, entries: Sequence[tuple[str, str]]) -> list[str]:
    """Return a command for each (title, message), at most :data:`ANNOTATIONS_LIMIT` of them.

    *level* is ``error``, ``warning`` or ``notice``. What is too much is counted in the last one.
    """
    if len(entries) <= ANNOTATIONS_LIMIT:
        return [command(level, message, title=title) for title, message in entries]
    shown = entries[: ANNOTATIONS_LIMIT - 1]
    more = f"{len(entries) - len(shown)} more are in the log of this step."
    return [*annotations(level, shown), command(level, more, title="hakim-actions")]


def masks(value: str) -> list[str]:
    """Return the commands that hide *value* in the log; the runner hides line by line.

    A Proxmox token ``user@realm!name=secret`` is hidden whole and its secret part by itself.
    """
    words = [word.strip() for word in value.splitlines()]
    words += [word.rpartition("=")[2] for word in words if "!" in word and "=" in word]
    return [command("add-mask", word) for word in words if len(word) >= _SHORTEST_SECRET]


def known_secrets(env: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of *env* that must never be printed: mask them before anything else is."""
    for name, value in env.items():
        if value and (name in _SECRETS or _is_secret_of_terraform(name)):
            yield value


def stopped(text: str) -> str:
    """Return *text* so that the runner takes no command from it, whatever stands in its lines."""
    token = secrets.token_hex(16)
    return f"{command('stop-commands', token)}\n{text}\n::{token}::"


def set_output(env: Mapping[str, str], name: str, value: str) -> None:
    """Append an output of this step; does nothing outside of a workflow.

    The delimiter is random, so that no value can end its own block and start another output.
    """
    _append(env.get("GITHUB_OUTPUT", ""), _block(name, value))


def append_summary(env: Mapping[str, str], markdown: str) -> None:
    """Append *markdown* to the summary of this step; does nothing outside of a workflow.

    Above :data:`SUMMARY_LIMIT` bytes it is cut at a line, and says so: GitHub would show nothing.
    """
    path = env.get("GITHUB_STEP_SUMMARY", "")
    if not path:
        return
    text = markdown.rstrip("\n") + "\n"
    room = SUMMARY_LIMIT - (Path(path).stat().st_size if Path(path).exists() else 0)
    if len(text.encode()) <= room:
        _append(path, text)
    elif room > 0:
        _append(path, _cut(text, room) + "\n_More did not fit into a summary; see the log._\n")


def _is_secret_of_terraform(name: str) -> bool:
    words = ("token", "secret", "password", "private_key")
    return name.startswith("TF_VAR_") and any(word in name.lower() for word in words)


def _cut(text: str, limit: int) -> str:
    whole = text.encode()[:limit].decode(errors="ignore")
    return whole[: whole.rfind("\n") + 1]


def _block(name: str, value: str) -> str:
    delimiter = f"ghadelimiter_{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def _append(path: str, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(text)
