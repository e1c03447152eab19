"""Worker tasks: they run beside the request, log lines, take time, and end with a status."""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

_PIDS = itertools.count(0x1000)


class TaskFailure(Exception):  # noqa: N818 - the word of a task log is ERROR
    """Ends a task with this exit status."""


def fail(reason: str) -> NoReturn:
    """End the task that calls this with *reason*."""
    raise TaskFailure(reason)


@dataclass
class Task:
    upid: str
    node: str
    kind: str
    id: str
    user: str
    starttime: int
    log: list[str] = field(default_factory=list)
    exitstatus: str | None = None
    warnings: int = 0
    thread: threading.Thread | None = None

    def warn(self, line: str) -> None:
        self.warnings += 1
        self.log.append(f"WARN: {line}")

    def run(self, work: Callable[["Task"], None], *, seconds: float) -> None:
        """Do *work* and end as a real worker does."""
        try:
            time.sleep(seconds)
            work(self)
            status = f"WARNINGS: {self.warnings}" if self.warnings else "OK"
            self.log.append(f"TASK {status}")
        except TaskFailure as error:
            status = str(error)
            self.log.append(f"TASK ERROR: {status}")
        except OSError as error:
            status = error.strerror or str(error)
            self.log.append(f"TASK ERROR: {status}")
        self.exitstatus = status

    def row(self) -> dict[str, object]:
        user, _, token = self.user.partition("!")
        document: dict[str, object] = {
            "upid": self.upid,
            "node": self.node,
            "type": self.kind,
            "id": self.id,
            "user": user,
            "starttime": self.starttime,
        }
        if token:
            document["tokenid"] = token
        return document


def new(node: str, kind: str, id_: str, user: str, *, now: float) -> Task:
    """Make a task with a UPID as the server writes it."""
    start = int(now)
    upid = f"UPID:{node}:{next(_PIDS):08X}:{0x2A0000:08X}:{start:08X}:{kind}:{id_}:{user}:"
    return Task(upid, node, kind, id_, user, start)
