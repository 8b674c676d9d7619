"""What did each unit store in an archive?  One row per manifest, in the transaction of its unit."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import msgspec
from attrs import define, field, frozen

from muniment import Checkpoint, Context, Counts, FatalError, Unit, jcs
from muniment.manifest import Log, Manifest, now, record_leaf
from muniment.merkle import root_of
from muniment.model import JSON
from muniment.proof import SigningKey
from muniment.retention import purged_keys

_INSERT_RECEIPT = "INSERT INTO receipts(manifest, conversation, key, stored_hash, gone) VALUES(?,?,?,?,?)"
_PURGES = """SELECT manifest FROM manifests WHERE instr(manifest, '"kind":"purge"') ORDER BY number"""
_LAST = "SELECT manifest FROM manifests ORDER BY number DESC LIMIT 1"
_HAS_MANIFESTS_OR_NOTHING = "SELECT EXISTS(SELECT 1 FROM manifests) OR NOT EXISTS(SELECT 1 FROM records)"
_ADOPTED = """SELECT v.conversation, c.source || ':' || c.id, v.record FROM versions v
    JOIN conversations c ON c.no = v.conversation ORDER BY v.no"""
_ADOPTED_RECORDS = """SELECT r.conversation, c.source || ':' || c.id, r.record FROM records r
    JOIN conversations c ON c.no = r.conversation ORDER BY r.conversation"""

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError)


@frozen
class Receipt:
    """That a record was stored, or that it is held no longer (``gone``)."""

    conversation: int
    key: str
    stored_hash: bytes
    gone: bool = False

    def leaf(self) -> bytes:
        return record_leaf(self.key, self.stored_hash.hex(), gone=self.gone)


@define(eq=False)
class Manifests:
    """The manifests of an archive; writes join the connection's open transaction."""

    _connection: sqlite3.Connection
    _ctx: Context = field(factory=lambda: Context(run=""))
    _signer: SigningKey | None = None
    _waiting: list[Receipt] = field(factory=list, init=False)
    report: Mapping[str, JSON] = field(factory=dict, init=False)

    def add(self, receipts: Iterable[Receipt]) -> None:
        """Take what the next manifest is to say."""
        self._waiting += receipts

    def clear(self) -> None:
        self._waiting = []

    def append_unit(self, unit: Unit) -> None:
        """Write the manifest of a unit: all that was added since the last one."""
        self._append(run=unit.run, unit=unit)

    def append_report(self, run: str, exit_code: int, counts: Counts) -> None:
        """Write the manifest of a run's end, if the run has stored anything."""
        if self._connection.execute("SELECT 1 FROM manifests WHERE run=?", (run,)).fetchone():
            self._append(run=run, report={**self.report, "exit_code": exit_code, "counts": attrs.asdict(counts)})

    def append_event(self, event: Mapping[str, JSON]) -> None:
        """Write the manifest of what was done to the archive, with all that was added since the last one."""
        self._append(run=self._ctx.run, event=event)

    def purged(self) -> set[str]:
        """Return the keys, as receipts have them, of what was purged.

        Raises:
            FatalError: a manifest that says so is damaged.
        """
        try:
            return set(purged_keys(Manifest.from_json(r[0].encode()) for r in self._connection.execute(_PURGES)))
        except _UNREADABLE as error:
            raise FatalError(
                "a manifest that says what was purged is damaged; restore the archive from a copy"
            ) from error

    def confirmed(self, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
        """Return the checkpoints that are what the manifests say: of another one the partition is read again."""
        said: dict[str, Checkpoint | None] = {}
        for (data,) in self._connection.execute("SELECT manifest FROM manifests ORDER BY number"):
            try:
                manifest = Manifest.from_json(data.encode())
            except _UNREADABLE:
                return {}
            if manifest.unit is not None:
                said[manifest.unit.checkpoint.partition] = manifest.unit.checkpoint
            elif "adopted" in manifest.report:
                # What came before the first manifest has none.
                said.update(dict.fromkeys(checkpoints))
        return {p: c for p, c in checkpoints.items() if p in said and said[p] in (None, c)}

    def check(self) -> None:
        """Read the last manifest, which the next one is chained to.

        Raises:
            FatalError: it is damaged.
        """
        self._log()

    def adopt(self) -> None:
        """Take what an archive held before it had manifests into a first one, as it is now."""
        connection = self._connection
        if connection.execute(_HAS_MANIFESTS_OR_NOTHING).fetchone()[0]:
            return
        for select in (_ADOPTED, _ADOPTED_RECORDS):
            for conversation, key, blob in connection.execute(select):
                self._waiting.append(Receipt(conversation, key, hashlib.sha256(blob).digest()))
        self._append(run=self._ctx.run, report={"adopted": len(self._waiting)})

    def _append(self, **what: Any) -> None:
        receipts, self._waiting = self._waiting, []
        log = self._log()
        if receipts or "unit" in what:
            root = root_of([r.leaf() for r in receipts])
            what["records"] = {"count": len(receipts), "root": root.hex()}
        ctx = self._ctx
        unit: Unit | None = what.get("unit")
        manifest = Manifest(
            **what,
            **log.chained(),
            at=now(),
            plan_hash=unit.checkpoint.plan_hash if unit else ctx.plan_hash,
            pipeline=ctx.pipeline,
            sink=ctx.path,
            made_with=ctx.made_with,
            signer=str(self._signer.verifier) if self._signer else "",
        )
        data = manifest.to_json()
        log.append(data)
        self._connection.executemany(
            _INSERT_RECEIPT, ((manifest.number, r.conversation, r.key, r.stored_hash, r.gone) for r in receipts)
        )
        self._connection.execute(
            "INSERT INTO manifests VALUES(?,?,?,?)",
            (manifest.number, manifest.run, data.decode(), log.note(self._signer).decode()),
        )

    def _log(self) -> Log:
        row = self._connection.execute(_LAST).fetchone()
        if row is None:
            return Log()
        try:
            data = row[0].encode()
            log = Log.behind(Manifest.from_json(data), data)
        except _UNREADABLE:
            log = None
        if log is None:
            raise FatalError("the last manifest in this archive is damaged; restore the archive from a copy")
        return log


def proof_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests, their receipts and the last checkpoint of an archive as files."""
    from muniment_plugins.sinks.sqlite.read import connect

    with closing(connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='manifests'").fetchone():
            return
        for number, text in connection.execute("SELECT number, manifest FROM manifests ORDER BY number"):
            yield f"manifests/{number:08}.json", text.encode()
        lines = (
            jcs.canonical([number, r.key, r.stored_hash.hex(), r.gone]) + b"\n" for number, r in receipts_of(connection)
        )
        yield "receipts.jsonl", b"".join(lines)
        for (note,) in connection.execute("SELECT checkpoint FROM manifests ORDER BY number DESC LIMIT 1"):
            yield "checkpoint", note.encode()


def receipts_of(connection: sqlite3.Connection) -> Iterator[tuple[int, Receipt]]:
    """Yield (manifest, receipt) in the order in which they were written."""
    select = "SELECT manifest, conversation, key, stored_hash, gone FROM receipts ORDER BY no"
    for manifest, conversation, key, stored_hash, gone in connection.execute(select):
        yield manifest, Receipt(conversation, key, bytes(stored_hash), bool(gone))
