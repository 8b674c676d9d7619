"""How is a copy of an archive that was found short made whole from another copy?

Both sinks belong to one pipeline.  What the one holds is compared with what the other holds, by key
and content; what is missing or short goes through the other's own writer, in a run of its own.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define, field, frozen
from msgspec.structs import replace

from muniment.canonical import to_json
from muniment.comparison import Comparison, Difference
from muniment.components import Context, Known, Source, Target
from muniment.errors import ConfigError, FatalError, InputError, StoppedError
from muniment.events import RunEvent
from muniment.model import Asset, Record
from muniment.plan import Plan, SinkPath
from muniment.process import Job, Processor, patient_gc
from muniment.sink_run import SinkRun
from muniment.units import Chunk, Counts, Damage, Partition

if TYPE_CHECKING:
    from muniment.pipeline import StopFlag
    from muniment.plugins import Registry

CHUNK_RECORDS = 100
CHUNK_BYTES = 4 * 2**20


@frozen
class RepairReport:
    """How a repair ended.

    ``found`` is how the copy stood before, ``left`` how it stands after (None without a look: nothing
    was written).  ``counts`` is the conservation equation of what was compared.  ``damaged`` and
    ``damaged_original`` name what cannot be read, in the copy before and in the original.
    """

    run: str
    pipeline: str
    source: str
    target: str
    dry_run: bool
    found: Difference
    left: Difference | None
    counts: Counts
    damaged: tuple[str, ...]
    damaged_original: tuple[str, ...]
    still_damaged: tuple[str, ...]
    assets_compared: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """1 if the copy is still short of what was written to it, 3 if something needs attention, else 0."""
        if self.left is not None and not self.left.is_whole and not self.counts.quarantined:
            return 1
        owed = self.dry_run and not (self.found.is_whole and not self.damaged)
        return 3 if owed or self.counts.quarantined or self.damaged_original or self.still_damaged else 0

    def as_json(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "exit_code": self.exit_code}


def repair(
    plan: Plan, registry: "Registry", *, source: str, target: str, stop: "StopFlag", dry_run: bool = False
) -> RepairReport:
    """Write what the sink ``source`` holds and the sink ``target`` lacks to ``target``.

    Nothing is taken away: what only ``target`` holds stays.

    Raises:
        ConfigError: there are no such sinks, or one cannot be a copy of the other.
        InputError: the one that is read holds nothing.
        FatalError: one of them failed; what was committed stands, and the same call goes on.
        StoppedError: ``stop`` was set; what was sealed before is committed.
    """
    one, other = _sink(plan, source), _sink(plan, target)
    _check(plan, one, other)
    with contextlib.ExitStack() as stack, patient_gc():
        return _Repair(plan, registry, one, other, stop, dry_run, stack).run()


def _sink(plan: Plan, name: str) -> SinkPath:
    from muniment.structure import closest

    names = [s.name for s in plan.sinks]
    if name not in names:
        raise ConfigError(f"there is no sink `{name}` in `{plan.file or plan.name}`{closest(name, names)}")
    return plan.sinks[names.index(name)]


def _check(plan: Plan, one: SinkPath, other: SinkPath) -> None:
    if one is other:
        raise ConfigError(f"sink `{one.name}` cannot be repaired from itself; name another with `--from`")
    if not one.step.component.reads_back:
        raise ConfigError(f"sink `{one.name}` cannot be read; take another with `--from`")
    if not other.step.component.reads_back:
        raise ConfigError(f"sink `{other.name}` cannot be read, so nobody knows what it lacks")
    if [t.component for t in one.transforms] != [t.component for t in other.transforms]:
        raise ConfigError(
            f"sinks `{one.name}` and `{other.name}` have different `transforms` of their own, so that one is no copy"
            f" of the other; run the pipeline again, or take a sink with the transforms of `{other.name}`"
        )
    if getattr(getattr(other.step.component, "layout", None), "mode", None) == "snapshot":
        raise ConfigError(f"sink `{other.name}` is a snapshot, which every run writes whole; run the pipeline again")


@define(eq=False)
class _Repair:
    plan: Plan
    registry: "Registry"
    one: SinkPath
    other: SinkPath
    stop: "StopFlag"
    dry_run: bool
    stack: contextlib.ExitStack
    run_id: str = field(factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
    started: float = field(factory=time.monotonic)
    damaged: list[Damage] = field(factory=list)
    damaged_original: list[Damage] = field(factory=list)
    still_damaged: list[Damage] = field(factory=list)
    conversations: int = 0
    messages: int = 0
    counts: Counts = field(factory=Counts)

    def run(self) -> RepairReport:
        original = self._open_original()
        sink = self._open_copy(original)
        compares_assets = type(sink.target).open_asset is not Target.open_asset
        self._emit("started")
        comparison = self.stack.enter_context(Comparison())
        self._survey_copy(comparison, sink)
        for record in self._survey(original, self.damaged_original):
            lacks = compares_assets and self._lacks_asset(comparison, sink.target, original, record)
            comparison.add_original(record, lacks_asset=lacks)
        found, left = comparison.difference(), None
        sink.count_unchanged(found.same)
        if not self.dry_run and not (found.is_whole and not self.damaged):
            self._write(comparison, original, sink)
            left = self._look_again(comparison, original, sink, compares_assets)
        report = RepairReport(
            run=self.run_id, pipeline=self.plan.name, source=self.one.name, target=self.other.name,
            dry_run=self.dry_run, found=found, left=left, counts=sink.counts,
            damaged=tuple(d.where for d in self.damaged),
            damaged_original=tuple(d.where for d in self.damaged_original),
            still_damaged=tuple(d.where for d in self.still_damaged), assets_compared=compares_assets,
            seconds=time.monotonic() - self.started,
        )  # fmt: skip
        sink.end(report.exit_code)
        self._emit("finished", exit_code=report.exit_code)
        return report

    # --- opening ----------------------------------------------------------------------------

    def _context(self, path: SinkPath) -> Context:
        return Context(
            run=self.run_id,
            path=path.step.path,
            pipeline=f"{self.plan.name} (repair)",
            plan_hash=self.plan.hash_of(path),
            state_dir=self.plan.state_dir,
            on_plan_change=path.on_plan_change,
            stopping=lambda: bool(self.stop),
        )

    def _open_original(self) -> Target:
        context = self._context(self.one)
        target = self.stack.enter_context(self.one.step.component.open_target(context))
        if not target.committed() and target.whole_run and not self._is_snapshot():
            raise InputError(f"sink `{self.one.name}` holds nothing yet; run the pipeline first")
        # It was only read; its ledger should not look as if this run had died.
        self.stack.callback(target.end_run, self.run_id, 0, Counts())
        return target

    def _is_snapshot(self) -> bool:
        return getattr(getattr(self.one.step.component, "layout", None), "mode", None) == "snapshot"

    def _open_copy(self, original: Target) -> SinkRun:
        # As the pipeline itself would write there, without what the records have been through already.
        path = attrs.evolve(self.other, transforms=(), plan_hash=self.plan.hash_of(self.other))
        plan = attrs.evolve(self.plan, name=f"{self.plan.name} (repair)")
        sink = SinkRun(plan, path, self._context(self.other))
        self.stack.push(sink)
        sink.open()
        sink.bind(original.open_asset)
        return sink

    # --- comparing --------------------------------------------------------------------------

    def _survey(self, target: Target, damaged: list[Damage]) -> Iterator[Record]:
        try:
            for number, record in enumerate(target.survey(damaged.append)):
                if self.stop:
                    raise StoppedError(self.stop.signal_number)
                if number % 100 == 0:
                    self._emit("reading")
                yield record
        except NotImplementedError as error:
            raise ConfigError(f"{error}; take sinks that can be read") from error

    def _survey_copy(self, comparison: Comparison, sink: SinkRun) -> None:
        if sink.target.whole_run:
            return  # It is made in this run.
        for record in self._survey(sink.target, self.damaged):
            comparison.add_copy(record)

    def _lacks_asset(self, comparison: Comparison, copy: Target, original: Target, record: Record) -> bool:
        """Say whether the copy lacks an asset of ``record`` that the original has."""
        lacks = False
        for asset in record.conversation.assets:
            if asset.sha256 is None:
                continue
            held = comparison.find_asset(asset.sha256)
            if held is None:
                held = _holds(copy, asset) or not _holds(original, asset)
                comparison.note_asset(asset.sha256, is_held=held)
            lacks = lacks or not held
        return lacks

    def _look_again(self, comparison: Comparison, original: Target, sink: SinkRun, compares_assets: bool) -> Difference:
        """Compare once more: what was written is proved by reading it."""
        comparison.forget_copy()
        sink.finish()
        for record in self._survey(sink.target, self.still_damaged):
            comparison.add_copy(record)
        if compares_assets:
            for record in self._survey(original, []):
                lacks = self._lacks_asset(comparison, sink.target, original, record)
                comparison.add_original(record, lacks_asset=lacks)
        return comparison.difference()

    # --- writing ----------------------------------------------------------------------------

    def _write(self, comparison: Comparison, original: Target, sink: SinkRun) -> None:
        asked = {key for d in self.damaged for key in d.keys}
        held = asked.intersection(map(sink.target.noted, comparison.keys())) if asked else asked
        replaced = [d for d in self.damaged if held.issuperset(d.keys)]
        sink.target.forget(comparison.missing(), comparison.short(), replaced)
        partition = Partition(f"repair:{self.one.name}", self.run_id, f"sink {self.one.name}")
        processor = Processor(Job(Source(), (), (sink.route({}),)))
        self.stack.callback(processor.close)
        sink.begin(partition, None, skip=False)
        for chunk in self._chunks(comparison, original, partition):
            item = processor.process(chunk)
            sink.take(item, item.routes[0])
            self.conversations += item.conversations
            self.messages += item.messages
            if sink.is_due() or self.stop:
                sink.seal(ended=False)
                self.counts = sink.counts
                self._emit("committed")
            if self.stop:
                raise StoppedError(self.stop.signal_number)
        sink.seal(ended=True)
        sink.leave()
        if not sink.counts.holds:
            raise FatalError(f"sink `{sink.name}`: records are unaccounted for ({sink.counts}); please report it")

    def _chunks(self, comparison: Comparison, original: Target, partition: Partition) -> Iterator[Chunk]:
        with contextlib.ExitStack() as stack:
            known = self.one.step.component.open_known(self._context(self.one))
            if known is not None:
                stack.enter_context(known)
            some: list[Record] = []
            size = number = 0
            for record in self._survey(original, []):
                if not comparison.is_owed(record.key):
                    continue
                some.append(record)
                size += len(to_json(record.conversation))
                if len(some) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
                    number += 1
                    yield Chunk(partition, number, number, _as_decoded(some, known), size)
                    some, size = [], 0
            if some:
                yield Chunk(partition, number + 1, number + 1, _as_decoded(some, known), size)

    def _emit(self, kind: Any, **more: Any) -> None:
        self.registry.call_run_event(
            RunEvent(
                kind=kind,
                run=self.run_id,
                pipeline=self.plan.name,
                label=f"{self.one.name} to {self.other.name}",
                bytes_total=None,
                conversations=self.conversations,
                messages=self.messages,
                counts={self.other.name: self.counts},
                **more,
            )
        )


def _as_decoded(records: Sequence[Record], known: Known | None) -> list[Record]:
    """Return records with the hash that they had when they were decoded, where the original knows it.

    What a transform altered has another one now; with the first, the pipeline's next run knows it again.
    """
    hashes = known.find([r.key for r in records]) if known and not known.hides else {}
    return [replace(r, source_hash=hashes[r.key][0] or r.source_hash) if r.key in hashes else r for r in records]


def _holds(target: Target, asset: Asset) -> bool:
    try:
        target.open_asset(asset).close()
    except FileNotFoundError:
        return False
    return True
