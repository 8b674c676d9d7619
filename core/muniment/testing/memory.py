"""Sinks in memory, one on each base, with faults on demand."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from attrs import define, field, frozen

from muniment.components import Context
from muniment.merge import merge_records
from muniment.model import JSON, Record
from muniment.options import option
from muniment.sinks.batch import BatchSink
from muniment.sinks.upsert import UpsertSink
from muniment.state import quarantine_id
from muniment.units import Batch, Checkpoint, Counts, Receipt, Unit


def _nothing() -> None:
    return None


@define(repr=False)
class MemoryStore:
    """What outlives a run: the place that a memory sink stands for.

    ``before_write`` and ``before_commit`` are called there; what they raise is a fault.
    """

    records: dict[str, Record] = field(factory=dict)
    sent: list[Record] = field(factory=list)
    checkpoints: dict[str, Checkpoint] = field(factory=dict)
    quarantine: dict[str, dict[str, JSON]] = field(factory=dict)
    runs: list[tuple[str, int, Counts]] = field(factory=list)
    before_write: Callable[[], None] = _nothing
    before_commit: Callable[[], None] = _nothing


@frozen(kw_only=True)
class MemoryBatch(BatchSink):
    """An API that takes records."""

    store: MemoryStore = option("The place.", identity=False)

    def connect(self) -> AbstractContextManager[MemoryStore]:
        return contextlib.nullcontext(self.store)

    def send(self, client: MemoryStore, records: Sequence[Record]) -> None:
        client.before_write()
        client.sent.extend(records)


@define
class _Transaction:
    """Changes that a commit makes and a rollback forgets."""

    store: MemoryStore
    records: dict[str, Record] = field(factory=dict)
    units: list[Unit] = field(factory=list)


@frozen(kw_only=True)
class MemoryUpsert(UpsertSink):
    """A database with transactions."""

    reads_back: ClassVar[bool] = True

    store: MemoryStore = option("The place.", identity=False)

    def connect(self, ctx: Context) -> _Transaction:
        return _Transaction(self.store)

    def disconnect(self, connection: _Transaction) -> None:
        self.rollback(connection)

    def rollback(self, connection: _Transaction) -> None:
        connection.records.clear()
        connection.units.clear()

    def commit(self, connection: _Transaction) -> None:
        connection.store.before_commit()
        connection.store.records.update(connection.records)
        for unit in connection.units:
            connection.store.checkpoints[unit.checkpoint.partition] = unit.checkpoint
            if unit.read_whole:
                # What did not come again is resolved.
                for id_, entry in list(connection.store.quarantine.items()):
                    if entry["partition"] == unit.checkpoint.partition and entry["run"] != unit.run:
                        del connection.store.quarantine[id_]
            for r in unit.quarantined:
                o = r.origin
                id_ = quarantine_id(r)
                connection.store.quarantine[id_] = {
                    "id": id_, "label": o.label, "partition": o.partition, "start": o.start, "end": o.end,
                    "digest": o.digest, "stage": r.stage, "reason": r.reason, "record": r.key, "run": unit.run,
                }  # fmt: skip
        self.rollback(connection)

    def upsert(self, connection: _Transaction, rows: Batch) -> Receipt:
        connection.store.before_write()
        stored = 0
        for record in rows.records:
            before = connection.records.get(record.key) or connection.store.records.get(record.key)
            after = merge_records(before, record) if before else record
            stored += after is not before
            connection.records[record.key] = after
        return Receipt(stored, len(rows.records) - stored)

    def load_checkpoints(self, connection: _Transaction) -> Mapping[str, Checkpoint]:
        return connection.store.checkpoints

    def save_unit(self, connection: _Transaction, unit: Unit) -> None:
        connection.units.append(unit)

    def load_quarantine(self, connection: _Transaction) -> Iterator[Mapping[str, JSON]]:
        return iter(list(connection.store.quarantine.values()))

    def save_end(self, connection: _Transaction, run: str, exit_code: int, counts: Counts) -> None:
        connection.store.runs.append((run, exit_code, counts))

    def load_record(self, connection: _Transaction, key: str) -> Record | None:
        return connection.store.records.get(key)

    def load_records(self, connection: Any) -> Iterator[Record]:
        return iter(list(connection.store.records.values()))
