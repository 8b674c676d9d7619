"""Several sinks in one run: each has its own fate, and none takes another's records with it."""

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import ConfigError, Context, Counts, FatalError, InputError, TargetBusyError, TransientError
from muniment.components import Target
from muniment.engine.local import Local
from muniment.engine.pool import Pool
from muniment.errors import StoppedError
from muniment.events import RunEvent
from muniment.pipeline import RunReport, StopFlag, run
from muniment.plan import Plan, SinkPath, Step
from muniment.process import Job, Processor, Route, RouteResult
from muniment.sinks.upsert import UpsertWriter
from muniment.testing import ListSource, MemoryStore, MemoryUpsert, make_record
from muniment.units import Chunk, UnitBounds

LETTERS = "abcdefghij"


class Events:
    def __init__(self) -> None:
        self.heard: list[RunEvent] = []

    def call_run_event(self, event: RunEvent) -> None:
        self.heard.append(event)


@frozen(kw_only=True)
class Busy(MemoryUpsert):
    def open_target(self, ctx: Context) -> Target:
        raise TargetBusyError("another run writes to `b`; wait until it has finished")


def failing(at, error=None):
    """Return what raises at the ``at``-th call and from then on."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) >= at:
            raise error or FatalError("the disk is full")

    return call


def records(letters=LETTERS):
    return [make_record(c, title=c) for c in letters]


def source(letters=LETTERS, chunk_records=1, **more):
    return ListSource(records=records(letters), chunk_records=chunk_records, **more)


def plan(*sinks, read=None, unit=2, on_failure="continue", engine=None, file=""):
    return Plan(
        name="test",
        file=file,
        sources=(Step("list", "source", read or source()),),
        sinks=tuple(
            SinkPath(
                step=Step("memory", f"sinks[{i}]", s), name="abcdef"[i], max_unit_records=unit, on_failure=on_failure
            )
            for i, s in enumerate(sinks)
        ),
        engine=engine or Local(),
    )


def go(*stores, **more) -> RunReport:
    return run(plan(*(MemoryUpsert(store=s) for s in stores), **more), Events())


def keys(letters=LETTERS):
    return [f"test:{c}" for c in letters]


class TestContinue:
    """With `on_failure: continue` a sink that fails is left to the next run."""

    def test_the_others_go_on_to_the_end(self):
        good, bad = MemoryStore(), MemoryStore(before_commit=failing(2))

        report = go(good, bad)

        assert (list(good.records), list(bad.records)) == (keys(), keys("ab"))
        assert report.exit_code == 1
        assert report.failed == {"b": "the disk is full"}
        assert report.sinks == {"a": Counts(read=10, stored=10), "b": Counts(read=2, stored=2)}

    def test_the_failed_one_resumes_where_it_was(self):
        """The next run reads for it alone; of the other, all counts as unchanged."""
        good, bad = MemoryStore(), MemoryStore(before_commit=failing(2))
        go(good, bad)
        good.before_write, bad.before_commit = failing(1), lambda: None

        report = go(good, bad)

        assert (report.exit_code, report.failed) == (0, {})
        assert report.sinks == {"a": Counts(read=10, unchanged=10), "b": Counts(read=8, stored=8)}
        assert report.conversations == 8
        assert list(bad.records) == keys()

    def test_the_ledger_of_the_others_says_that_they_ended_well(self):
        good, bad = MemoryStore(), MemoryStore(before_write=failing(1))

        go(good, bad)

        assert [(code, counts.stored) for _, code, counts in good.runs] == [(0, 10)]
        assert bad.runs == []

    def test_a_target_that_another_run_holds(self):
        """It fails before anything is read."""
        good = MemoryStore()

        report = run(plan(Busy(store=MemoryStore()), MemoryUpsert(store=good)), Events())

        assert report.failed == {"a": "another run writes to `b`; wait until it has finished"}
        assert list(good.records) == keys()

    def test_an_error_that_lasts(self, monkeypatch):
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        good, bad = MemoryStore(), MemoryStore(before_write=failing(3, TransientError("no answer", 0.0)))

        assert go(good, bad).failed == {"b": "no answer"}
        assert list(good.records) == keys()

    def test_a_defect_of_a_sink_is_told_by_its_type(self):
        """The text of a foreign error may quote a conversation."""
        good, bad = MemoryStore(), MemoryStore(before_write=failing(3, KeyError("secret text")))

        assert go(bad, good).failed == {
            "a": "`KeyError` was raised where nothing should: this is a defect of the sink; please report it"
        }
        assert list(good.records) == keys()

    def test_all_may_fail(self):
        """Then reading ends."""
        stores = [MemoryStore(before_write=failing(n)) for n in (2, 4)]

        report = go(*stores, unit=1)

        assert (report.exit_code, len(report.failed), report.conversations) == (1, 2, 4)

    def test_the_end_of_the_run_may_fail(self, monkeypatch):
        """What was committed is there; only the ledger does not know."""
        store = MemoryStore()
        monkeypatch.setattr(MemoryUpsert, "save_end", lambda *_: failing(1)())

        assert go(store).failed == {"a": "the disk is full"}
        assert list(store.records) == keys()

    def test_the_source_is_nobodys_fault(self):
        """An input that cannot be read stops every sink."""
        with pytest.raises(InputError):
            go(MemoryStore(), read=source(fail_at=5, error=InputError))

    def test_nor_is_the_configuration(self):
        with pytest.raises(ConfigError, match="no password"):
            go(MemoryStore(), MemoryStore(before_write=failing(1, ConfigError("no password"))))


class TestStop:
    """With `on_failure: stop` the others commit what they hold, and the run ends."""

    def test_the_others_keep_what_they_hold(self):
        first, bad, last = MemoryStore(), MemoryStore(before_write=failing(4)), MemoryStore()

        with pytest.raises(FatalError, match="^the disk is full$"):
            go(first, bad, last, unit=100, on_failure="stop")

        assert (list(first.records), list(bad.records), list(last.records)) == (keys("abcd"), [], keys("abc"))

    def test_the_next_run_loses_and_doubles_nothing(self):
        stores = [MemoryStore(), MemoryStore(before_write=failing(4)), MemoryStore()]
        with pytest.raises(FatalError):
            go(*stores, unit=100, on_failure="stop")
        stores[1].before_write = lambda: None

        report = go(*stores, on_failure="stop")

        assert [c.stored for c in report.sinks.values()] == [6, 10, 7]
        assert all(list(s.records) == keys() for s in stores)

    def test_the_first_failure_is_the_one_to_tell(self):
        stores = [MemoryStore(before_commit=failing(1)), MemoryStore(before_write=failing(2, FatalError("no space")))]

        with pytest.raises(FatalError, match="no space"):
            go(*stores, unit=100, on_failure="stop")

    def test_it_names_the_pipeline_and_the_sink(self):
        bad = MemoryStore(before_write=failing(1))

        with pytest.raises(FatalError) as caught:
            go(MemoryStore(), bad, on_failure="stop", file="pipe.yaml")

        assert str(caught.value) == "pipe.yaml: sink `b`: the disk is full"

    def test_a_busy_target_keeps_its_exit_code(self):
        with pytest.raises(TargetBusyError) as caught:
            run(plan(MemoryUpsert(store=MemoryStore()), Busy(store=MemoryStore()), on_failure="stop"), Events())

        assert caught.value.exit_code == 11


class TestSkip:
    """A sink that is ahead takes nothing until its own place comes."""

    @settings(max_examples=60, deadline=None)
    @given(
        fails=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
        chunk=st.integers(1, 3),
        unit=st.integers(1, 4),
        on_failure=st.sampled_from(["stop", "continue"]),
        at_commit=st.booleans(),
    )
    def test_failures_anywhere_lose_and_double_nothing(self, fails, chunk, unit, on_failure, at_commit):
        """Whatever fails when, one more run ends as an undisturbed one would have."""
        stores = [MemoryStore() for _ in fails]
        for store, at in zip(stores, fails, strict=True):
            setattr(store, "before_commit" if at_commit else "before_write", failing(at))
        read = source(chunk_records=chunk)
        try:
            first = go(*stores, read=read, unit=unit, on_failure=on_failure)
            assert all(c.holds for c in first.sinks.values())
        except FatalError:
            pass
        had = [len(s.records) for s in stores]
        for store in stores:
            store.before_write = store.before_commit = lambda: None

        report = go(*stores, read=read, unit=unit)

        assert [list(s.records) for s in stores] == [keys()] * 3
        assert [c.stored for c in report.sinks.values()] == [10 - n for n in had]
        assert all(c.unchanged in (0, 10) for c in report.sinks.values())

    def test_workers_do_no_work_for_what_is_skipped(self, monkeypatch):
        """Neither its transforms nor its encoding."""
        good, bad = MemoryStore(), MemoryStore(before_write=failing(3))
        with pytest.raises(RuntimeError):
            go(good, bad, read=source(fail_at=8), unit=1)
        bad.before_write = lambda: None
        encoded = []

        def encode(self, batch):
            encoded.extend((self.store is good, r.key) for r in batch.records)
            return batch

        monkeypatch.setattr(MemoryUpsert, "encode", encode)

        report = go(good, bad, unit=1)

        assert [key for is_good, key in encoded if is_good] == keys("ij")
        assert [key for is_good, key in encoded if not is_good] == keys("cdefghij")
        assert report.sinks == {"a": Counts(read=2, stored=2), "b": Counts(read=8, stored=8)}

    @pytest.mark.parametrize("place", [1, 3, 12, 99])
    def test_a_place_that_does_not_come_means_reading_again(self, place):
        """The source was cut otherwise by another version: the sink then relies on its keys."""
        good, bad = MemoryStore(), MemoryStore(before_write=failing(3))
        with pytest.raises(RuntimeError):
            go(good, bad, read=source(fail_at=8), unit=1)
        bad.before_write = lambda: None
        ((partition, checkpoint),) = good.checkpoints.items()
        good.checkpoints[partition] = evolve(checkpoint, sequence=place)

        report = go(good, bad)

        assert list(good.records) == list(bad.records) == keys()
        assert good.checkpoints[partition].finished
        assert report.sinks["a"] in (Counts(read=10, stored=2, unchanged=8), Counts(read=2, stored=2))

    def test_a_stop_leaves_its_checkpoint(self):
        good, bad = MemoryStore(), MemoryStore(before_write=failing(3))
        with pytest.raises(RuntimeError):
            go(good, bad, read=source(fail_at=8), unit=1)
        before, stop = dict(good.checkpoints), StopFlag()
        bad.before_write = lambda: stop.set(15)

        with pytest.raises(StoppedError):
            run(plan(MemoryUpsert(store=good), MemoryUpsert(store=bad)), Events(), stop=stop)

        assert good.checkpoints == before


@pytest.mark.parametrize("engine", [Local(), Pool(workers=2)])
def test_real_sinks_fail_and_resume_alone(tmp_path, engine):
    """Files beside an archive, in one process or in two."""
    from muniment_plugins.sinks.files import Files
    from muniment_plugins.sinks.sqlite import SQLite

    in_the_way = tmp_path / "chats"
    in_the_way.write_text("")
    both = evolve(
        plan(SQLite(path=str(tmp_path / "a.db")), Files(path=str(in_the_way), format="jsonl", mode="append")),
        engine=engine,
        state_dir=tmp_path,
    )
    first = run(both, Events())
    in_the_way.unlink()

    report = run(both, Events())

    assert (first.exit_code, list(first.failed)) == (1, ["b"])
    assert (report.exit_code, report.failed) == (0, {})
    assert report.sinks == {"a": Counts(read=10, unchanged=10), "b": Counts(read=10, stored=10)}


class TestOwnUnits:
    """A sink says which units suit it; the pipeline has the last word."""

    def test_a_sink_prefers_bounds(self, monkeypatch):
        @frozen(kw_only=True)
        class Slow(MemoryUpsert):
            unit = UnitBounds(max_records=5)

        units = []
        seal = UpsertWriter.seal
        monkeypatch.setattr(
            UpsertWriter, "seal", lambda self, unit: units.append(type(self.sink).__name__) or seal(self, unit)
        )
        sinks = plan(Slow(store=MemoryStore()), MemoryUpsert(store=MemoryStore()), unit=None)
        run(sinks, Events())

        assert sinks.sinks[0].bounds == UnitBounds(5, 64 * 2**20, 30.0)
        assert evolve(sinks.sinks[0], max_unit_records=7).bounds.max_records == 7
        assert units.count("Slow") == 3
        assert units.count("MemoryUpsert") == 1


def test_a_route_that_is_skipped_opens_nothing_for_a_chunk():
    """The result is empty, whatever the chunk holds."""
    sink = MemoryUpsert(store=MemoryStore())
    read = source()
    route = Route(sink, Context(run="r"), (), {"p": 4})
    processor = Processor(Job(read, (), (route,)))
    part = next(iter(read.open(Context(run="r")).partitions()))
    part = evolve(part, id="p")

    before, behind = (processor.process(Chunk(part, n, n, records("a"))).routes[0] for n in (4, 5))

    assert before == RouteResult()
    assert behind.payload is not None
