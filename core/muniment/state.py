"""What has been archived, up to where, by which run?

`Ledger` is the part that every target keeps: runs, checkpoints and the quarantine, in SQLite
tables that can stand in a file of their own or inside an archive.  `State` is such a file for a
target that cannot hold tables; it adds what is stored under which key.  For a target that can be
read, it is a cache: `State.clear` and a replay of the target's manifests make it anew.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import attrs
from attrs import frozen

from muniment.errors import FatalError
from muniment.local_storage import make_folder
from muniment.model import Rejected
from muniment.units import Checkpoint, Counts, Unit

LEDGER_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs(
    run TEXT PRIMARY KEY, pipeline TEXT NOT NULL, sink TEXT NOT NULL, started_at TEXT NOT NULL,
    finished_at TEXT, exit_code INTEGER,
    read INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0, unchanged INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS checkpoints(
    partition TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, position TEXT NOT NULL, sequence INTEGER NOT NULL,
    finished INTEGER NOT NULL, records INTEGER NOT NULL, plan_hash TEXT NOT NULL, run TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine(
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, reason TEXT NOT NULL, label TEXT NOT NULL, partition TEXT NOT NULL,
    start INTEGER NOT NULL, "end" INTEGER NOT NULL, digest TEXT NOT NULL, record TEXT NOT NULL, run TEXT NOT NULL,
    status TEXT NOT NULL, at TEXT NOT NULL);
"""

STATE_SCHEMA = """
CREATE TABLE IF NOT EXISTS records(
    key TEXT PRIMARY KEY, source_hash TEXT NOT NULL, plan_hash TEXT NOT NULL, updated_at TEXT,
    location TEXT NOT NULL, messages BLOB NOT NULL, run TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


PURGED = "purged"
"""What stands as the source hash of a record that was purged and is not to be stored again."""


@frozen
class StoredRecord:
    """What a target holds under a key.

    ``updated_at`` is ISO 8601 or None; ``messages`` are the first 8 hex digits of the SHA-256 of
    each message id, enough to tell whether a newer record lacks some of them.
    """

    key: str
    source_hash: str
    plan_hash: str
    updated_at: str | None = None
    location: str = ""
    messages: frozenset[str] = frozenset()
    run: str = ""


def message_digest(message_id: str) -> str:
    """Return the 8 hex digits that `StoredRecord.messages` holds for a message id."""
    return hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]


class Ledger:
    """Runs, checkpoints and quarantine in the tables of a SQLite connection.

    Writes join the connection's open transaction: the owner commits, so that a ledger inside an
    archive moves together with the data.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def begin_run(self, run: str, pipeline: str, sink: str) -> None:
        self.connection.execute(
            "INSERT OR IGNORE INTO runs(run, pipeline, sink, started_at) VALUES(?,?,?,?)",
            (run, pipeline, sink, _now()),
        )

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        self.connection.execute(
            "UPDATE runs SET finished_at=?, exit_code=?, read=?, stored=?, unchanged=?, dropped=?, quarantined=?"
            " WHERE run=?",
            (_now(), exit_code, *attrs.astuple(counts), run),
        )

    def drop_run(self, run: str) -> None:
        """Forget a run that was none: what was done to the archive itself."""
        self.connection.execute("DELETE FROM runs WHERE run=?", (run,))

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs, oldest first."""
        cursor = self.connection.execute("SELECT * FROM runs ORDER BY started_at, rowid")
        names = [c[0] for c in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def checkpoints(self) -> dict[str, Checkpoint]:
        rows = self.connection.execute(
            "SELECT partition, fingerprint, position, sequence, finished, records, plan_hash, run FROM checkpoints"
        )
        return {r[0]: Checkpoint(r[0], r[1], json.loads(r[2]), r[3], bool(r[4]), *r[5:]) for r in rows}

    def put_checkpoint(self, checkpoint: Checkpoint) -> None:
        c = checkpoint
        self.connection.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES(?,?,?,?,?,?,?,?)",
            (
                c.partition, c.fingerprint, json.dumps(c.position), c.sequence, c.finished, c.records,
                c.plan_hash, c.run,
            ),
        )  # fmt: skip

    def add_unit(self, unit: Unit) -> None:
        """Note a unit: its checkpoint, its quarantine entries, and its counts in the run's row.

        An entry that an earlier, killed attempt wrote is replaced, not doubled.  When the unit ends a
        partition that this run has read whole, the entries that did not come again are resolved.
        """
        self.put_checkpoint(unit.checkpoint)
        c = unit.counts
        self.connection.execute(
            "UPDATE runs SET read=read+?, stored=stored+?, unchanged=unchanged+?, dropped=dropped+?,"
            " quarantined=quarantined+? WHERE run=?",
            (*attrs.astuple(c), unit.run),
        )
        self.connection.executemany(
            "INSERT OR REPLACE INTO quarantine VALUES(?,?,?,?,?,?,?,?,?,?,'open',?)",
            [
                (
                    quarantine_id(r), r.stage, r.reason,
                    r.origin.label, r.origin.partition, r.origin.start, r.origin.end, r.origin.digest,
                    r.key.encode("utf-8", "replace").decode(), unit.run, _now(),
                )
                for r in unit.quarantined
            ],
        )  # fmt: skip
        if unit.read_whole:
            self.connection.execute(
                "UPDATE quarantine SET status='resolved' WHERE partition=? AND run<>? AND status='open'",
                (unit.checkpoint.partition, unit.run),
            )

    def quarantined(self, *, everything: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the open entries (or all), oldest first."""
        cursor = self.connection.execute(
            "SELECT * FROM quarantine WHERE ? OR status='open' ORDER BY at, partition, start", (everything,)
        )
        names = [c[0] for c in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))


class State(Ledger):
    """A ledger in a SQLite file (WAL) of its own, with an index of what the target holds.

    Closed in order, it is one file with its SHA-256 beside it, ``<name>.sum``; that goes when the file is
    opened to be written.  So a file that was changed between two runs is known, and one that a killed
    run left is SQLite's own to recover.
    """

    _path: Path | None = None

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open the file, making it first unless ``read_only``.

        Raises:
            FatalError: the file is no SQLite database, cannot be opened, or is not what its last writer
                left (which a reader does not ask).
        """
        if not read_only:
            make_folder(path.parent)
            _unseal(path)
            _make_private(path)
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
            if not read_only:
                connection.executescript(
                    f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN; {LEDGER_SCHEMA} {STATE_SCHEMA} COMMIT;"
                )
        except sqlite3.Error as error:
            raise FatalError(f"`{path}` cannot be opened as state: {error}; move it away to rebuild it") from error
        state = cls(connection)
        state._path = None if read_only else path
        return state

    def close(self) -> None:
        is_one_file = False
        if self._path is not None:
            # Refused while somebody else has the file open, or a transaction is.
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("PRAGMA busy_timeout=0")
                is_one_file = self.connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0] == "delete"
        self.connection.close()
        if is_one_file and self._path is not None:
            _seal(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is stored together, or not at all."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def find(self, keys: Sequence[str]) -> dict[str, StoredRecord]:
        """Return what is stored under those of ``keys`` that are.

        Raises:
            FatalError: the file cannot be read.
        """
        found: dict[str, StoredRecord] = {}
        for i in range(0, len(keys), 500):
            some = [_storable(k) for k in keys[i : i + 500]]
            try:
                rows = self.connection.execute(
                    f"SELECT * FROM records WHERE key IN ({','.join('?' * len(some))})",  # noqa: S608 - only marks
                    some,
                )
                found.update((r.key, r) for r in map(_record, rows))
            except sqlite3.Error as error:
                raise FatalError(
                    f"the state of this target cannot be read: {error}; check the disk, then run the same command again"
                ) from error
        return {k: found[_storable(k)] for k in keys if _storable(k) in found}

    def put_records(self, records: Iterable[StoredRecord]) -> None:
        self.connection.executemany(
            "INSERT OR REPLACE INTO records VALUES(?,?,?,?,?,?,?)",
            [
                (
                    _storable(r.key), r.source_hash, r.plan_hash, r.updated_at, r.location,
                    bytes.fromhex("".join(sorted(r.messages))), r.run,
                )
                for r in records
            ],
        )  # fmt: skip

    def forget(self, keys: Iterable[str], *, missing: bool) -> None:
        """Know these keys no longer as what is stored; where all is ``missing``, by nothing but their place."""
        more = ", updated_at=NULL, messages=x''" if missing else ""
        self.connection.executemany(
            f"UPDATE records SET source_hash=''{more} WHERE key=? AND source_hash<>?",  # noqa: S608 - one of the two above
            ((_storable(k), PURGED) for k in keys),
        )

    def bury(self, keys: Iterable[str], run: str) -> None:
        """Know of these keys only that they were purged, and leave nothing else of them in the file."""
        self.connection.execute("PRAGMA secure_delete=ON")
        self.put_records(StoredRecord(k, PURGED, "", run=run) for k in keys)

    def records(self) -> Iterator[StoredRecord]:
        return map(_record, self.connection.execute("SELECT * FROM records ORDER BY key"))

    def last_manifest(self) -> int:
        """Return the number of the last manifest that this state has seen; 0 before the first."""
        row = self.connection.execute("SELECT value FROM facts WHERE name='last_manifest'").fetchone()
        return int(row[0]) if row else 0

    def has_seen(self, data: bytes) -> bool:
        """Say whether the last manifest that this state has seen has these bytes."""
        row = self.connection.execute("SELECT value FROM facts WHERE name='last_digest'").fetchone()
        return row is not None and row[0] == _digest(data)

    def set_last_manifest(self, number: int, data: bytes) -> None:
        facts = (("last_manifest", number), ("last_digest", _digest(data)))
        self.connection.executemany("INSERT OR REPLACE INTO facts VALUES(?,?)", facts)

    def clear(self) -> None:
        """Forget everything: the first step of a rebuild."""
        for table in ("runs", "checkpoints", "quarantine", "records", "facts"):
            self.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above


def quarantine_id(rejected: Rejected) -> str:
    """Return the id of a quarantine entry: 16 hex digits of its place and stage, the same in every attempt."""
    o = rejected.origin
    place = f"{o.partition}\0{o.label}\0{o.start}\0{o.end}\0{rejected.stage}"
    return hashlib.sha256(place.encode("utf-8", "replace")).hexdigest()[:16]


def _digest(data: bytes) -> int:
    # As SQLite keeps integers: 63 bits.
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def _sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sum")


def _seal(path: Path) -> None:
    """Note the digest of a closed file; not durably: without it the file counts as left by a killed run."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        descriptor = os.open(_sum_of(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as sums:
            sums.write(f"{digest}  {path.name}\n")


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise FatalError(f"`{path}` cannot be opened as state: {(error.strerror or 'it fails').lower()}") from error


def _unseal(path: Path) -> None:
    """Remove the digest of a file that is to be written.

    Raises:
        FatalError: the file is not what the digest says; it stays as it is.
    """
    try:
        expected = _sum_of(path).read_bytes()[:64]
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest().encode("ascii")
    except FileNotFoundError:
        actual = expected = b""
    except OSError as error:
        raise FatalError(f"`{path}` cannot be read: {(error.strerror or 'it failed').lower()}") from error
    if actual != expected:
        raise FatalError(
            f"`{path}` was changed since the last run; restore it from a copy, or move it and `{path.name}.sum` away"
        )
    _sum_of(path).unlink(missing_ok=True)


def _record(row: Sequence[Any]) -> StoredRecord:
    key, source_hash, plan_hash, updated_at, location, messages, run = row
    digits = messages.hex()
    ids = frozenset(digits[i : i + 8] for i in range(0, len(digits), 8))
    return StoredRecord(key, source_hash, plan_hash, updated_at, location, ids, run)


def _storable(key: str) -> str:
    """Return ``key`` as SQLite takes it: a lone surrogate would fail to encode."""
    return key if key.isascii() else key.encode("utf-8", "backslashreplace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
