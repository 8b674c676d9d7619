"""A run reads, processes, writes and commits, and accounts for every record."""

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import Counts, Dropped, Effect, FatalError, InputError, Record, RecordError, Transform, TransientError
from muniment.engine.local import Local
from muniment.engine.pool import Pool
from muniment.errors import StoppedError
from muniment.events import RunEvent
from muniment.model import Origin, Rejected
from muniment.pipeline import RunReport, StopFlag, run
from muniment.plan import Plan, SinkPath, Step
from muniment.sinks.upsert import UpsertWriter
from muniment.testing import ListSource, MemoryBatch, MemoryStore, MemoryUpsert, make_record
from muniment.units import Idle, Unit


class Events:
    """A registry as far as a run needs one: it keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[RunEvent] = []

    def call_run_event(self, event: RunEvent) -> None:
        self.heard.append(event)


@frozen(kw_only=True)
class Picky(Transform):
    effect = Effect.DROPS

    def apply(self, record: Record) -> Record | Dropped:
        title = record.conversation.title
        if title == "drop":
            return Dropped("not wanted")
        if title == "refuse":
            raise RecordError("cannot be handled")
        if title == "crash":
            raise ValueError("secret text")
        return record.evolve(title="changed") if title == "change" else record


def records(*titles, start=0):
    return [make_record(f"c{i}", title=t) for i, t in enumerate(titles, start)]


def plan(source, *sinks, transforms=(), engine=None, tmp_path=None, **limits):
    return Plan(
        name="test",
        sources=(Step("list", "source", source),),
        transforms=tuple(Step("picky", f"transforms[{i}]", t) for i, t in enumerate(transforms)),
        sinks=tuple(
            SinkPath(step=Step("memory", f"sinks[{i}]", s), name=f"memory{i or ''}", **limits)
            for i, s in enumerate(sinks)
        ),
        engine=engine or Local(),
        **({"state_dir": tmp_path} if tmp_path else {}),
    )


def go(source, store, **more) -> RunReport:
    return run(plan(source, MemoryUpsert(store=store), **more), Events())


class TestCounts:
    def test_it_accounts_for_every_record(self):
        """read = stored + unchanged + dropped + quarantined, for every mixture."""
        store = MemoryStore()

        report = go(ListSource(records=records("a", "drop", "refuse", "crash", "b")), store, transforms=[Picky()])

        assert report.sinks == {"memory": Counts(read=5, stored=2, dropped=1, quarantined=2)}
        assert report.exit_code == 3
        assert report.dropped == {"not wanted": 1}

    @settings(max_examples=40, deadline=None)
    @given(
        titles=st.lists(st.sampled_from(["a", "drop", "refuse", "crash", "change"]), min_size=1, max_size=12),
        chunk=st.integers(1, 4),
        unit=st.integers(1, 5),
    )
    def test_the_equation_holds_for_every_mixture(self, titles, chunk, unit):
        """Chunks and units of any size change no count."""
        store = MemoryStore()
        source = ListSource(records=records(*titles), chunk_records=chunk)

        report = go(source, store, transforms=[Picky()], max_unit_records=unit)

        bad = titles.count("refuse") + titles.count("crash")
        stored = titles.count("a") + titles.count("change")
        expected = Counts(len(titles), stored, 0, titles.count("drop"), bad)
        assert report.sinks == {"memory": expected}
        assert len(store.records) == stored

    def test_it_never_puts_a_strangers_message_into_a_reason(self):
        """The text of a foreign exception may hold content: only its type is kept."""
        store = MemoryStore()

        go(ListSource(records=records("crash", "a")), store, transforms=[Picky()])

        assert [q["reason"] for q in store.quarantine.values()] == ["ValueError was raised"]

    def test_it_counts_what_the_source_rejected(self):
        """A range that could not be cut or parsed is read and quarantined."""
        bad = Rejected(Origin("list", "p", 3, 9, "d"), "decode", "not JSON")
        store = MemoryStore()

        report = go(ListSource(records=[*records("a"), bad]), store)

        assert report.sinks == {"memory": Counts(read=2, stored=1, quarantined=1)}

    def test_it_drops_raw_from_a_changed_record(self):
        """Raw JSON must not smuggle out what a transform took away."""
        store = MemoryStore()

        go(ListSource(records=records("change", "a")), store, transforms=[Picky()])

        assert store.records["test:c0"].raw is None
        assert store.records["test:c1"].raw is not None

    def test_it_refuses_an_input_without_conversations(self):
        """Nothing read is never success."""
        with pytest.raises(InputError, match="^no conversations were found in `source` \\(list\\); check"):
            go(ListSource(), MemoryStore())

    def test_it_says_when_something_is_missing(self):
        """A shard that the source names and lacks makes the run incomplete."""
        report = go(ListSource(records=records("a"), findings=("missing_shard:x",)), MemoryStore())

        assert (report.exit_code, report.incomplete) == (3, True)


class TestAgain:
    def test_the_same_input_twice_changes_nothing(self):
        """A finished partition is not read again, and counted as unchanged."""
        store, source = MemoryStore(), ListSource(records=records("a", "b"))

        first = go(source, store)
        second = go(source, store)

        assert second.sinks == {"memory": Counts(read=2, unchanged=2)}
        assert second.unchanged_partitions == (("list", first.run, 2),)

    def test_a_newer_input_adds_what_is_new(self):
        """What was stored is merged or left alone; nothing is doubled."""
        store = MemoryStore()
        go(ListSource(records=records("a", "b")), store)

        report = go(ListSource(records=records("a", "b", "c")), store)

        assert report.sinks == {"memory": Counts(read=3, stored=1, unchanged=2)}

    def test_it_reads_an_incomplete_input_again(self):
        """What was missing may be there the next time, and is said again if not."""
        store, source = MemoryStore(), ListSource(records=records("a"), findings=("missing_shard:x",))
        go(source, store)

        report = go(source, store)

        assert (report.exit_code, report.sinks) == (3, {"memory": Counts(read=1, unchanged=1)})

    def test_it_reads_an_input_with_quarantined_records_again(self):
        """An open entry keeps its partition from being skipped."""
        bad = Rejected(Origin("list", "list", 3, 9, "d"), "decode", "not JSON")
        source = ListSource(records=[*records("a"), bad])
        store = MemoryStore()
        go(source, store)

        report = go(source, store)

        assert report.exit_code == 3


class TestResume:
    @settings(max_examples=30, deadline=None)
    @given(total=st.integers(1, 9), fail_at=st.integers(0, 8), chunk=st.integers(1, 3), unit=st.integers(1, 4))
    def test_it_resumes_after_a_failure_anywhere(self, total, fail_at, chunk, unit):
        """After an error at any record, the next run ends as an uninterrupted one would have."""
        store, all_records = MemoryStore(), records(*"abcdefghi"[:total])
        failing = ListSource(records=all_records, chunk_records=chunk, fail_at=fail_at)
        if fail_at < total:
            with pytest.raises(RuntimeError, match="the source failed"):
                go(failing, store, max_unit_records=unit)

        go(ListSource(records=all_records, chunk_records=chunk), store, max_unit_records=unit)

        assert sorted(store.records) == sorted(r.key for r in all_records)

    def test_it_starts_behind_the_last_commit(self):
        """Records of committed units are not read again."""
        store = MemoryStore()
        with pytest.raises(RuntimeError):
            go(ListSource(records=records(*"abcd"), fail_at=3), store, max_unit_records=2)

        report = go(ListSource(records=records(*"abcd")), store)

        assert report.sinks == {"memory": Counts(read=2, stored=2)}

    def test_a_failed_commit_leaves_the_checkpoint_where_it_was(self):
        """Data and checkpoint move together or not at all."""

        def fail():
            raise FatalError("the disk is full")

        store = MemoryStore(before_commit=fail)
        with pytest.raises(FatalError, match="the disk is full"):
            go(ListSource(records=records("a")), store)

        assert (store.records, store.checkpoints) == ({}, {})

    def test_a_stop_commits_what_was_read_and_resumes(self):
        """A signal ends the run in order; the next run goes on behind it."""
        store, stop = MemoryStore(), StopFlag()
        calls = []

        def write():
            calls.append(1)
            if len(calls) == 2:
                stop.set(15)

        store.before_write = write
        with pytest.raises(StoppedError) as caught:
            run(plan(ListSource(records=records(*"abcd")), MemoryUpsert(store=store)), Events(), stop=stop)

        assert caught.value.exit_code == 143
        assert len(store.records) == 2
        assert go(ListSource(records=records(*"abcd")), store).sinks == {"memory": Counts(read=2, stored=2)}


class TestRetry:
    def test_it_repeats_a_call_that_failed_for_the_moment(self, monkeypatch):
        """A transient error costs time, not records."""
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        failures = iter([TransientError("busy", 0.0), None, None])

        def write():
            if error := next(failures):
                raise error

        store = MemoryStore(before_write=write)

        assert go(ListSource(records=records("a")), store).sinks == {"memory": Counts(read=1, stored=1)}


class TestSeveralSinks:
    def test_each_sink_has_its_own_counts_and_checkpoint(self, tmp_path):
        """What one sink has already is not what another has."""
        one, two = MemoryStore(), MemoryStore()
        go(ListSource(records=records("a", "b")), one)

        both = plan(
            ListSource(records=records("a", "b")), MemoryUpsert(store=one), MemoryBatch(store=two), tmp_path=tmp_path
        )
        report = run(both, Events())

        assert report.sinks == {"memory": Counts(read=2, unchanged=2), "memory1": Counts(read=2, stored=2)}
        assert [r.key for r in two.sent] == ["test:c0", "test:c1"]


class TestUnits:
    def test_a_unit_is_bounded_by_records(self, monkeypatch):
        """Commits come every so many records, and at the end."""
        units: list[Unit] = []
        seal = UpsertWriter.seal
        monkeypatch.setattr(UpsertWriter, "seal", lambda self, unit: units.append(unit) or seal(self, unit))

        go(ListSource(records=records(*"abcde")), MemoryStore(), max_unit_records=2)

        assert [u.counts.read for u in units] == [2, 2, 1]
        assert [u.checkpoint.finished for u in units] == [False, False, True]

    def test_an_idle_source_lets_a_unit_age(self):
        """While nothing comes, what was read is still committed in time."""
        store = MemoryStore()
        source = ListSource(records=[*records("a"), Idle(), *records("b", start=1)], fail_at=2)
        with pytest.raises(RuntimeError):
            go(source, store, max_unit_seconds=0.0)

        assert list(store.records) == ["test:c0"]


class TestEvents:
    def test_observers_hear_the_run(self):
        """Started, committed and finished come in this order, with counts."""
        events = Events()
        run(plan(ListSource(records=records("a")), MemoryUpsert(store=MemoryStore())), events)

        kinds = [e.kind for e in events.heard]
        assert (kinds[0], kinds[-1]) == ("started", "finished")
        assert events.heard[-1].counts == {"memory": Counts(read=1, stored=1)}
        assert events.heard[-1].exit_code == 0


class TestPool:
    def test_it_gives_what_the_local_engine_gives(self, tmp_path):
        """The engine changes no result and no order."""
        from muniment_plugins.sinks.sqlite import SQLite
        from muniment_plugins.sinks.sqlite.read import read_records

        source = ListSource(records=records(*"abcdefghijklmnopqrstuvwxyz"), chunk_records=2)
        for engine, name in ((Local(), "local.db"), (Pool(workers=3), "pool.db")):
            run(plan(source, SQLite(path=str(tmp_path / name)), engine=engine), Events())

        local, pool = ([r for _, r in read_records(tmp_path / name)] for name in ("local.db", "pool.db"))
        assert [r.conversation for r in local] == [r.conversation for r in pool] != []
