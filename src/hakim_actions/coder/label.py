"""What a new version of a template is called, and what its message says."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hakim_actions.coder.job import Label
from hakim_actions.errors import ConfigurationError
from hakim_actions.system import process

#: https://pkg.go.dev/github.com/coder/coder/v2/codersdk#TemplateVersionNameValid
_NAME: Final = re.compile(r"[a-zA-Z0-9]+(?:[_.-][a-zA-Z0-9]+)*")
_MAX_NAME: Final = 64
#: Bytes; the message of a commit can be longer than what Coder keeps.
_MAX_MESSAGE: Final = 4000


def label_for(root: Path, *, env: Mapping[str, str], name: str = "", message: str = "") -> Label:
    """Return the label for the state of *root*: ``<tag>``, or ``<branch>-<sha7>``.

    *name* and *message* are what the user asked for. The message is data all the way: it comes
    from git and goes into a JSON document, and no shell sees it.
    """
    if name and not is_version_name(name):
        msg = f"--version-name: Coder does not take '{name}'."
        raise ConfigurationError(
            msg, hint="Up to 64 letters and digits, with single '.', '-' or '_' between them."
        )
    text = message or _git(root, env, "log", "-1", "--format=%B") or "Pushed by hakim-actions."
    short = text.encode()[:_MAX_MESSAGE].decode(errors="ignore").strip()
    return Label(name=name or _name(root, env), message=short)


def is_version_name(name: str) -> bool:
    """Tell whether Coder takes *name* as the name of a version."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def _name(root: Path, env: Mapping[str, str]) -> str:
    ref = env.get("GITHUB_REF_NAME", "")
    if env.get("GITHUB_REF_TYPE") == "tag" and ref:
        return _safe(ref, room=_MAX_NAME)
    tag = "" if ref else _git(root, env, "describe", "--tags", "--exact-match")
    if tag:
        return _safe(tag, room=_MAX_NAME)
    branch = ref or _git(root, env, "rev-parse", "--abbrev-ref", "HEAD") or "local"
    commit = env.get("GITHUB_SHA", "") or _git(root, env, "rev-parse", "HEAD") or "unknown"
    return f"{_safe(branch, room=_MAX_NAME - 8)}-{commit[:7]}"


def _safe(text: str, *, room: int) -> str:
    """Return *text* within the rules of a name: what is not allowed becomes one '-'."""
    parts = re.split(r"[^a-zA-Z0-9._-]+|(?<=[._-])[._-]+", text)
    joined = re.sub(r"([._-])[._-]+", r"\1", "-".join(part for part in parts if part))
    return joined[:room].strip("._-") or "local"


def _git(root: Path, env: Mapping[str, str], *arguments: str) -> str:
    command: list[process.StrPath] = ["git", "-c", f"safe.directory={root}", "-C", root, *arguments]
    try:
        return process.run(command, env=process.child_environment(env)).stdout.strip()
    except process.ProcessError:
        return ""
