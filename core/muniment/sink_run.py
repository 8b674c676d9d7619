"""How does one sink go through a run?  Its writer, its unit, its counts, its commits."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
from msgspec.structs import replace

from muniment.components import Context, Effect, Target, Writer, never, no_assets
from muniment.errors import MunimentError
from muniment.model import JSON, Asset, Rejected
from muniment.plan import Plan, SinkPath
from muniment.process import Processed, Route, RouteResult
from muniment.provenance import made_with
from muniment.quarantine import in_partition
from muniment.retry import retry
from muniment.units import Checkpoint, Counts, Fence, Partition, Position, Prepared, Unit

if TYPE_CHECKING:
    from muniment.quarantine import Place
    from muniment.quarantine_store import Custody


class SinkRun:
    """One sink in one run.  A context manager: leaving it with an error aborts what is not committed.

    ``failed`` is why the sink does not take part any more, as a sentence; empty while it does.
    """

    def __init__(self, plan: Plan, path: SinkPath, context: Context, custody: "Custody | None" = None) -> None:
        self.name = path.name
        self.on_failure = path.on_failure
        self.failed = ""
        self.absent = 0
        self.superseded: list[str] = []
        self.counts = Counts()
        self.dropped: Counter[str] = Counter()
        self._path = path
        self._drops = any(Effect.DROPS in t.component.effect for t in (*plan.transforms, *path.transforms))
        self._bounds = path.bounds
        self._plan_hash = plan.hash_of(path)
        self._context = attrs.evolve(
            context,
            plan_hash=self._plan_hash,
            on_plan_change=path.on_plan_change,
            pipeline=plan.name,
            made_with=made_with(plan, path),
        )
        self._target: Target | None = None
        self._writer: Writer | None = None
        self._committed: dict[str, Checkpoint] = {}
        self._quarantined: set[str] = set()
        self._waiting: list[Prepared] = []
        self._number = 0
        self._partition: Partition | None = None
        self._from_start = False
        self._behind: Checkpoint | None = None
        self._custody = custody
        self._content: dict[Place, bytes | None] = {}
        self._content_is_records = False

    # --- the run ----------------------------------------------------------------------------

    def open(self) -> None:
        """Open the target, which takes its lock and knows what it holds."""
        self._target = self._path.step.component.open_target(self._context)
        self._committed = dict(self._target.committed())
        self._quarantined = {str(q["partition"]) for q in self.entries()}

    def entries(self) -> list[Mapping[str, Any]]:
        """Return the open quarantine entries of the target."""
        return list(self.target.quarantined())

    @property
    def target(self) -> Target:
        assert self._target is not None
        return self._target

    def bind(self, open_asset: Callable[[Asset], BinaryIO]) -> None:
        """Take the reader that this source's assets come from."""
        self._context = attrs.evolve(self._context, open_asset=open_asset)

    def route(self, skip: Mapping[str, int]) -> Route:
        """Return what a worker needs for this sink; nothing of it holds a connection.

        ``skip`` says of partitions up to which chunk this sink needs none.
        """
        context = attrs.evolve(
            self._context,
            open_asset=no_assets,
            stopping=never,
        )
        transforms = tuple(t.component for t in self._path.transforms)
        return Route(self._path.step.component, context, transforms, skip)

    def finish(self) -> None:
        """Publish what waited for the end of the run."""
        assert self._target is not None
        if self._target.whole_run:
            self._commit(self._waiting)
            self._waiting = []

    def mark_absent(self, fingerprint: str, later: Sequence[str]) -> None:
        """Mark what a complete source no longer holds, where everything that it holds has come this far."""
        # What a transform drops, or what could not be read, may well be in the source.
        if not self._drops and not self._quarantined and not self.counts.quarantined:
            self.absent += self.target.mark_absent(fingerprint, later)

    def end(self, exit_code: int, report: Mapping[str, JSON] | None = None) -> None:
        """Note in the target how the run ended; ``report`` says what was found in its sources."""
        assert self._target is not None
        self._target.note_report({**(report or {}), "dropped": dict(self.dropped)})
        self._target.end_run(self._context.run, exit_code, self.counts)

    def fail(self, error: Exception) -> None:
        """Leave the run; what was committed stands."""
        self.failed = _sentence(error)
        self.__exit__(type(error), error, None)

    def __enter__(self) -> "SinkRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, self._writer = self._writer, None
        target, self._target = self._target, None
        # What went wrong is told by its own error, not by what it makes of closing.
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            try:
                if writer is not None:
                    writer.close()
            finally:
                if target is not None:
                    try:
                        if error is not None:
                            target.abort(self._waiting)
                    finally:
                        target.close()

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

    def begin(self, partition: Partition, own: Checkpoint | None, *, skip: bool) -> None:
        """Open a writer for ``partition``, of which the target has what is before ``own``.

        With ``skip`` reading starts before ``own``, and the chunks until there are not taken.
        """
        self._partition = partition
        self._from_start = own is None
        self._behind = own if skip else None
        self._records = own.records if own else 0
        self._end: Position = own.position if own else None
        self._sequence = own.sequence if own else 0
        context = attrs.evolve(
            self._context, first_unit=self._number + 1, fingerprint=partition.fingerprint, keep=self._keep_late
        )
        self._writer = retry(lambda: self._path.step.component.open(context))
        self._new_unit()

    @property
    def is_lost(self) -> bool:
        """True while the place where this sink left off has not been met in the reading."""
        return self._behind is not None

    def forget(self, partition: Partition) -> None:
        """Give up the checkpoint of a partition: it is to be read again from its beginning."""
        self._committed.pop(partition.id, None)

    def take(self, item: Processed, result: RouteResult) -> int:
        """Write one chunk's payload and count what became of its records.

        Returns:
            How many of the payload's the target had already, as new or newer.
        """
        assert self._writer is not None and self._partition is not None
        if self._behind is not None:
            # A version that cuts otherwise numbers otherwise: only the place itself is sure.
            met = item.sequence == self._behind.sequence and _is_same(item.end, self._behind.position)
            self._behind = None if met else self._behind
            return 0
        stored = unchanged = 0
        rejected: tuple[Rejected, ...] = result.rejected
        if result.payload is not None:
            payload, writer = result.payload, self._writer
            receipt = retry(lambda: writer.write(payload))
            stored, unchanged = receipt.stored, receipt.unchanged
            rejected += self._refused(item, receipt.rejected)
        if result.unchanged:
            self._writer.touch(result.unchanged)
        self.dropped.update(result.dropped)
        self._unit += Counts(
            item.read, stored, unchanged + len(result.unchanged), sum(result.dropped.values()), len(rejected)
        )
        # An entry stands under the partition that it was read from, whatever the source wrote into it.
        self._rejected += [in_partition(r, item.partition) for r in rejected]
        self._bytes += item.size
        self._records += item.read
        self._end, self._sequence = item.end, item.sequence
        return unchanged

    def _refused(self, item: Processed, rejected: tuple[Rejected, ...]) -> tuple[Rejected, ...]:
        """Keep the content of what the writer has refused; return it with its digests."""
        if item.evidence is None or self._custody is None or self._partition is None:
            return rejected
        if self._path.step.component.refuses_late:
            for place, data in item.evidence.slices.items():
                # Where two of a unit stand in one place, nobody can tell whose content it is.
                self._content[place] = data if place not in self._content else None
            self._content_is_records = item.evidence.are_records
        return self._custody.keep(self._partition, rejected, item.evidence) if rejected else ()

    def _keep_late(self, rejected: Sequence[Rejected]) -> None:
        if self._custody is not None and self._partition is not None:
            from muniment.quarantine import Evidence

            content = {place: data for place, data in self._content.items() if data is not None}
            self._custody.keep(self._partition, rejected, Evidence(content, self._content_is_records))

    def is_due(self) -> bool:
        """Say whether the unit has reached one of its bounds."""
        assert self._target is not None
        bounds = self._bounds
        return self.holds_a_unit and (
            self._unit.read >= bounds.max_records
            or self._bytes >= bounds.max_bytes
            or time.monotonic() - self._since >= bounds.max_seconds
        )

    @property
    def holds_a_unit(self) -> bool:
        """True if something was taken that can be committed before the run ends."""
        is_open = self._target is not None and self._writer is not None and not self._target.whole_run
        return is_open and bool(self._unit.read)

    def seal(self, *, ended: bool, clean: bool = True) -> None:
        """End the unit and commit it, or keep it for the end of the run.

        A partition that ended but was not clean (something is missing) is noted as unfinished at its
        start, so that the next run reads it again and says so again.
        """
        assert self._partition is not None
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
        self._seal(checkpoint, read_whole=ended and self._from_start)

    def _seal(self, checkpoint: Checkpoint, *, read_whole: bool) -> None:
        assert self._writer is not None
        self._number += 1
        unit = Unit(
            run=self._context.run,
            number=self._number,
            checkpoint=checkpoint,
            counts=self._unit,
            quarantined=tuple(self._rejected),
            read_whole=read_whole,
        )
        writer = self._writer
        prepared = writer.seal(unit)
        assert self._target is not None
        if self._target.whole_run:
            self._waiting.append(prepared)
        else:
            self._commit([prepared])
        # A database may refuse a record only when the unit is written: what counts is what was sealed.
        self.counts += prepared.unit.counts
        self._new_unit()

    # --- a retry from what was kept ---------------------------------------------------------

    def pass_over(self, records: int) -> None:
        """Count records that the target need not be given: it holds them as new, or newer."""
        self._unit += Counts(read=records, unchanged=records)

    def noted_again(self, rejected: Rejected) -> Rejected:
        """Return what an open entry was made of, as the target is to be told of it once more."""
        if getattr(self._path.step.component, "encryption", None) is None:
            return rejected
        # What stands in the entry are pseudonyms, of which the target would make others.
        return replace(rejected, key="", origin=replace(rejected.origin, digest=""))

    def leave_open(self, rejected: Sequence[Rejected]) -> None:
        """Count entries again that cannot be tried: they stay open."""
        self._unit += Counts(read=len(rejected), quarantined=len(rejected))
        self._rejected += rejected

    def settle(self, *, last: bool) -> None:
        """Commit the unit; with ``last`` the entries of its partition that did not come again are resolved.

        How far the partition is stored stays as it was.
        """
        assert self._partition is not None
        found = self._committed.get(self._partition.id)
        if found is None or found.fingerprint != self._partition.fingerprint:
            found = Checkpoint(self._partition.id, self._partition.fingerprint, None, 0, plan_hash=self._plan_hash)
        # A finished partition is never read from its checkpoint; so two units of it can be told apart.
        sequence = found.sequence + (self._number if found.finished else 0)
        self._seal(attrs.evolve(found, run=self._context.run, sequence=sequence), read_whole=last)

    @property
    def can_settle(self) -> bool:
        """True if the unit may be committed before its partition's last entry has come."""
        found = self._committed.get(self._partition.id) if self._partition else None
        return self.is_due() and found is not None and found.finished

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
        self._content = {}
        self._bytes = 0
        self._since = time.monotonic()


def _is_same(position: Position, other: Position) -> bool:
    """Compare a position with one that was JSON in between."""
    return bool(json.loads(json.dumps(position)) == other)


def _sentence(error: Exception) -> str:
    if isinstance(error, MunimentError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"`{error.filename}`: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    # The text of a foreign error may quote a conversation: the type must do.
    return f"`{type(error).__name__}` was raised where nothing should: this is a defect of the sink; please report it"
