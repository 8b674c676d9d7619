"""How does a plan run?  Read, process, write, seal, commit; count everything; stop in order."""

import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, field

from muniment.components import Context, Reader, Replay, Source
from muniment.errors import (
    ConfigError,
    FatalError,
    InputError,
    MunimentError,
    PluginError,
    StoppedError,
    TransientError,
)
from muniment.events import RunEvent
from muniment.plan import Plan, Step
from muniment.process import Job, Processed, Route, patient_gc
from muniment.retry import until
from muniment.run_report import RunReport
from muniment.share import Share, from_the_start, share
from muniment.sink_run import SinkRun
from muniment.units import Idle, Partition

if TYPE_CHECKING:
    from muniment.plugins import Registry
    from muniment.quarantine_store import Custody

__all__ = ["Run", "RunReport", "StopFlag", "run"]

READING_EVENT_SECONDS = 0.1


class StopFlag:
    """What a signal handler sets, and all that it does."""

    def __init__(self) -> None:
        self.signal_number = 0

    def set(self, signal_number: int) -> None:
        self.signal_number = signal_number

    def __bool__(self) -> bool:
        return bool(self.signal_number)


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
        FatalError: a sink failed for good, and the pipeline says that the others stop with it (they
            have committed what they held); what was committed stands.
    """
    return Run(plan, registry, StopFlag() if stop is None else stop, retry_quarantined).run()


@define(eq=False)
class Run:
    """One run of a plan; what a retry does otherwise is in `muniment.quarantine_retry`."""

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
    complete: list[str] = field(factory=list)
    partitions: list[dict[str, Any]] = field(factory=list)
    started: float = field(factory=time.monotonic)
    last_event: float = 0.0
    bytes_total: int | None = 0
    custody: "Custody | None" = None

    def run(self) -> RunReport:
        with contextlib.ExitStack() as stack, patient_gc(), until(lambda: bool(self.stop)):
            if self.plan.keeping is not None:
                from muniment.quarantine_store import Custody

                self.custody = Custody.open(self.plan.keeping, self._context("quarantine"))
                stack.callback(self.custody.close)
            self.sinks = [
                SinkRun(self.plan, path, self._context(path.step.path), self.custody) for path in self.plan.sinks
            ]
            for sink in self.sinks:
                stack.push(sink)
                self._attempt(sink, sink.open)
            if self.custody is not None:
                self.custody.held = self._owed()
            self._emit("started")
            self._read_sources()
            self._refuse_nothing()
            for sink in self._alive():
                if self._attempt(sink, sink.finish):
                    self._emit("committed")
            self._mark_absent()
            self._check_equations()
            self._release()
            for sink in self._alive():
                self._attempt(sink, partial(sink.end, self._exit_code(), self._completeness()))
            report = self._report()
        self._emit("finished", exit_code=report.exit_code)
        return report

    def _context(self, path: str) -> Context:
        return Context(
            run=self.run_id,
            path=path,
            pipeline=self.plan.name,
            state_dir=self.plan.state_dir,
            stopping=lambda: bool(self.stop),
        )

    # --- sinks that fail --------------------------------------------------------------------

    def _alive(self) -> list[SinkRun]:
        return [s for s in self.sinks if not s.failed]

    def _attempt(self, sink: SinkRun, step: Callable[[], object]) -> bool:
        """Do ``step`` of ``sink``; say whether it is still in the run.

        Where the others are to stop with it, they first commit what they hold.
        """
        try:
            step()
        except (ConfigError, PluginError, InputError, StoppedError):
            # Not this sink's own failure: the pipeline, the source, or a signal.
            raise
        except Exception as error:
            if self.stop and isinstance(error.__cause__ or error, TransientError):
                # It would have been tried again, had nobody asked to stop.
                raise StoppedError(self.stop.signal_number) from error
            if sink.on_failure == "stop":
                self._commit_what_others_hold(sink)
                raise self._named(sink, error)  # noqa: B904 - it is the same error
            sink.fail(error)
            return False
        return True

    def _commit_what_others_hold(self, failed: SinkRun) -> None:
        for sink in self._alive():
            if sink is not failed and sink.holds_a_unit:
                # The first failure is the one to tell; this one's records come again in the next run.
                with contextlib.suppress(Exception):
                    sink.seal(ended=False)

    def _named(self, sink: SinkRun, error: Exception) -> Exception:
        """Return ``error`` with the pipeline file and the sink in its message, where there are such."""
        if isinstance(error, MunimentError) and self.plan.file:
            error.args = (f"{self.plan.file}: sink `{sink.name}`: {error}", *error.args[1:])
        return error

    # --- what could not be archived ---------------------------------------------------------

    def _owed(self) -> set[str]:
        """Return the ids of the entries that are open in any target; an empty one among them for unknown ones."""
        from muniment.quarantine import id_of

        return {id_of(entry) for s in self._alive() for entry in s.entries()}

    def _release(self) -> None:
        """Delete the content that no sink owes any more; what a sink owes that failed, nobody knows."""
        if self.custody is not None and len(self._alive()) == len(self.sinks):
            self.custody.release(self._owed)

    # --- reading ----------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Close sinks that owe nothing: a retry is not their run, and a snapshot would be written anew from it."""
        for sink in [s for s in self._alive() if not s.entries()]:
            sink.__exit__(None, None, None)
            self.sinks.remove(sink)

    def _read_sources(self) -> None:
        if self.retry_quarantined:
            self._let_go()
        for step in self.plan.sources:
            if self._alive():
                self._read_source(step)

    def _read_source(self, step: Step[Source]) -> None:
        source = step.component
        self._come_from(step)
        with source.open(self._context(step.path)) as reader:
            for sink in self._alive():
                sink.bind(reader.open_asset)
            exact = source.replay is Replay.EXACT and not self.retry_quarantined
            shares: list[Share] = []
            for partition in reader.partitions():
                self.findings.update(partition.findings)
                self.partitions.append(_described(step, partition))
                if needed := self._share(partition, exact):
                    shares.append(needed)
            sizes = [s.partition.size for s in shares]
            known = [s for s in sizes if s is not None]
            if self.bytes_total is not None:
                self.bytes_total = self.bytes_total + sum(known) if len(known) == len(sizes) else None
            if shares and all(s.partition.complete for s in shares) and not self._is_incomplete():
                self.complete += dict.fromkeys(s.partition.fingerprint for s in shares)
            while shares:
                shares = self._read_shares(reader, step, shares)

    def _come_from(self, step: Step[Source]) -> None:
        if self.custody is not None:
            self.custody.source = (step.type, step.path)

    def _share(self, partition: Partition, exact: bool) -> Share | None:
        """Return who needs a partition, and from where; None if nobody does."""
        sinks = self._alive()
        if self.retry_quarantined:
            owing = [s for s in sinks if s.has_quarantined(partition)]
            return from_the_start(partition, owing) if owing else None
        finished = [c for s in sinks if (c := s.finished(partition))]
        if len(finished) == len(sinks):
            first = finished[0]
            self.unchanged_partitions.append((partition.label, first.run, first.records))
        return share(partition, sinks, exact=exact)

    def _read_shares(self, reader: Reader, step: Step[Source], shares: Sequence[Share]) -> list[Share]:
        """Read partitions; return those of sinks that did not find their place, to be read from the start."""
        sinks = [s for s in self._alive() if any(s in each.sinks for each in shares)]
        # Workers start only when there is something to read: a pool costs a third of a second.
        job = self._job(
            step, step.component, [s.route({each.partition.id: each.skip_of(s) for each in shares}) for s in sinks]
        )
        lost: list[Share] = []
        with self.plan.engine.open(job, reader) as workers:
            routes = {s.name: i for i, s in enumerate(sinks)}
            for each in shares:
                if each.alive():
                    self._read_share(workers, each, routes)
                    lost += each.of_the_lost()
        return lost

    def _job(self, step: Step[Source], source: Source, routes: Sequence[Route]) -> Job:
        transforms = tuple(t.component for t in self.plan.transforms)
        return Job(source, transforms, tuple(routes), self.plan.keeping, (step.type, step.path))

    def _read_share(self, workers: Any, part: Share, routes: dict[str, int]) -> None:
        start = part.start
        self.resumed = self.resumed or start is not None
        for sink, own in zip(part.sinks, part.own, strict=True):
            if not sink.failed:
                skip = part.skip_of(sink) > 0
                self._attempt(sink, partial(sink.begin, part.partition, own, skip=skip))
        after, sequence = (start.position, start.sequence) if start else (None, 0)
        with contextlib.closing(workers.process(part.partition, after, sequence)) as results:
            for item in results:
                if isinstance(item, Processed):
                    self._take(item, part.partition)
                for sink in part.alive():
                    self._attempt(sink, partial(self._feed, sink, item, routes[sink.name]))
                if self.stop or not part.alive():
                    break
        for sink in part.alive():
            self._attempt(sink, partial(self._leave, sink))
        self._emit("committed")
        if self.stop:
            raise StoppedError(self.stop.signal_number)

    def _feed(self, sink: SinkRun, item: Processed | Idle, route: int) -> None:
        if isinstance(item, Processed):
            sink.take(item, item.routes[route])
        if sink.is_due():
            sink.seal(ended=False)
            self._emit("committed")

    def _leave(self, sink: SinkRun) -> None:
        if not sink.is_lost:
            sink.seal(ended=not self.stop, clean=not self._is_incomplete())
        sink.leave()

    def _take(self, item: Processed, partition: Partition) -> None:
        if self.custody is not None:
            self.custody.store.write(item.kept)
        self.bytes_read += item.size
        self._reading(partition)
        self.conversations += item.conversations
        self.messages += item.messages
        self.findings.update(item.findings)

    def _mark_absent(self) -> None:
        for number, fingerprint in enumerate(self.complete if not self.retry_quarantined else (), 1):
            for sink in self._alive():
                self._attempt(sink, partial(sink.mark_absent, fingerprint, self.complete[number:]))

    def _refuse_nothing(self) -> None:
        if self.retry_quarantined or self.resumed or len(self._alive()) < len(self.sinks):
            return
        if not any(s.counts.read for s in self.sinks):
            labels = ", ".join(f"`{s.path}` ({s.type})" for s in self.plan.sources)
            raise InputError(f"no conversations were found in {labels}; check that this is the right file")

    def _check_equations(self) -> None:
        for sink in self.sinks:
            if not sink.counts.holds:
                raise FatalError(
                    f"sink `{sink.name}`: records are unaccounted for ({sink.counts}); this is a defect of a"
                    " component: please report it"
                )

    def _exit_code(self) -> int:
        """Return how the run ended for a sink that has not failed."""
        quarantined = any(s.counts.quarantined for s in self.sinks)
        return 3 if quarantined or (self._is_incomplete() and not self.plan.allow_incomplete) else 0

    def _report(self) -> RunReport:
        failed = {s.name: s.failed for s in self.sinks if s.failed}
        return RunReport(
            run=self.run_id,
            pipeline=self.plan.name,
            exit_code=1 if failed else self._exit_code(),
            sinks={s.name: s.counts for s in self.sinks},
            findings=dict(self.findings),
            dropped=dict(sum((s.dropped for s in self.sinks), Counter())),
            conversations=self.conversations,
            messages=self.messages,
            bytes_read=self.bytes_read,
            seconds=time.monotonic() - self.started,
            unchanged_partitions=tuple(self.unchanged_partitions),
            quarantined=max((s.counts.quarantined for s in self.sinks), default=0),
            incomplete=self._is_incomplete(),
            failed=failed,
            absent={s.name: s.absent for s in self.sinks if s.absent},
            superseded={s.name: tuple(s.superseded) for s in self.sinks if s.superseded},
        )

    def _completeness(self) -> dict[str, Any]:
        """Return what the manifests say about how much of the sources there was."""
        return {
            "sources": self.partitions,
            "findings": dict(self.findings),
            "incomplete": self._is_incomplete(),
            "failed": sorted(s.name for s in self.sinks if s.failed),
        }

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


def _described(step: Step[Source], partition: Partition) -> dict[str, Any]:
    return {
        "type": step.type,
        "label": partition.label,
        "partition": partition.id,
        "fingerprint": partition.fingerprint,
        "size": partition.size,
        "complete": partition.complete,
        "findings": list(partition.findings),
    }
