"""What was promoted where: a JSON file that speeds up a run and can be lost without harm.

A record is believed only while the storage still lists the file with the same size and time.
"""

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from hakim_actions.errors import ConfigurationError
from hakim_actions.promote import names
from hakim_actions.system import files

_SCHEMA: Final = 1
#: Records kept of one name in one store: the current one, and what a rollback may go back to.
_HISTORY: Final = 20


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file as a store lists it: size in bytes, time of the last change (seconds since 1970)."""

    name: str
    size: int
    changed: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """One promotion: *store* and *file* say where, *source* from where, *at* when (UTC).

    ``sha256`` and ``version`` are empty for files that were only found in the listing.
    """

    store: str
    file: str
    size: int
    changed: int
    sha256: str = ""
    version: str = ""
    source: str = ""
    at: str = ""


@dataclass(kw_only=True)
class State:
    """The records of all stores, oldest first; ``lost`` when there was no file to read."""

    path: Path | None = None
    records: list[Record] = field(default_factory=list)
    lost: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def load(cls, path: Path | None) -> "State":
        """Read *path*; a file that is not there is an empty state, a broken one an error."""
        if path is None or not path.exists():
            return cls(path=path)
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            readable = {_SCHEMA: document}[document["schema"]]
            records = [Record(**record) for record in readable["records"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"--state: {path} cannot be read: {error}."
            raise ConfigurationError(
                msg, hint="Move it away: it is made again from what the storages list."
            ) from None
        return cls(path=path, records=records, lost=False)

    def current(self, store: str, file: str) -> Record | None:
        """Return the newest record of *file* in *store*."""
        return next((r for r in reversed(self.records) if (r.store, r.file) == (store, file)), None)

    def history(self, file: str, *, store: str | None = None) -> list[Record]:
        """Return the records of *file*, newest first, in one *store* or in all."""
        return [r for r in reversed(self.records) if r.file == file and store in {None, r.store}]

    def knows(self, store: str, stored: Stored) -> str:
        """Return the proven sha256 of *stored*, "" unless it is untouched since it was proven."""
        record = self.current(store, stored.name)
        if record is None or (record.size, record.changed) != (stored.size, stored.changed):
            return ""
        return record.sha256

    def add(self, record: Record) -> None:
        """Append *record* and write the file at once, so that a killed run forgets nothing."""
        with self._lock:
            same = [r for r in self.records if (r.store, r.file) == (record.store, record.file)]
            drop = set(map(id, same[: max(0, len(same) + 1 - _HISTORY)]))
            # Proving the same content again is news about the file, not another promotion.
            drop |= {id(r) for r in same[-1:] if r.sha256 in {"", record.sha256}}
            self.records = [r for r in self.records if id(r) not in drop] + [record]
            self._write()

    def forget(self, store: str, file: str) -> None:
        """Drop all records of a file that was removed."""
        with self._lock:
            self.records = [r for r in self.records if (r.store, r.file) != (store, file)]
            self._write()

    def rebuild(self, store: str, listing: Iterable[Stored]) -> None:
        """Note what *store* lists, as far as the names are ours, without writing anything."""
        for stored in listing:
            name = names.ours(stored.name)
            if name is not None and self.current(store, stored.name) is None:
                self.records.append(
                    Record(
                        store=store,
                        file=stored.name,
                        size=stored.size,
                        changed=stored.changed,
                        version=name.version,
                    )
                )

    def drift(self, store: str, listing: Mapping[str, Stored]) -> list[str]:
        """Return what differs between the records of *store* and its *listing*, one line each."""
        found = []
        for file in sorted({r.file for r in self.records if r.store == store}):
            record, stored = self.current(store, file), listing.get(file)
            if record is None:
                continue
            if stored is None:
                found.append(f"{store}: {file} is gone since {record.at or 'it was found'}")
            elif (stored.size, stored.changed) != (record.size, record.changed):
                found.append(
                    f"{store}: {file} was changed by somebody else "
                    f"({record.size} → {stored.size} bytes)"
                )
        return found

    def to_json(self) -> str:
        """Return the file's text."""
        document = {"schema": _SCHEMA, "records": [asdict(record) for record in self.records]}
        return json.dumps(document, indent=2) + "\n"

    def _write(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(self.path, self.to_json())


def now() -> str:
    """Return the time as records hold it: UTC, ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
