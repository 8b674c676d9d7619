"""The base of sinks that are databases: rows, checkpoint and receipts move in one transaction."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
from attrs import frozen

from muniment.components import Context, Sink, Target, Writer
from muniment.errors import FatalError, MunimentError, RecordError, TransientError
from muniment.model import JSON, Record, Rejected
from muniment.retry import retry
from muniment.units import Batch, Checkpoint, Counts, Fence, Prepared, Receipt, Unit
from muniment.versions import is_newer


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

        Returning nothing means that all was stored.  Raise `RecordError` with ``record_id`` (the
        record's key) to reject one record, `TransientError` to have the call repeated.  After either
        the transaction is rolled back, the connection is replaced, and everything since the last seal
        comes again: the same rows must then do the same.
        """
        raise NotImplementedError

    def without(self, rows: Any, key: str) -> tuple[Any, Sequence[Any]]:
        """Return ``rows`` without a record, and what was taken out: each has a ``key`` and an ``origin``.

        Default: ``rows`` is a batch, or a sequence of what has a ``key``.
        """
        if isinstance(rows, Batch):
            kept, taken = _part(rows.records, key)
            return attrs.evolve(rows, records=kept), taken
        return _part(rows, key)

    def load_checkpoints(self, connection: Any) -> Mapping[str, Checkpoint]:
        """Return the checkpoints that the database holds, by partition."""
        raise NotImplementedError

    def save_unit(self, connection: Any, unit: Unit) -> None:
        """Write a unit's checkpoint and quarantine entries, inside the open transaction."""
        raise NotImplementedError

    def holds_unit(self, connection: Any, unit: Unit) -> bool:
        """Say whether a unit was committed; asked when the answer to its commit was lost.

        Default: the database holds its checkpoint.
        """
        found = self.load_checkpoints(connection).get(unit.checkpoint.partition)
        return found is not None and found == unit.checkpoint

    def load_quarantine(self, connection: Any) -> Iterator[Mapping[str, JSON]]:
        """Yield the open quarantine entries."""
        return iter(())

    def save_end(self, connection: Any, run: str, exit_code: int, counts: Counts) -> None:
        """Write how the run ended, inside the open transaction."""

    def load_record(self, connection: Any, key: str) -> Record | None:
        """Return the record that is stored under a key, if there is one.

        Default: none, for databases that cannot tell.
        """
        return None

    def load_records(self, connection: Any) -> Iterator[Record]:
        """Yield every stored record; only where ``reads_back``."""
        raise NotImplementedError

    def open(self, ctx: Context) -> Writer:
        return UpsertWriter(self, ctx)

    def open_target(self, ctx: Context) -> Target:
        return UpsertTarget(self, ctx)


class UpsertWriter(Writer):
    """One transaction per unit.

    The payloads of the open unit are kept: when its transaction is lost with the connection, `write`
    and `seal` connect anew and put them in again.  A commit whose answer was lost is looked up first.
    """

    def __init__(self, sink: UpsertSink, ctx: Context) -> None:
        self.sink = sink
        self._context = ctx
        self.connection: Any = sink.connect(ctx)
        self._open = False
        self._kept: list[tuple[Any, Receipt]] = []

    def write(self, payload: Any) -> Receipt:
        rejected: list[Rejected] = []
        while True:
            try:
                receipt = self._apply(payload)
                break
            except RecordError as error:
                # The transaction may hold a part of the payload: it is made again without the record.
                payload, found = self.sink.without(payload, error.record_id or "")
                if not found:
                    raise
                rejected += [Rejected(r.origin, "write", error.reason, r.key) for r in found]
                if not _count(payload):
                    return Receipt(0, rejected=tuple(rejected))
        receipt = attrs.evolve(receipt, rejected=(*rejected, *receipt.rejected))
        self._kept.append((payload, receipt))
        return receipt

    def seal(self, unit: Unit) -> Prepared:
        doubtful = False

        def attempt() -> None:
            nonlocal doubtful
            with self._giving_up():
                if doubtful and self.sink.holds_unit(self._connected(), unit):
                    self._open = False
                    return
                self._begin()
                self.sink.save_unit(self.connection, unit)
                doubtful = True
                self.sink.commit(self.connection)
                self._open = False

        retry(attempt)
        self._kept.clear()
        return Prepared(unit, committed=True)

    def close(self) -> None:
        if self.connection is None:
            return
        try:
            if self._open:
                self.sink.rollback(self.connection)
        finally:
            self.sink.disconnect(self.connection)

    def _begin(self) -> None:
        """Open the unit's transaction; one that was lost is made again."""
        if self._open:
            return
        self.sink.begin(self._connected())
        self._open = True
        for payload, receipt in self._kept:
            again = self.sink.upsert(self.connection, payload)
            if again is not None and len(again.rejected) > len(receipt.rejected):
                raise FatalError(
                    f"{self._context.path}: a record was refused that had been taken before the connection was"
                    " lost; run again: what was committed stands"
                )

    def _apply(self, payload: Any) -> Receipt:
        with self._giving_up():
            self._begin()
            receipt = self.sink.upsert(self.connection, payload)
        return Receipt(stored=_count(payload)) if receipt is None else receipt

    def _connected(self) -> Any:
        if self.connection is None:
            self.connection = self.sink.connect(self._context)
        return self.connection

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Give up the transaction and the connection on an error that a new attempt may not meet."""
        try:
            yield
        except (TransientError, RecordError):
            lost, self.connection, self._open = self.connection, None, False
            if lost is not None:
                # A connection that is gone may refuse even to be closed.
                with contextlib.suppress(MunimentError):
                    try:
                        self.sink.rollback(lost)
                    finally:
                        self.sink.disconnect(lost)
            raise


class UpsertTarget(Target):
    """The database itself: it knows what was committed."""

    def __init__(self, sink: UpsertSink, ctx: Context) -> None:
        self.sink = sink
        self._context = ctx
        self.connection: Any = sink.connect(ctx)
        try:
            sink.prepare(self.connection)
        except BaseException:
            sink.disconnect(self.connection)
            raise

    def committed(self) -> Mapping[str, Checkpoint]:
        return self.sink.load_checkpoints(self.connection)

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        """Nothing is left to do: `UpsertWriter.seal` has committed."""

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        def attempt() -> None:
            if self.connection is None:
                self.connection = self.reconnect()
            try:
                self.sink.begin(self.connection)
                self.sink.save_end(self.connection, run, exit_code, counts)
                self.sink.commit(self.connection)
            except TransientError:
                lost, self.connection = self.connection, None
                with contextlib.suppress(MunimentError):
                    self.sink.disconnect(lost)
                raise

        retry(attempt)

    def reconnect(self) -> Any:
        """Return a connection in place of one that was lost."""
        return self.sink.connect(self._context)

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        return self.sink.load_quarantine(self.connection)

    def holds_newer(self, record: Record) -> bool:
        stored = self.sink.load_record(self.connection, record.key)
        return stored is not None and is_newer(stored, record)

    def read_back(self) -> Iterator[Record]:
        return self.sink.load_records(self.connection)

    def close(self) -> None:
        if self.connection is not None:
            self.sink.disconnect(self.connection)


def _count(payload: Any) -> int:
    return len(getattr(payload, "records", payload))


def _part(rows: Sequence[Any], key: str) -> tuple[list[Any], list[Any]]:
    return [r for r in rows if r.key != key], [r for r in rows if r.key == key]
