"""The base of sinks that are databases: rows, checkpoint and receipts move in one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from muniment.components import (
    Checkpoint,
    Context,
    Counts,
    Fence,
    Prepared,
    Receipt,
    Sink,
    Target,
    Unit,
    Writer,
)
from muniment.model import JSON, Record


@frozen(kw_only=True)
class UpsertSink(Sink):
    """A database that takes rows by key and has transactions.

    A subclass says how to `connect`, how to `upsert` and where the ledger stands; this base adds the
    transaction: everything since the last seal, the checkpoint and the quarantine entries are
    committed together, so a second attempt at a unit finds it done.
    """

    protocol: ClassVar[str] = "transactional"

    def connect(self, ctx: Context) -> Any:
        """Return a connection with no transaction open; `disconnect` ends it."""
        raise NotImplementedError

    def disconnect(self, connection: Any) -> None:
        connection.close()

    def prepare(self, connection: Any) -> None:
        """Create what is missing in the database.  Called once per run, before anything else."""

    def begin(self, connection: Any) -> None:
        """Open a transaction, where the driver does not do so by itself."""

    def commit(self, connection: Any) -> None:
        connection.commit()

    def rollback(self, connection: Any) -> None:
        connection.rollback()

    def upsert(self, connection: Any, rows: Any) -> Receipt | None:
        """Insert or update what `encode` made, inside the open transaction.

        Returning nothing means that all was stored.  Raise `RecordError` (with ``record_id``) to
        reject one record, `TransientError` to have the call repeated.
        """
        raise NotImplementedError

    def load_checkpoints(self, connection: Any) -> Mapping[str, Checkpoint]:
        """Return the checkpoints that the database holds, by partition."""
        raise NotImplementedError

    def save_unit(self, connection: Any, unit: Unit) -> None:
        """Write a unit's checkpoint and quarantine entries, inside the open transaction."""
        raise NotImplementedError

    def load_quarantine(self, connection: Any) -> Iterator[Mapping[str, JSON]]:
        """Yield the open quarantine entries."""
        return iter(())

    def save_end(self, connection: Any, run: str, exit_code: int, counts: Counts) -> None:
        """Write how the run ended, inside the open transaction."""

    def load_records(self, connection: Any) -> Iterator[Record]:
        """Yield every stored record; only where ``reads_back``."""
        raise NotImplementedError

    def open(self, ctx: Context) -> Writer:
        return UpsertWriter(self, ctx)

    def open_target(self, ctx: Context) -> Target:
        return UpsertTarget(self, ctx)


class UpsertWriter(Writer):
    """One transaction per unit."""

    def __init__(self, sink: UpsertSink, ctx: Context) -> None:
        self.sink = sink
        self.connection = sink.connect(ctx)
        self._open = False

    def write(self, payload: Any) -> Receipt:
        self._begin()
        receipt = self.sink.upsert(self.connection, payload)
        return Receipt(stored=_count(payload)) if receipt is None else receipt

    def seal(self, unit: Unit) -> Prepared:
        self._begin()
        self.sink.save_unit(self.connection, unit)
        self.sink.commit(self.connection)
        self._open = False
        return Prepared(unit, committed=True)

    def close(self) -> None:
        try:
            if self._open:
                self.sink.rollback(self.connection)
        finally:
            self.sink.disconnect(self.connection)

    def _begin(self) -> None:
        if not self._open:
            self.sink.begin(self.connection)
            self._open = True


class UpsertTarget(Target):
    """The database itself: it knows what was committed."""

    def __init__(self, sink: UpsertSink, ctx: Context) -> None:
        self.sink = sink
        self.connection = sink.connect(ctx)
        sink.prepare(self.connection)

    def committed(self) -> Mapping[str, Checkpoint]:
        return self.sink.load_checkpoints(self.connection)

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        """Nothing is left to do: `UpsertWriter.seal` has committed."""

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        self.sink.begin(self.connection)
        self.sink.save_end(self.connection, run, exit_code, counts)
        self.sink.commit(self.connection)

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        return self.sink.load_quarantine(self.connection)

    def read_back(self) -> Iterator[Record]:
        return self.sink.load_records(self.connection)

    def close(self) -> None:
        self.sink.disconnect(self.connection)


def _count(payload: Any) -> int:
    return len(getattr(payload, "records", payload))
