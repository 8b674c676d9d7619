"""Where are the manifests of an archive?  In tables, written in the transaction of their unit."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from muniment import Checkpoint, Context, Counts, FatalError, Unit
from muniment.manifest import Manifest
from muniment.model import JSON
from muniment.proof import SigningKey
from muniment.retention import purged_keys
from muniment.sinks import database_manifests as chain
from muniment.sinks.database_manifests import UNREADABLE, Entry, ManifestStore, Stored

_INSERT_RECEIPT = "INSERT INTO receipts(manifest, conversation, key, stored_hash, gone) VALUES(?,?,?,?,?)"
_PURGES = """SELECT manifest FROM manifests WHERE instr(manifest, '"kind":"purge"') ORDER BY number"""
_LAST = "SELECT manifest FROM manifests ORDER BY number DESC LIMIT 1"
_ENTRIES = "SELECT number, run, manifest, checkpoint FROM manifests ORDER BY number"
_HAS_MANIFESTS_OR_NOTHING = "SELECT EXISTS(SELECT 1 FROM manifests) OR NOT EXISTS(SELECT 1 FROM records)"
_ADOPTED = """SELECT v.conversation, c.source || ':' || c.id, v.record FROM versions v
    JOIN conversations c ON c.no = v.conversation ORDER BY v.no"""
_ADOPTED_RECORDS = """SELECT r.conversation, c.source || ':' || c.id, r.record FROM records r
    JOIN conversations c ON c.no = r.conversation ORDER BY r.conversation"""


class ManifestTables(ManifestStore):
    """The tables ``manifests`` and ``receipts``; a record is found by the number of its conversation."""

    def __init__(self, connection: sqlite3.Connection, place: str = "archive.db") -> None:
        self._connection = connection
        self.place = place

    def last(self) -> bytes | None:
        row = self._connection.execute(_LAST).fetchone()
        return None if row is None else str(row[0]).encode()

    def entries(self) -> Iterator[Entry]:
        for number, run, manifest, checkpoint in self._connection.execute(_ENTRIES):
            yield Entry(number, run, manifest.encode(), checkpoint.encode())

    def add(self, entry: Entry) -> None:
        row = (entry.number, entry.run, entry.data.decode(), entry.note.decode())
        self._connection.execute("INSERT INTO manifests VALUES(?,?,?,?)", row)

    def add_receipts(self, number: int, first: int, receipts: Sequence[Stored]) -> None:
        rows = ((number, r.identity, r.key, r.stored_hash, r.gone) for r in receipts)
        self._connection.executemany(_INSERT_RECEIPT, rows)

    def receipts(self) -> Iterator[tuple[int, int, Stored]]:
        """Yield (manifest, place, receipt) in the order in which they were written."""
        select = "SELECT manifest, no, conversation, key, stored_hash, gone FROM receipts ORDER BY no"
        for manifest, no, conversation, key, stored_hash, gone in self._connection.execute(select):
            yield manifest, no, Stored(conversation, key, bytes(stored_hash), bool(gone))


class Manifests:
    """The manifests of an archive, and what the next one is to say; writes join the open transaction."""

    def __init__(self, connection: sqlite3.Connection, place: str, ctx: Context, signer: SigningKey | None) -> None:
        self._connection = connection
        self._chain = chain.Manifests(ManifestTables(connection, place), ctx, signer)
        self._waiting: list[Stored] = []

    def add(self, receipts: Iterable[Stored]) -> None:
        """Take what the next manifest is to say."""
        self._waiting += receipts

    def clear(self) -> None:
        self._waiting = []

    def set_report(self, report: Mapping[str, JSON]) -> None:
        """Take what the manifest of the run's end is to say of its sources."""
        self._chain.report = report

    def append_unit(self, unit: Unit) -> None:
        """Write the manifest of a unit: all that was added since the last one."""
        self._chain.append_unit(unit, self._taken())

    def append_report(self, run: str, exit_code: int, counts: Counts) -> None:
        """Write the manifest of a run's end, if the run has stored anything."""
        self._chain.append_report(run, exit_code, counts)

    def append_event(self, event: Mapping[str, JSON]) -> None:
        """Write the manifest of what was done to the archive, with all that was added since the last one."""
        self._chain.append_event(event, self._taken())

    def purged(self) -> set[str]:
        """Return the keys, as receipts have them, of what was purged.

        Raises:
            FatalError: a manifest that says so is damaged.
        """
        try:
            return set(purged_keys(Manifest.from_json(r[0].encode()) for r in self._connection.execute(_PURGES)))
        except UNREADABLE as error:
            raise FatalError(
                "a manifest that says what was purged is damaged; restore the archive from a copy"
            ) from error

    def confirmed(self, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
        """Return the checkpoints that are what the manifests say."""
        return self._chain.confirmed(checkpoints)

    def check(self) -> None:
        """Read the last manifest, which the next one is chained to.

        Raises:
            FatalError: it is damaged.
        """
        self._chain.last()

    def adopt(self) -> None:
        """Take what an archive held before it had manifests into a first one, as it is now."""
        if not self._connection.execute(_HAS_MANIFESTS_OR_NOTHING).fetchone()[0]:
            self._chain.append_note(map(self._adopted, (_ADOPTED, _ADOPTED_RECORDS)), {}, count="adopted")

    def _adopted(self, select: str) -> list[Stored]:
        rows = self._connection.execute(select)
        return [Stored(conversation, key, hashlib.sha256(blob).digest()) for conversation, key, blob in rows]

    def _taken(self) -> list[Stored]:
        taken, self._waiting = self._waiting, []
        return taken


def proof_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests, their receipts and the last checkpoint of an archive as files."""
    from muniment_plugins.sinks.sqlite.read import connect

    with closing(connect(path)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name='manifests'").fetchone():
            tables = ManifestTables(connection, path.name)
            yield from chain.proof_files(tables.entries(), tables.receipts())
