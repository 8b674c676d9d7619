"""The base of sinks that are APIs: records are sent in batches, and local state knows how far."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from muniment.components import Context, Known, Sink, Target, Writer
from muniment.errors import RecordError
from muniment.lock import TargetLock
from muniment.model import JSON, Record, Rejected
from muniment.retry import retry
from muniment.sinks.known import StateKnown
from muniment.state import State, StoredRecord
from muniment.units import Batch, Checkpoint, Counts, Fence, Prepared, Receipt, Unit


@frozen(kw_only=True)
class BatchSink(Sink):
    """Something that takes records and cannot be read: an API, a queue, a log.

    A subclass says how to `connect` and how to `send`.  Delivery is at least once: what was sent after
    the last commit is sent again when a run is killed.  What was committed is not sent again.
    """

    @property
    def guarantee(self) -> str:
        return "at least once"

    def connect(self) -> AbstractContextManager[Any]:
        """Return a context manager that gives the client."""
        raise NotImplementedError

    def send(self, client: Any, records: Sequence[Record]) -> None:
        """Send records.  Returning means that all were stored.

        Raise `RecordError` with ``record_id=record.key`` to reject one (the others are sent again
        without it), `TransientError` to have the call repeated.
        """
        raise NotImplementedError

    def state_path(self, ctx: Context) -> Path:
        return ctx.state_dir / f"{''.join(c if c.isalnum() else '-' for c in ctx.path)}.db"

    def open(self, ctx: Context) -> Writer:
        return _BatchWriter(self, ctx)

    def open_target(self, ctx: Context) -> Target:
        return _BatchTarget(self.state_path(ctx), ctx)

    def open_known(self, ctx: Context) -> Known | None:
        path = self.state_path(ctx)
        return StateKnown(State.open(path, read_only=True)) if path.exists() else None


class _BatchWriter(Writer):
    def __init__(self, sink: BatchSink, ctx: Context) -> None:
        self._sink = sink
        self._ctx = ctx
        self._state = State.open(sink.state_path(ctx))
        self._stack = ExitStack()
        self._client = self._stack.enter_context(sink.connect())
        self._sent: list[StoredRecord] = []

    def write(self, payload: Batch) -> Receipt:
        records = {r.key: r for r in payload.records}
        rejected: list[Rejected] = []
        repeated = len(payload.records) - len(records)
        while records:
            try:
                retry(partial(self._sink.send, self._client, list(records.values())))
                break
            except RecordError as error:
                record = records.pop(error.record_id or "", None)
                if record is None:
                    # The sink did not say which: without a culprit the whole batch cannot be stored.
                    rejected += [Rejected(r.origin, "write", error.reason, k) for k, r in records.items()]
                    records = {}
                else:
                    rejected.append(Rejected(record.origin, "write", error.reason, record.key))
        self._sent += [
            StoredRecord(r.key, r.source_hash, self._ctx.plan_hash, run=self._ctx.run) for r in records.values()
        ]
        return Receipt(len(records), repeated, tuple(rejected))

    def seal(self, unit: Unit) -> Prepared:
        with self._state.transaction():
            self._state.put_records(self._sent)
            self._state.add_unit(unit)
        self._sent = []
        return Prepared(unit, committed=True)

    def close(self) -> None:
        try:
            self._stack.close()
        finally:
            self._state.close()


class _BatchTarget(Target):
    def __init__(self, path: Path, ctx: Context) -> None:
        self._lock = TargetLock(path)
        self._lock.acquire()
        self._state = State.open(path)
        with self._state.transaction():
            self._state.begin_run(ctx.run, ctx.pipeline, ctx.path)

    def committed(self) -> Mapping[str, Checkpoint]:
        return self._state.checkpoints()

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        """Nothing is left to do: the writer's seal has committed the local state."""

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        with self._state.transaction():
            self._state.end_run(run, exit_code, counts)

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        return self._state.quarantined()

    def close(self) -> None:
        self._state.close()
        self._lock.release()
