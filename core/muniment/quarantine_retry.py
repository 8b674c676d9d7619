"""How are quarantined records tried again from what was kept of them, without their input?

The current plan decides.  Only sinks that have an entry open are given its record.  A partition's open
entries all come in one go, so that the unit which ends it resolves those that did not fail again; those
of which nothing was kept are noted once more as they were.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from attrs import define, evolve, field, frozen

from muniment.components import Source, no_assets
from muniment.errors import DamagedError, FatalError, StoppedError
from muniment.model import Asset, Record, Rejected
from muniment.pipeline import Run, RunReport, StopFlag
from muniment.plan import Plan, Step
from muniment.process import Processed, Processor
from muniment.quarantine import Content, KeptSource, as_rejected, id_of, in_partition
from muniment.quarantine_store import Custody, Store
from muniment.sink_run import SinkRun
from muniment.state import quarantine_id
from muniment.units import Chunk

if TYPE_CHECKING:
    from muniment.plugins import Registry

Entry = Mapping[str, Any]


@frozen
class Retried:
    """What a retry came to: its report, and by sink the ids of the entries that were open and still are.

    ``without_content`` are those of the latter of which nothing was kept: only their input can help.
    """

    report: RunReport
    before: dict[str, set[str]]
    left: dict[str, set[str]]
    without_content: dict[str, set[str]]


def retry_kept(plan: Plan, registry: "Registry", *, stop: StopFlag | None = None) -> Retried:
    """Try again, with the current plan, what was kept of quarantined records; remove content that nobody owes.

    Raises:
        TargetBusyError: another run holds a target.
        StoppedError: ``stop`` was set; what was sealed before is committed.
        WrongKeyError: the content was encrypted for other keys.
        FatalError: a sink failed for good, and the pipeline says that the others stop with it.
    """
    run = _Retry(plan, registry, StopFlag() if stop is None else stop, retry_quarantined=True)
    report = run.run()
    left = {name: run.left.get(name, ids) for name, ids in run.before.items()}
    return Retried(report, run.before, left, {name: ids - run.kept for name, ids in left.items()})


def remove_orphans(plan: Plan, registry: "Registry", *, dry_run: bool = False) -> list[str]:
    """Remove content that no entry of any target needs, such as a killed run leaves; return the file names.

    All targets are held meanwhile, so that no run is writing any.

    Raises:
        TargetBusyError: another run holds a target.
    """
    if plan.keeping is None or not plan.keeping.path.is_dir():
        return []
    run = _Retry(plan, registry, StopFlag(), retry_quarantined=True)
    with contextlib.closing(Store(plan.keeping.path, plan.keeping.pipeline)) as store:
        return run.remove_orphans(store, dry_run=dry_run)


@define
class _Group:
    """The open entries of one partition, by id, each with the sinks that owe it."""

    owing: dict[str, dict[str, Entry]] = field(factory=lambda: defaultdict(dict))

    def of(self, sink: SinkRun) -> dict[str, Entry]:
        return {id_: entries[sink.name] for id_, entries in self.owing.items() if sink.name in entries}


@define(eq=False)
class _Retry(Run):
    before: dict[str, set[str]] = field(factory=dict)
    left: dict[str, set[str]] = field(factory=dict)
    kept: set[str] = field(factory=set)
    damaged: set[str] = field(factory=set)
    processors: dict[str, Processor] = field(factory=dict)
    open_assets: dict[str, Callable[[Asset], BinaryIO]] = field(factory=dict)

    def remove_orphans(self, store: Store, *, dry_run: bool) -> list[str]:
        with contextlib.ExitStack() as stack:
            for path in self.plan.sinks:
                sink = stack.enter_context(SinkRun(self.plan, path, self._context(path.step.path)))
                sink.open()
                self.sinks.append(sink)
            names = store.orphans(self._owed())
            if not dry_run:
                store.delete(names)
        return names

    # --- what is tried ----------------------------------------------------------------------

    def _read_sources(self) -> None:
        custody = self._custody
        if len(self._alive()) == len(self.sinks):
            # All targets are held, so nobody is about to commit an entry.
            custody.store.delete(custody.store.orphans(custody.held))
        self.before = {s.name: {id_of(e) for e in s.entries()} for s in self._alive()}
        self._let_go()
        self.kept = custody.store.ids()
        with contextlib.ExitStack() as stack:
            for group in self._groups():
                self._try_group(group, stack)

    @property
    def _custody(self) -> Custody:
        assert self.custody is not None
        return self.custody

    def _groups(self) -> list[_Group]:
        """Return the partitions of which at least one entry's content was kept."""
        groups: dict[str, _Group] = defaultdict(_Group)
        for sink in self._alive():
            for number, entry in enumerate(sink.entries()):
                # One that nobody can name is kept apart from all others.
                groups[str(entry["partition"])].owing[id_of(entry) or f"?{number}"][sink.name] = entry
        return [g for g in groups.values() if not self.kept.isdisjoint(g.owing)]

    def _try_group(self, group: _Group, stack: contextlib.ExitStack) -> None:
        contents = self._contents(group)
        first = next(contents, None)
        step = self._step_of(first) if first else None
        if first is None or step is None:
            return
        sinks = [s for s in self._alive() if group.of(s)]
        processor = self._processor(step, stack)
        routes = {s.name: i for i, s in enumerate(self.sinks)}
        for sink in sinks:
            self._attempt(sink, partial(sink.begin, first.partition, None, skip=False))
        tried: set[str] = set()
        for number, content in enumerate(chain([first], contents), 1):
            tried.add(content.id)
            chunk = Chunk(first.partition, number, None, content, len(content.data))
            records = [r for r in processor.decode(chunk) if isinstance(r, Record)]
            item = processor.process(chunk)
            owing = [s for s in sinks if not s.failed and s.name in group.owing[content.id]]
            self._take(_for_routes(item, [routes[s.name] for s in owing]), first.partition)
            for sink in owing:
                self._attempt(sink, partial(_try, sink, content.id, records, item, routes[sink.name]))
            if self.stop or all(s.failed for s in sinks):
                break
        for sink in [s for s in sinks if not s.failed]:
            # What could not be tried stays open.  A run that was stopped resolves nothing.
            rest = [sink.noted_again(as_rejected(e)) for id_, e in group.of(sink).items() if id_ not in tried]
            self._attempt(sink, partial(_end, sink, [] if self.stop else rest, last=not self.stop))
        self._emit("committed")
        if self.stop:
            raise StoppedError(self.stop.signal_number)

    def _contents(self, group: _Group) -> Iterator[Content]:
        """Yield what was kept, one at a time, in the order of the source; what is damaged is left out."""

        def order(id_: str) -> tuple[int, str]:
            return int(next(iter(group.owing[id_].values())).get("start") or 0), id_

        source: tuple[str, str] | None = None
        for id_ in sorted(self.kept.intersection(group.owing), key=order):
            try:
                content = self._custody.load(id_)
            except DamagedError:
                self.findings["damaged_quarantine_content"] += 1
                self.damaged.add(id_)
                continue
            if content is not None and source in (None, content.source):
                source = content.source
                yield content

    def _step_of(self, content: Content) -> Step[Source] | None:
        """Return the source of the plan that reads what ``content`` is; None if there is none any more."""
        kind, path = content.source
        same = [s for s in self.plan.sources if s.type == kind]
        return next((s for s in same if s.path == path), same[0] if same else None)

    def _processor(self, step: Step[Source], stack: contextlib.ExitStack) -> Processor:
        """Return the plan from ``step`` on, opened; the sinks get its files where the input is still there."""
        self._come_from(step)
        if step.path not in self.open_assets:
            self.open_assets[step.path] = no_assets
            # That is what was kept for: the input may be gone.
            with contextlib.suppress(FatalError, OSError):
                reader = stack.enter_context(step.component.open(self._context(step.path)))
                self.open_assets[step.path] = reader.open_asset
        for sink in self._alive():
            sink.bind(self.open_assets[step.path])
        found = self.processors.get(step.path)
        if found is None:
            job = self._job(step, KeptSource(inner=step.component), [s.route({}) for s in self.sinks])
            found = self.processors[step.path] = Processor(job)
            stack.callback(found.close)
        return found

    # --- how it ended -----------------------------------------------------------------------

    def _release(self) -> None:
        super()._release()
        self.kept = self._custody.store.ids() - self.damaged
        self.left = {s.name: {id_of(e) for e in s.entries()} for s in self._alive()}

    def _commit_what_others_hold(self, failed: SinkRun) -> None:
        for sink in self._alive():
            if sink is not failed and sink.holds_a_unit:
                # The first failure is the one to tell; what is open stays open for the next retry.
                with contextlib.suppress(Exception):
                    sink.settle(last=False)

    def _completeness(self) -> dict[str, Any]:
        superseded = {s.name: s.superseded for s in self.sinks if s.superseded}
        return {**super()._completeness(), "superseded": superseded}


def _for_routes(item: Processed, routes: Sequence[int]) -> Processed:
    """Return ``item`` with the content of what was rejected on these routes: what another sink has is not owed."""
    names = {
        quarantine_id(in_partition(rejected, item.partition)) for i in routes for rejected in item.routes[i].rejected
    }
    return evolve(item, kept={name: data for name, data in item.kept.items() if name in names})


def _try(sink: SinkRun, id_: str, records: Sequence[Record], item: Processed, route: int) -> None:
    """Give one sink what it owes."""
    if records and all(sink.target.holds_newer(r) for r in records):
        sink.pass_over(item.read)
        sink.superseded.append(id_)
    elif sink.take(item, item.routes[route]):
        # Not the same, which was asked for before: the sink holds more.
        sink.superseded.append(id_)
    if sink.can_settle:
        sink.settle(last=False)


def _end(sink: SinkRun, rest: Sequence[Rejected], *, last: bool) -> None:
    sink.leave_open(rest)
    sink.settle(last=last)
    sink.leave()
