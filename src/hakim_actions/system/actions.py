"""GitHub's runner: workflow commands on stdout, and the files it reads after a step.

Rules: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

import secrets
from collections.abc import Mapping
from pathlib import Path


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


def set_output(env: Mapping[str, str], name: str, value: str) -> None:
    """Append an output of this step; does nothing outside of a workflow.

    The delimiter is random, so that no value can end its own block and start another output.
    """
    _append(env.get("GITHUB_OUTPUT", ""), _block(name, value))


def append_summary(env: Mapping[str, str], markdown: str) -> None:
    """Append *markdown* to the summary of this step; does nothing outside of a workflow."""
    _append(env.get("GITHUB_STEP_SUMMARY", ""), markdown.rstrip("\n") + "\n")


def _block(name: str, value: str) -> str:
    delimiter = f"ghadelimiter_{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def _append(path: str, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(text)
