"""Does the next run put right what a kill or a failure has left?"""

import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from muniment.canonical import to_json
from muniment.components import Sink
from muniment.errors import FatalError
from muniment.lock import TargetLock
from muniment.model import Record
from muniment.testing._sink_again import newer
from muniment.testing._sink_base import SinkTests, some_records
from muniment.testing.faults import STEPS, Faults, FaultySink, Kill, KilledError, Point, RandomFaults
from muniment.testing.kill import shared_killer
from muniment.testing.records import changed, make_asset
from muniment.testing.runs import NAME, plan_of, run_plan
from muniment.units import Counts

MAX_ATTEMPTS = 80
_CALLS = {"open_target": 1, "open": 1, "write": 4, "seal": 3, "commit": 3, "end_run": 1}
"""How often a run of four records in units of two makes each call."""
_QUICK = {
    "open 1": "b", "write 2": "b", "write 3": "a", "seal 1": "ab", "commit 1": "ab", "seal 3": "a", "commit 3": "ab",
    "end_run 1": "a",
}  # fmt: skip


def _points() -> Iterator[Any]:
    for step in STEPS:
        for number in range(1, _CALLS[step] + 1):
            for before in (True, False):
                quick = ("b" if before else "a") in _QUICK.get(f"{step} {number}", "")
                point = Point(step, number, before)
                yield pytest.param(point, id=str(point), marks=() if quick else pytest.mark.slow)


class FaultChecks(SinkTests):
    """Kill it anywhere, fail it anywhere: nothing lost, nothing doubled, every id accounted for."""

    random_faults = 10
    random_faults_slow = 100

    @pytest.mark.parametrize("top_up", [False, True], ids=["first", "top-up"])
    @pytest.mark.parametrize("point", list(_points()))
    def test_it_survives_a_kill(self, sink: Sink, point: Point, top_up: bool) -> None:
        """SIGKILL at a point of a first run or a top-up, then a normal run: as if nobody had disturbed it."""
        old = some_records(4) if top_up else []
        new = [newer(old[0], "More"), old[1], *some_records(2, start=4)] if top_up else some_records(4)
        if top_up:
            self.archive(sink, old)

        self._kill(sink, new, point)
        self._check_whole(sink, old, new)
        counts = self.counts(sink, new)

        assert counts.quarantined == 0
        self.check_stored(sink, self.merged(sink, *(old if self.accumulates else ()), *new))
        if self.accumulates:
            assert self.counts(sink, new) == Counts(read=4, unchanged=4), "a third run found something to store"

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_it_survives_random_faults(self, sink: Sink, seed: int) -> None:
        """Transient faults are retried, fatal ones end a run; the next run goes on, until all is stored."""
        self._disturb(sink, seed, -(-self.random_faults // 3))

    @pytest.mark.slow
    def test_it_survives_many_random_faults(self, sink: Sink) -> None:
        """The same, many times over in one place."""
        self._disturb(sink, 7, self.random_faults_slow)

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
    def test_it_goes_on_after_a_failure(self, sink: Sink, step: str, before: bool) -> None:
        """A fatal error leaves what was committed; the next run completes."""
        records = some_records(4)

        def strike(point: Point) -> None:
            if point == Point(step, 1, before):
                raise FatalError("injected")

        with pytest.raises(FatalError, match="injected"):
            self.archive(FaultySink(sink=sink, faults=Faults(strike)), records)
        self._check_whole(sink, [], records)
        counts = self.counts(sink, records)

        assert counts.quarantined == 0 and counts.holds
        self.check_stored(sink, {r.key: r for r in records})

    @pytest.mark.parametrize("chunk_records", [1, 5])
    def test_a_refused_record_is_rejected_alone(self, sink: Sink, chunk_records: int) -> None:
        """`RecordError` quarantines that record; it is resolved when it is stored later."""
        records = some_records(5)
        faulty = FaultySink(sink=sink, refused=frozenset([records[2].key]))

        report = self.archive(faulty, records, chunk_records=chunk_records)

        assert (report.exit_code, report.sinks[NAME]) == (3, Counts(5, 4, quarantined=1))
        rest = {r.key: r for r in records if r is not records[2]}
        self.check_stored(sink, rest)
        assert self.counts(sink, records).holds
        self.check_stored(sink, {**rest, records[2].key: records[2]})
        if self.accumulates:
            with sink.open_target(self.context(sink, "reader")) as target:
                left = [e for e in target.quarantined() if e.get("status", "open") == "open"]
            assert left == [], "the partition was read again and nothing was rejected: resolve its open entries"

    @pytest.mark.parametrize("chunk_records", [1, 3])
    def test_a_record_that_the_store_refuses_is_rejected_alone(self, sink: Sink, chunk_records: int) -> None:
        """What this store cannot take (too large, an invalid key) is quarantined, the others are stored."""
        refused = self.refused_record()
        self.require(refused is not None, "`refused_record` names no record that the store refuses")
        assert refused is not None
        good = some_records(2)

        counts = self.counts(sink, [good[0], refused, good[1]], chunk_records=chunk_records)

        assert counts == Counts(3, 2, quarantined=1)
        self.check_stored(sink, {r.key: r for r in good})

    @pytest.mark.parametrize("damage", ["other bytes", "cut off"])
    def test_an_asset_that_is_not_what_it_says_rejects_its_record(self, sink: Sink, damage: str) -> None:
        """Bytes that do not have the digest are never stored under it; the others are stored."""
        self.require(self.keeps_assets, "the sink stores no assets (`keeps_assets = False`)")
        asset = make_asset(b"the true bytes", "file-1", name="x.bin")
        good = some_records(3)
        bad = changed(good[1], assets=(asset,))
        assets = {asset.sha256 or "": b"other bytes" if damage == "other bytes" else b"the true"}

        counts = self.counts(sink, [good[0], bad, good[2]], assets=assets)

        assert counts == Counts(3, 2, quarantined=1), (
            f"a record whose asset has other bytes than its digest says gave {counts}; hash what is copied, and"
            " reject the record with `RecordError` or in `Receipt.rejected`"
        )
        self.check_stored(sink, {r.key: r for r in (good[0], good[2])})
        assert self.read_asset(sink, asset) is None, "the wrong bytes stand under the digest of the right ones"
        counts = self.counts(sink, [good[0], bad, good[2]], assets={asset.sha256 or "": b"the true bytes"})
        assert counts.quarantined == 0
        assert self.read_asset(sink, asset) == b"the true bytes"

    def test_an_asset_that_is_gone_is_accounted_for(self, sink: Sink) -> None:
        """Without its bytes the record is stored all the same or quarantined; the others are stored."""
        self.require(self.keeps_assets, "the sink stores no assets (`keeps_assets = False`)")
        good = some_records(3)
        bad = changed(good[1], assets=(make_asset(b"gone", "file-1"),))

        counts = self.counts(sink, [good[0], bad, good[2]])

        assert counts.stored + counts.quarantined == 3 and counts.stored >= 2
        stored = good if counts.quarantined else [good[0], bad, good[2]]
        self.check_stored(sink, {r.key: r for r in stored if r is not good[1]})

    # --- how a run is disturbed ----------------------------------------------------------------

    def _kill(self, sink: Sink, records: list[Record], point: Point) -> None:
        faults = Faults(Kill(point, really=self.outlives_process))
        plan = plan_of(FaultySink(sink=sink, faults=faults), records, state_dir=self.state_dir)
        if not self.outlives_process:
            with suppress(KilledError):
                run_plan(plan)
            _drop_locks()
            self.require(faults.dead, f"a run of this sink never comes to {point}")
            return
        death = shared_killer().run(plan, type(sink))
        if death.error:
            pytest.fail(f"the run that was to be killed {point} failed by itself: {death.error}")
        self.require(death.signal_number, f"a run of this sink never comes to {point}")

    def _disturb(self, sink: Sink, seed: int, faults: int) -> None:
        strike = RandomFaults(seed)
        stored: list[Record] = []
        number = 0
        while len(strike.fired) < faults:
            records = some_records(4, start=number)
            records = [newer(r, "again", days=number + 1) if number % 3 == 0 else r for r in records]
            number += 2
            counts = self._until_it_ends(sink, records, strike)
            assert counts.quarantined == 0 and counts.holds
            stored = [*stored, *records] if self.accumulates else records
            self.check_stored(sink, self.merged(sink, *stored))

    def _until_it_ends(self, sink: Sink, records: list[Record], strike: RandomFaults) -> Counts:
        for _ in range(MAX_ATTEMPTS):
            try:
                return self.counts(FaultySink(sink=sink, faults=Faults(strike)), records)
            except FatalError as error:
                assert "injected" in str(error), f"after injected faults ({strike.fired[-3:]}) a run failed: {error}"
        pytest.fail(f"{MAX_ATTEMPTS} runs with random faults did not end")

    def _check_whole(self, sink: Sink, old: list[Record], new: list[Record]) -> None:
        """Fail if something half-written can be seen after a run that did not end."""
        if not self.can_read(sink):
            return
        found = self.stored(sink)
        sound: dict[str, set[bytes]] = {}
        for record in (*old, *new, *self.merged(sink, *old, *new).values()):
            sound.setdefault(record.key, set()).add(to_json(record.conversation))
        torn = [k for k, r in found.items() if to_json(r.conversation) not in sound.get(k, ())]
        assert not torn, f"after a run that did not end, `{torn[0]!a}` is neither what it was nor what it becomes"
        lost = [r.key for r in old if r.key not in found and self.accumulates]
        assert not lost, f"after a run that did not end, `{lost[0]!a}` of an earlier run is gone"


def _drop_locks() -> None:
    """Do what the kernel does when a process dies: its locks are gone."""
    for found in gc.get_objects():
        if isinstance(found, TargetLock):
            found.release()
