"""How does one sink go through a run?  Its writer, its unit, its counts, its commits."""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO

import attrs
from msgspec.structs import replace

from muniment.components import (
    Checkpoint,
    Context,
    Counts,
    Fence,
    Partition,
    Position,
    Prepared,
    Target,
    Unit,
    Writer,
    never,
    no_assets,
)
from muniment.model import Asset, Rejected
from muniment.plan import Plan, SinkPath
from muniment.process import Processed, Route, RouteResult
from muniment.retry import retry


class SinkRun:
    """One sink in one run.  A context manager: leaving it with an error aborts what is not committed."""

    def __init__(self, plan: Plan, path: SinkPath, context: Context) -> None:
        self.name = path.name
        self.counts = Counts()
        self.dropped: Counter[str] = Counter()
        self._path = path
        self._plan_hash = plan.hash_of(path)
        self._context = attrs.evolve(
            context, plan_hash=self._plan_hash, on_plan_change=path.on_plan_change, pipeline=plan.name
        )
        self._target: Target | None = None
        self._writer: Writer | None = None
        self._committed: dict[str, Checkpoint] = {}
        self._quarantined: set[str] = set()
        self._waiting: list[Prepared] = []
        self._number = 0
        self._partition: Partition | None = None
        self._from_start = False

    # --- the run ----------------------------------------------------------------------------

    def open(self) -> None:
        """Open the target, which takes its lock and knows what it holds."""
        self._target = self._path.step.component.open_target(self._context)
        self._committed = dict(self._target.committed())
        self._quarantined = {str(q["partition"]) for q in self._target.quarantined()}

    def bind(self, open_asset: Callable[[Asset], BinaryIO]) -> None:
        """Take the reader that this source's assets come from."""
        self._context = attrs.evolve(self._context, open_asset=open_asset)

    def route(self) -> Route:
        """Return what a worker needs for this sink; nothing of it holds a connection."""
        context = attrs.evolve(
            self._context,
            open_asset=no_assets,
            stopping=never,
        )
        return Route(self._path.step.component, context, tuple(t.component for t in self._path.transforms))

    def finish(self) -> None:
        """Publish what waited for the end of the run."""
        assert self._target is not None
        if self._target.whole_run:
            self._commit(self._waiting)
            self._waiting = []

    def end(self, exit_code: int) -> None:
        """Note in the target how the run ended."""
        assert self._target is not None
        self._target.end_run(self._context.run, exit_code, self.counts)

    def __enter__(self) -> "SinkRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            if self._target is not None:
                try:
                    if error is not None:
                        self._target.abort(self._waiting)
                finally:
                    self._target.close()

    # --- a partition ------------------------------------------------------------------------

    def finished(self, partition: Partition) -> Checkpoint | None:
        """Return the checkpoint of a partition that needs no reading: finished, same plan, nothing open."""
        checkpoint = self._checkpoint(partition)
        if checkpoint is None or not checkpoint.finished or partition.id in self._quarantined:
            return None
        return checkpoint

    def start_of(self, partition: Partition) -> Checkpoint | None:
        """Return the checkpoint to go on from; None for the beginning."""
        checkpoint = self._checkpoint(partition)
        return None if checkpoint is None or checkpoint.finished else checkpoint

    def has_quarantined(self, partition: Partition) -> bool:
        return partition.id in self._quarantined

    def count_unchanged(self, records: int) -> None:
        self.counts += Counts(read=records, unchanged=records)

    def begin(self, partition: Partition, *, from_start: bool) -> None:
        self._partition = partition
        self._from_start = from_start
        before = None if from_start else self.start_of(partition)
        self._records = before.records if before else 0
        self._end: Position = before.position if before else None
        self._sequence = before.sequence if before else 0
        self._writer = self._path.step.component.open(self._context)
        self._new_unit()

    def take(self, item: Processed, result: RouteResult) -> None:
        """Write one chunk's payload and count what became of its records."""
        assert self._writer is not None
        stored = unchanged = 0
        rejected: tuple[Rejected, ...] = result.rejected
        if result.payload is not None:
            payload, writer = result.payload, self._writer
            receipt = retry(lambda: writer.write(payload))
            stored, unchanged = receipt.stored, receipt.unchanged
            rejected += receipt.rejected
        if result.unchanged:
            self._writer.touch(result.unchanged)
        self.dropped.update(result.dropped)
        self._unit += Counts(
            item.read, stored, unchanged + len(result.unchanged), sum(result.dropped.values()), len(rejected)
        )
        # An entry stands under the partition that it was read from, whatever the source wrote into it.
        self._rejected += [replace(r, origin=replace(r.origin, partition=item.partition)) for r in rejected]
        self._bytes += item.size
        self._records += item.read
        self._end, self._sequence = item.end, item.sequence

    def is_due(self) -> bool:
        """Say whether the unit has reached one of its bounds."""
        assert self._target is not None
        path = self._path
        return bool(self._unit.read) and not self._target.whole_run and (
            self._unit.read >= path.max_unit_records
            or self._bytes >= path.max_unit_bytes
            or time.monotonic() - self._since >= path.max_unit_seconds
        )  # fmt: skip

    def seal(self, *, ended: bool, clean: bool = True) -> None:
        """End the unit and commit it, or keep it for the end of the run.

        A partition that ended but was not clean (something is missing) is noted as unfinished at its
        start, so that the next run reads it again and says so again.
        """
        assert self._writer is not None and self._partition is not None
        finished = ended and clean
        reread = ended and not clean
        checkpoint = Checkpoint(
            partition=self._partition.id,
            fingerprint=self._partition.fingerprint,
            position=None if reread else self._end,
            sequence=0 if reread else self._sequence,
            finished=finished,
            records=0 if reread else self._records,
            plan_hash=self._plan_hash,
            run=self._context.run,
        )
        self._number += 1
        unit = Unit(
            run=self._context.run,
            number=self._number,
            checkpoint=checkpoint,
            counts=self._unit,
            quarantined=tuple(self._rejected),
            read_whole=ended and self._from_start,
        )
        writer = self._writer
        prepared = writer.seal(unit)
        assert self._target is not None
        if self._target.whole_run:
            self._waiting.append(prepared)
        else:
            self._commit([prepared])
        self.counts += self._unit
        self._new_unit()

    def leave(self) -> None:
        """Close the partition's writer."""
        assert self._writer is not None
        writer, self._writer = self._writer, None
        writer.close()

    def _commit(self, prepared: list[Prepared]) -> None:
        assert self._target is not None
        target, fence = self._target, Fence(self._context.run)
        retry(lambda: target.commit(prepared, fence))

    def _checkpoint(self, partition: Partition) -> Checkpoint | None:
        found = self._committed.get(partition.id)
        if found is None or found.fingerprint != partition.fingerprint or found.plan_hash != self._plan_hash:
            return None
        return found if found.finished or found.position is not None else None

    def _new_unit(self) -> None:
        self._unit = Counts()
        self._rejected: list[Rejected] = []
        self._bytes = 0
        self._since = time.monotonic()
