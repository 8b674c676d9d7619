"""How does a plan run?  Read, process, write, seal, commit; count everything; stop in order."""

import contextlib
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define, field, frozen

from muniment.components import (
    Context,
    Counts,
    Partition,
    Reader,
    Source,
)
from muniment.errors import FatalError, InputError, StoppedError
from muniment.events import RunEvent
from muniment.plan import Plan, Step
from muniment.process import Job, Processed, patient_gc
from muniment.sink_run import SinkRun

if TYPE_CHECKING:
    from muniment.plugins import Registry

READING_EVENT_SECONDS = 0.1


class StopFlag:
    """What a signal handler sets, and all that it does."""

    def __init__(self) -> None:
        self.signal_number = 0

    def set(self, signal_number: int) -> None:
        self.signal_number = signal_number

    def __bool__(self) -> bool:
        return bool(self.signal_number)


@frozen
class RunReport:
    """How a run ended: ``sinks`` holds the conservation equation of each sink, by name.

    ``findings`` counts what was noticed, by code; ``unchanged_partitions`` are (label, run that
    archived it, records) of inputs that were finished before; ``incomplete`` says that the source
    names a shard or asset which is missing.
    """

    run: str
    pipeline: str
    exit_code: int
    sinks: dict[str, Counts]
    findings: dict[str, int]
    dropped: dict[str, int]
    conversations: int
    messages: int
    bytes_read: int
    seconds: float
    unchanged_partitions: tuple[tuple[str, str, int], ...]
    quarantined: int
    incomplete: bool

    def as_json(self) -> dict[str, Any]:
        report = attrs.asdict(self)
        report["unchanged_partitions"] = [
            {"label": label, "run": run, "records": n} for label, run, n in self.unchanged_partitions
        ]
        return report


def run(
    plan: Plan, registry: "Registry", *, stop: StopFlag | None = None, retry_quarantined: bool = False
) -> RunReport:
    """Run a plan to its end and return what became of every record.

    With ``retry_quarantined`` only partitions that have open quarantine entries are read, from their
    start; what is stored already counts as unchanged.

    Raises:
        InputError: the source cannot be read, or holds no conversation at all.
        TargetBusyError: another run holds a target.
        StoppedError: ``stop`` was set; what was sealed before is committed.
        FatalError: a sink failed for good; what was committed stands.
    """
    return _Run(plan, registry, StopFlag() if stop is None else stop, retry_quarantined).run()


@define(eq=False)
class _Run:
    plan: Plan
    registry: "Registry"
    stop: StopFlag
    retry_quarantined: bool
    run_id: str = field(factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
    sinks: list[SinkRun] = field(factory=list)
    findings: Counter[str] = field(factory=Counter)
    conversations: int = 0
    messages: int = 0
    bytes_read: int = 0
    unchanged_partitions: list[tuple[str, str, int]] = field(factory=list)
    resumed: bool = False
    started: float = field(factory=time.monotonic)
    last_event: float = 0.0
    bytes_total: int | None = 0

    def run(self) -> RunReport:
        with contextlib.ExitStack() as stack, patient_gc():
            self.sinks = [SinkRun(self.plan, path, self._context(path.step.path)) for path in self.plan.sinks]
            for sink in self.sinks:
                stack.push(sink)
                sink.open()
            self._emit("started")
            for step in self.plan.sources:
                self._read_source(step)
            self._refuse_nothing()
            for sink in self.sinks:
                sink.finish()
                self._emit("committed")
            report = self._report()
            for sink in self.sinks:
                sink.end(report.exit_code)
        self._emit("finished", exit_code=report.exit_code)
        return report

    def _context(self, path: str) -> Context:
        return Context(run=self.run_id, path=path, state_dir=self.plan.state_dir, stopping=lambda: bool(self.stop))

    def _read_source(self, step: Step[Source]) -> None:
        source = step.component
        with source.open(self._context(step.path)) as reader:
            for sink in self.sinks:
                sink.bind(reader.open_asset)
            active: list[Partition] = []
            for partition in reader.partitions():
                self.findings.update(partition.findings)
                if self._skip(partition):
                    continue
                active.append(partition)
            sizes = [p.size for p in active]
            known = [s for s in sizes if s is not None]
            if self.bytes_total is not None:
                self.bytes_total = self.bytes_total + sum(known) if len(known) == len(sizes) else None
            if active:
                # Workers start only when there is something to read: a pool costs a third of a second.
                job = Job(
                    source,
                    tuple(t.component for t in self.plan.transforms),
                    tuple(s.route() for s in self.sinks),
                )
                with self.plan.engine.open(job, reader) as workers:
                    for partition in active:
                        self._read_partition(reader, workers, partition)

    def _skip(self, partition: Partition) -> bool:
        """Count a partition that every sink has finished under the same plan as unchanged."""
        if self.retry_quarantined:
            return not any(s.has_quarantined(partition) for s in self.sinks)
        done = [s.finished(partition) for s in self.sinks]
        if not all(done):
            return False
        for sink, checkpoint in zip(self.sinks, done, strict=True):
            assert checkpoint is not None
            sink.count_unchanged(checkpoint.records)
        first = done[0]
        assert first is not None
        self.unchanged_partitions.append((partition.label, first.run, first.records))
        return True

    def _read_partition(self, reader: Reader, workers: Any, partition: Partition) -> None:
        after, sequence = None, 0
        starts = [None if self.retry_quarantined else s.start_of(partition) for s in self.sinks]
        if all(starts):
            # From the oldest checkpoint: a sink that is ahead knows its records by key and hash.
            oldest = min((c for c in starts if c), key=lambda c: c.sequence)
            after, sequence = oldest.position, oldest.sequence
            self.resumed = True
        for sink in self.sinks:
            sink.begin(partition, from_start=after is None)
        with contextlib.closing(workers.process(partition, after, sequence)) as results:
            for item in results:
                if isinstance(item, Processed):
                    self._take(item, partition)
                for index, sink in enumerate(self.sinks):
                    if isinstance(item, Processed):
                        sink.take(item, item.routes[index])
                    if sink.is_due():
                        sink.seal(ended=False)
                        self._emit("committed")
                if self.stop:
                    break
        for sink in self.sinks:
            sink.seal(ended=not self.stop, clean=not self._is_incomplete())
            sink.leave()
        self._emit("committed")
        if self.stop:
            raise StoppedError(self.stop.signal_number)

    def _take(self, item: Processed, partition: Partition) -> None:
        self.bytes_read += item.size
        self._reading(partition)
        self.conversations += item.conversations
        self.messages += item.messages
        self.findings.update(item.findings)

    def _refuse_nothing(self) -> None:
        if self.retry_quarantined or self.resumed:
            return
        if not any(s.counts.read for s in self.sinks):
            labels = ", ".join(f"`{s.path}` ({s.type})" for s in self.plan.sources)
            raise InputError(f"no conversations were found in {labels}; check that this is the right file")

    def _report(self) -> RunReport:
        sinks = {s.name: s.counts for s in self.sinks}
        broken = [name for name, counts in sinks.items() if not counts.holds]
        if broken:
            raise FatalError(
                f"sink `{broken[0]}`: records are unaccounted for ({sinks[broken[0]]}); this is a defect of"
                " a component: please report it"
            )
        quarantined = max((c.quarantined for c in sinks.values()), default=0)
        incomplete = self._is_incomplete()
        attention = quarantined or (incomplete and not self.plan.allow_incomplete)
        return RunReport(
            run=self.run_id,
            pipeline=self.plan.name,
            exit_code=3 if attention else 0,
            sinks=sinks,
            findings=dict(self.findings),
            dropped=dict(sum((s.dropped for s in self.sinks), Counter())),
            conversations=self.conversations,
            messages=self.messages,
            bytes_read=self.bytes_read,
            seconds=time.monotonic() - self.started,
            unchanged_partitions=tuple(self.unchanged_partitions),
            quarantined=quarantined,
            incomplete=incomplete,
        )

    def _is_incomplete(self) -> bool:
        return any(code.startswith("missing_") for code in self.findings)

    def _reading(self, partition: Partition) -> None:
        now = time.monotonic()
        if now - self.last_event >= READING_EVENT_SECONDS:
            self.last_event = now
            self._emit("reading", label=partition.label, bytes_total=self.bytes_total)

    def _emit(self, kind: Any, **more: Any) -> None:
        self.registry.call_run_event(
            RunEvent(
                kind=kind,
                run=self.run_id,
                pipeline=self.plan.name,
                bytes_done=self.bytes_read,
                conversations=self.conversations,
                messages=self.messages,
                counts={s.name: s.counts for s in self.sinks},
                **more,
            )
        )
