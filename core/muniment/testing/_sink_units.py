"""Are units all or nothing: invisible before, whole after, once however often they are tried?"""

import threading

import pytest

from muniment.components import Sink, Target
from muniment.errors import TargetBusyError, TransientError
from muniment.model import Origin, Record, Rejected
from muniment.state import quarantine_id
from muniment.testing._sink_base import PARTITION, SinkTests, some_records
from muniment.testing.runs import plan_of, run_plan
from muniment.units import Batch, Counts, Orphan

WAIT_SECONDS = 20
both = pytest.mark.parametrize("top_up", [False, True], ids=["first", "top-up"])


class UnitChecks(SinkTests):
    """The protocol of units, driven without the engine."""

    @both
    def test_nothing_is_visible_before_the_commit(self, sink: Sink, top_up: bool) -> None:
        """Written records appear with the commit (staged) or the seal (transactional), with their checkpoint."""
        self.require_once(sink)
        base = self._base(sink, top_up)
        records, ctx = some_records(3), self.context(sink)
        with sink.open_target(ctx) as target:
            with sink.open(ctx) as writer:
                writer.write(sink.encode(Batch(PARTITION, 1, tuple(records))))
                self._check_nothing(sink, target, base, "`write`")
                prepared = writer.seal(self.unit(1, 3, run=ctx.run, finished=True, plan_hash=ctx.plan_hash))
            if not prepared.committed:
                self._check_nothing(sink, target, base, "`seal` and before `commit`")
            target.commit([prepared], self.fence(sink))
            self.check_stored(sink, {r.key: r for r in (*base, *records)}, target)

    @both
    def test_a_unit_that_was_not_sealed_leaves_nothing(self, sink: Sink, top_up: bool) -> None:
        """A writer that is closed in the middle has written nothing; the next attempt starts clean."""
        self.require_once(sink)
        base = self._base(sink, top_up)
        records, ctx = some_records(3), self.context(sink)
        with sink.open_target(ctx) as target:
            self.require(not target.whole_run, "a run that fails starts again: it writes one object")
            with sink.open(ctx) as writer:
                writer.write(sink.encode(Batch(PARTITION, 1, tuple(records[:2]))))
            self._check_nothing(sink, target, base, "a writer was closed without `seal`")
            target.commit([self.seal(sink, ctx, records[1:])], self.fence(sink))
            self.check_stored(sink, {r.key: r for r in (*base, *records[1:])}, target)

    @both
    def test_an_aborted_unit_leaves_nothing(self, sink: Sink, top_up: bool) -> None:
        """What was sealed and then aborted is gone; the unit can be made again."""
        self.require_once(sink)
        self.require(sink.protocol == "staged", "a transactional seal has committed: there is nothing to abort")
        base = self._base(sink, top_up)
        records, ctx = some_records(3), self.context(sink)
        with sink.open_target(ctx) as target:
            target.abort([self.seal(sink, ctx, records[:2])])
            self._check_nothing(sink, target, base, "`abort`")
            left = list(target.orphans())
            assert left == [], f"`abort` left {left[:3]}; it must remove what the seal has staged"
        with sink.open_target(ctx) as target:
            self._check_nothing(sink, target, base, "`abort`, in the next run")
            target.commit([self.seal(sink, ctx, records)], self.fence(sink))
            self.check_stored(sink, {r.key: r for r in (*base, *records)}, target)

    def test_a_commit_twice_is_one_commit(self, sink: Sink) -> None:
        """The engine repeats a commit whose answer was lost."""
        self.require_once(sink)
        records, ctx = some_records(2), self.context(sink)
        with sink.open_target(ctx) as target:
            prepared = self.seal(sink, ctx, records)
            for _ in range(3):
                target.commit([prepared], self.fence(sink))
            self.check_stored(sink, {r.key: r for r in records}, target)
            assert list(target.orphans()) == []

    @both
    def test_of_two_attempts_at_a_unit_one_counts(self, sink: Sink, top_up: bool) -> None:
        """A second writer that seals the same unit doubles nothing, whichever is committed."""
        self.require_once(sink)
        base = self._base(sink, top_up)
        records, ctx = some_records(3), self.context(sink)
        with sink.open_target(ctx) as target:
            first = self.seal(sink, ctx, records)
            self.require(first.committed or not target.whole_run, "all writers of a run write one object")
            second = self.seal(sink, ctx, records)
            if first.committed:
                target.commit([first], self.fence(sink))
                target.commit([second], self.fence(sink))
            else:
                target.commit([second], self.fence(sink))
                target.abort([first])
            self.check_stored(sink, {r.key: r for r in (*base, *records)}, target)
            assert list(target.orphans()) == [], "the attempt that lost has left something behind"
        self.check_stored(sink, {r.key: r for r in (*base, *records)})

    def test_it_knows_the_last_checkpoint(self, sink: Sink) -> None:
        """After reopening, `committed` gives the checkpoint of each partition's last unit, with every field."""
        self.require_memory()
        ctx, records = self.context(sink), some_records(3)
        with sink.open_target(ctx) as target:
            first = self.seal(sink, ctx, records[:1], 1)
            if not target.whole_run:
                target.commit([first], self.fence(sink))
            second = self.seal(sink, self.context(sink, first_unit=2), records[1:2], 2, finished=True)
            other = self.seal(sink, self.context(sink, first_unit=3), records[2:], 3, partition="list:other/ü")
            target.commit([first, second, other] if target.whole_run else [second, other], self.fence(sink))
            target.end_run(ctx.run, 0, Counts(3, 3))

        with sink.open_target(self.context(sink, "20260102T030405-00000002")) as target:
            found = target.committed()
        expected = {u.checkpoint.partition: u.checkpoint for u in (second.unit, other.unit)}
        assert dict(found) == expected, (
            f"`committed` must return the checkpoints of the last units, {expected}; it returned {dict(found)}"
        )

    def test_it_keeps_the_quarantine(self, sink: Sink) -> None:
        """What a unit carried is told by `quarantined`, with partition, stage and reason, until it is resolved.

        What stands at the same bytes of two files of a partition is two entries.
        """
        self.require_memory()
        ctx = self.context(sink)
        bad = tuple(
            Rejected(Origin(label, PARTITION, 10, 20, "d" * 64), "decode", f"not JSON in {label}", "test:bad")
            for label in ("one", "two")
        )
        with sink.open_target(ctx) as target:
            target.commit([self.seal(sink, ctx, some_records(1), quarantined=bad)], self.fence(sink))
        with sink.open_target(self.context(sink, "20260102T030405-00000002")) as target:
            entries = sorted((e["partition"], e["stage"], e["reason"]) for e in target.quarantined())
        assert entries == [(PARTITION, "decode", r.reason) for r in bad], (
            f"`quarantined` must return the two entries that the unit carried; it returned {entries}"
        )

    def test_it_calls_an_entry_what_all_sinks_call_it(self, sink: Sink) -> None:
        """The `id` of an entry is its `quarantine_id`: the content that is kept of it is found by that."""
        self.require_memory()
        ctx = self.context(sink)
        bad = Rejected(Origin("list", PARTITION, 10, 20, "d" * 64), "decode", "not JSON", "test:bad")
        with sink.open_target(ctx) as target:
            target.commit([self.seal(sink, ctx, some_records(1), quarantined=(bad,))], self.fence(sink))
        with sink.open_target(self.context(sink, "20260102T030405-00000002")) as target:
            ids = [e.get("id") for e in target.quarantined()]
        expected = quarantine_id(bad)
        assert ids == [expected], f"the entry's `id` must be `quarantine_id` of its place, {expected}; it is {ids}"

    def test_it_hears_how_a_run_ends(self, sink: Sink) -> None:
        """`end_run` is accepted, also of a run that committed nothing, and whatever its exit code."""
        ctx = self.context(sink)
        with sink.open_target(ctx) as target:
            if target.whole_run:
                target.commit([self.seal(sink, ctx, [])], self.fence(sink))
            target.end_run(ctx.run, 3, Counts(2, 1, quarantined=1))
        with sink.open_target(self.context(sink, "20260102T030405-00000002")) as target:
            assert all(isinstance(o, Orphan) for o in target.orphans())

    def test_two_runs_at_once_lose_nothing(self, sink: Sink) -> None:
        """A second run is refused with `TargetBusyError`, waits, or stores its records beside the first one's."""
        self.require(self.outlives_process, "the place is in this process")
        self.require_memory()
        ours, theirs = some_records(3), some_records(3, start=2)
        ctx = self.context(sink)
        ended: list[BaseException | None] = []
        other = threading.Thread(target=self._run, args=(sink, theirs, ended), daemon=True)
        busy = (TargetBusyError, TransientError)
        with sink.open_target(ctx) as target:
            prepared = self.seal(sink, ctx, ours[:2])
            other.start()
            other.join(3 if self.locks else WAIT_SECONDS)
            finished = not other.is_alive()
            if self.locks and finished:
                assert isinstance(ended[0], TargetBusyError), (
                    f"a second run ended with {ended[0]!r} while the target was held; raise `TargetBusyError` in"
                    " `open_target`, or wait, or set `locks = False`"
                )
            try:
                target.commit([prepared], self.fence(sink))
            except busy:
                target.abort([prepared])
        other.join(WAIT_SECONDS)
        assert not other.is_alive(), "the second run waits for ever"
        if ended[0] is not None and not isinstance(ended[0], busy):
            raise ended[0]

        for records in (ours, theirs):
            assert self.counts(sink, records).holds
        self.check_stored(sink, {r.key: r for r in (*ours, *theirs)})

    def _run(self, sink: Sink, records: list[Record], ended: list[BaseException | None]) -> None:
        try:
            run_plan(plan_of(sink, records, state_dir=self.state_dir))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            ended.append(error)
        else:
            ended.append(None)

    def _base(self, sink: Sink, top_up: bool) -> list[Record]:
        """Return what an earlier run has stored."""
        if not top_up:
            return []
        self.require_memory()
        base = some_records(2, start=20)
        self.archive(sink, base)
        return base

    def _check_nothing(self, sink: Sink, target: Target, base: list[Record], when: str) -> None:
        if found := target.committed().get(PARTITION):
            pytest.fail(
                f"after {when}, `committed` returns {found}; the checkpoint must become visible together with its"
                " data, or a killed run would lose what it passes"
            )
        if not self.can_read(sink):
            return
        if visible := self.stored(sink, target).keys() - {r.key for r in base}:
            pytest.fail(
                f"after {when}, {len(visible)} of its records are visible; stage them, or keep them in an open"
                " transaction, until the unit is committed"
            )
        self.check_stored(sink, {r.key: r for r in base}, target)
