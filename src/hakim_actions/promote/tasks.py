"""Tasks of Proxmox VE: wait for their end, and find the one whose answer was lost."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hakim_actions.errors import PromotionError
from hakim_actions.promote.api import Api, ApiError, rows, task_node

#: Seconds a node may be away while one of its tasks runs.
AWAY: Final = 120.0
#: Seconds between two looks at a task: quick at first, since many end at once.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
#: Looks for a task whose UPID was lost, and seconds between them, before it counts as not started.
LOOKS: Final = 3
_LOOK_PAUSE: Final = 1.0
_GOOD: Final = re.compile(r"OK|WARNINGS: \d+")


class TaskError(PromotionError):
    """A task that ended, but not well; *reason* is its exit status."""

    def __init__(self, message: str, *, hint: str, reason: str) -> None:
        """Keep the *reason*."""
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Done:
    """A task that ended well, perhaps with warnings, and its log."""

    upid: str
    warnings: bool
    log: tuple[str, ...]


def wait(api: Api, upid: str, *, what: str) -> Done:
    """Return when the task *upid* has ended well; *what* names it in errors.

    The task is asked for on the node in its UPID: an upload runs where it was received. Raises
    TaskError with the last lines of the log, or ApiError when nobody can tell in time.
    """
    exit_status = _exit_status(api, upid, what=what)
    log = _log(api, upid)
    if _GOOD.fullmatch(exit_status):
        return Done(upid=upid, warnings=exit_status != "OK", log=log)
    said = " | ".join(line for line in log[-6:] if line)
    msg = f"{what} failed on {task_node(upid)}: {exit_status}."
    raise TaskError(msg, hint=f"Task {upid} said: {said}", reason=exit_status)


def find(
    api: Api, *, kind: str, file: str, nodes: Iterable[str], since: float, known: Iterable[str]
) -> str | None:
    """Return the UPID of our own task of *kind* (imgcopy, download) for *file*, if there is one.

    *since* is a time of the server's clock (seconds since 1970); *known* are UPIDs of others.
    An upload's UPID does not hold the file's name, so its log is read.
    """
    skip = set(known)
    for look in range(LOOKS):
        for node in nodes:
            for task in _tasks(api, node, kind=kind, since=since):
                upid = str(task.get("upid", ""))
                if upid in skip or not _is_ours(api, task):
                    continue
                if kind == "download" and task.get("id") == file:
                    return upid
                if kind != "download" and _writes(api, upid, file):
                    return upid
        if look < LOOKS - 1:
            api.pause(_LOOK_PAUSE, what=f"Looking for the task of {file}")
    return None


def _exit_status(api: Api, upid: str, *, what: str) -> str:
    pause, last_seen = _FIRST_PAUSE, time.monotonic()
    path = f"nodes/{task_node(upid)}/tasks/{upid}/status"
    while True:
        try:
            status = api.get(path)
            last_seen = time.monotonic()
        except ApiError as error:
            if not error.passing or time.monotonic() - last_seen > AWAY:
                raise
            status = {}
        if isinstance(status, dict) and status.get("status") == "stopped":
            return str(status.get("exitstatus", "no exit status"))
        api.pause(pause, what=f"{what} (task {upid})")
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _log(api: Api, upid: str) -> tuple[str, ...]:
    path = f"nodes/{task_node(upid)}/tasks/{upid}/log"
    # A log may be long (a download prints its progress); what matters is at its end.
    return tuple(str(row.get("t", "")) for row in rows(api.get(path, limit=0), what=path))


def _tasks(api: Api, node: str, *, kind: str, since: float) -> list[dict[str, Any]]:
    path = f"nodes/{node}/tasks"
    try:
        answer = api.get(path, source="all", typefilter=kind, since=int(since), limit=500)
    except ApiError as error:
        if error.passing:  # that node is away; the task may be on another
            return []
        raise
    return rows(answer, what=path)


def _is_ours(api: Api, task: dict[str, Any]) -> bool:
    user, token = str(task.get("user", "")), str(task.get("tokenid", ""))
    return api.token.identity in {user, f"{user}!{token}"}


def _writes(api: Api, upid: str, file: str) -> bool:
    return any(
        line.startswith("target file: ") and line.endswith(f"/{file}") for line in _log(api, upid)
    )
