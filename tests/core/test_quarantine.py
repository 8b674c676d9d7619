"""The content of what cannot be archived: kept where it fails, whatever the stage, and tried again."""

import contextlib

import pytest
from attrs import evolve, frozen

from muniment import Batch, Context, Counts, FatalError, Origin, RecordError, Rejected, Transform
from muniment.crypto import Encryption, create_key_file
from muniment.engine.local import Local
from muniment.errors import DamagedError
from muniment.model import Record
from muniment.options import option
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.quarantine import Content, Evidence, Keeper, Keeping, Quarantine
from muniment.quarantine_retry import remove_orphans, retry_kept
from muniment.quarantine_store import Custody, Store
from muniment.secrets import Secret
from muniment.sinks.upsert import UpsertWriter
from muniment.testing import ListSource, MemoryStore, MemoryUpsert, make_record
from muniment.testing.memory import MemoryBatch
from muniment.testing.records import changed
from muniment.units import Partition

LETTERS = "abcdef"
CANARY = "canary-7f3a"


class Events:
    def call_run_event(self, event):
        pass


@frozen(kw_only=True)
class Rules(Transform):
    """Raises for a record whose title is in `refused`."""

    refused: set[str] = option("Titles.", factory=set, identity=False)

    def apply(self, record: Record) -> Record:
        if record.conversation.title in self.refused:
            raise RecordError("refused by the rules")
        return record


@frozen(kw_only=True)
class Picky(MemoryUpsert):
    """Refuses records at `stage`, while they are in `refused`."""

    stage: str = "encode"
    refused: set[str] = option("Titles.", factory=set, identity=False)

    def encode(self, batch: Batch):
        if self.stage == "encode" and any(r.conversation.id in self.refused for r in batch.records):
            raise RecordError("cannot be encoded")
        return batch

    def upsert(self, connection, rows):
        for record in rows.records if self.stage == "write" else ():
            if record.conversation.id in self.refused:
                raise RecordError("too large for a row", record_id=record.key)
        return super().upsert(connection, rows)


@frozen(kw_only=True)
class Late(MemoryUpsert):
    """Refuses records only when the unit is sealed, as a server does that checks at the commit."""

    refuses_late = True
    refused: set[str] = option("Titles.", factory=set, identity=False)

    def open(self, ctx: Context):
        return _LateWriter(self, ctx)


class _LateWriter(UpsertWriter):
    def seal(self, unit):
        pending = self.connection.records
        bad = [r for r in pending.values() if r.conversation.id in self.sink.refused]
        for record in bad:
            del pending[record.key]
        rejected = tuple(Rejected(r.origin, "write", "refused at the commit", r.key) for r in bad)
        rejected = tuple(place_in(r, unit.checkpoint.partition) for r in rejected)
        self._context.keep(rejected)
        n = len(bad)
        counts = evolve(unit.counts, stored=unit.counts.stored - n, quarantined=unit.counts.quarantined + n)
        return super().seal(evolve(unit, counts=counts, quarantined=unit.quarantined + rejected))


def place_in(rejected, partition):
    from msgspec.structs import replace

    return replace(rejected, origin=replace(rejected.origin, partition=partition))


def records(letters=LETTERS):
    from msgspec.structs import replace

    return [
        replace(make_record(c, (CANARY, "an answer"), title=c), origin=Origin("list", "list", i * 10, i * 10 + 9))
        for i, c in enumerate(letters)
    ]


@pytest.fixture
def keeping(tmp_path):
    create_key_file(tmp_path / "quarantine.key")
    key = Secret(f"file:{tmp_path / 'quarantine.key'}")
    return Keeping(encryption=Encryption(key=key), path=tmp_path / "kept", pipeline="test")


@pytest.fixture
def plan(keeping, tmp_path):
    """Return a function that makes a plan which keeps what fails."""

    def make(*sinks, read=None, transforms=(), unit=2, **more):
        return Plan(
            name="test",
            sources=(Step("list", "source", read or ListSource(records=records(), chunk_records=2)),),
            transforms=tuple(Step("rules", f"transforms[{i}]", t) for i, t in enumerate(transforms)),
            sinks=tuple(
                SinkPath(step=Step("memory", f"sinks[{i}]", s), name="xyz"[i], max_unit_records=unit, **more)
                for i, s in enumerate(sinks)
            ),
            engine=Local(),
            state_dir=tmp_path / "state",
            keeping=keeping,
        )

    return make


@pytest.fixture
def store(keeping):
    with contextlib.closing(Store(keeping.path, "test")) as found:
        yield found


def go(plan):
    return run(plan, Events())


def again(plan):
    return retry_kept(plan, Events())


def keys(letters):
    return [f"test:{c}" for c in letters]


class TestStages:
    """Whatever the stage, what is kept is the record as it was before any transform."""

    def check(self, plan, place, store, refused, stage):
        first = go(plan)

        assert first.sinks["x"] == Counts(read=6, stored=4, quarantined=2)
        assert {e["stage"] for e in place.quarantine.values()} == {stage}
        assert len(store.ids()) == 2

        refused.clear()
        retried = again(plan)

        assert retried.report.exit_code == 0
        assert retried.report.sinks["x"] == Counts(read=2, stored=2)
        assert sorted(place.records) == keys(LETTERS)
        assert place.quarantine == {}
        assert store.ids() == set()
        assert all(r.raw is not None for r in place.records.values())

    def test_transform(self, plan, store):
        place, refused = MemoryStore(), {"b", "e"}

        self.check(plan(MemoryUpsert(store=place), transforms=[Rules(refused=refused)]), place, store, refused,
                   "transform")  # fmt: skip

    @pytest.mark.parametrize("stage", ["encode", "write"])
    def test_encode_and_write(self, plan, store, stage):
        place, refused = MemoryStore(), {"b", "e"}

        self.check(plan(Picky(store=place, stage=stage, refused=refused)), place, store, refused, stage)

    def test_at_the_commit(self, plan, store):
        """A sink that refuses late asks for it before it commits."""
        place, refused = MemoryStore(), {"b", "e"}

        self.check(plan(Late(store=place, refused=refused), unit=4), place, store, refused, "write")

    def test_without_it_nothing_is_kept(self, plan, keeping):
        """And nothing costs."""
        place = MemoryStore()

        go(evolve(plan(Picky(store=place, stage="write", refused={"b"})), keeping=None))

        assert len(place.quarantine) == 1
        assert not keeping.path.exists()


class TestRetry:
    def test_more_than_a_unit(self, plan, store):
        """What is committed before the last entry is resolved with it."""
        place, refused = MemoryStore(), set(LETTERS)
        full = plan(MemoryUpsert(store=place), transforms=[Rules(refused=refused)])
        go(full)
        refused.clear()

        retried = again(full)

        assert retried.report.sinks["x"] == Counts(read=6, stored=6)
        assert (place.quarantine, store.ids()) == ({}, set())

    def test_a_sink_that_fails_meanwhile_keeps_its_entries(self, plan, store):
        """The other one gets its records; the content stays for the one that failed."""
        good, bad, refused = MemoryStore(), MemoryStore(), {"b", "e"}
        both = plan(
            MemoryUpsert(store=good), MemoryUpsert(store=bad), transforms=[Rules(refused=refused)],
            on_failure="continue",
        )  # fmt: skip
        go(both)
        refused.clear()

        def fail():
            raise FatalError("the disk is full")

        bad.before_commit = fail
        first = again(both)
        bad.before_commit = lambda: None
        second = again(both)

        assert (first.report.exit_code, first.report.failed) == (1, {"y": "the disk is full"})
        assert first.left["x"] == set() and len(first.left["y"]) == 2
        assert set(second.report.sinks) == {"y"}
        assert sorted(good.records) == sorted(bad.records) == keys(LETTERS)
        assert (good.quarantine, bad.quarantine, store.ids()) == ({}, {}, set())

    @pytest.mark.parametrize("at", range(1, 8))
    def test_it_may_fail_anywhere(self, plan, store, at):
        """The next retry ends as an undisturbed one would have."""
        place, refused = MemoryStore(), set(LETTERS)
        full = plan(MemoryUpsert(store=place), transforms=[Rules(refused=refused)])
        go(full)
        refused.clear()
        calls = []

        def fail():
            calls.append(1)
            if len(calls) == at:
                raise FatalError("the disk is full")

        place.before_commit = place.before_write = fail
        with contextlib.suppress(FatalError):
            again(full)
        place.before_commit = place.before_write = lambda: None
        second = again(full)

        assert second.report.exit_code == 0
        assert sorted(place.records) == keys(LETTERS)
        assert (place.quarantine, store.ids()) == ({}, set())

    def test_an_interrupted_import_goes_on_where_it_was(self, plan):
        """A retry in between leaves its place alone."""
        place, refused = MemoryStore(), {"a"}
        broken = plan(
            MemoryUpsert(store=place),
            read=ListSource(records=records(), fail_at=4),
            transforms=[Rules(refused=refused)],
        )
        with pytest.raises(RuntimeError):
            go(broken)
        refused.clear()
        again(broken)

        report = go(plan(MemoryUpsert(store=place), read=ListSource(records=records()), transforms=[Rules()]))

        assert report.sinks["x"] == Counts(read=2, stored=2)
        assert sorted(place.records) == keys(LETTERS)

    def test_a_sink_that_only_takes_gets_nothing_twice(self, plan):
        """What it was sent before is not sent again by a retry."""
        place, refused = MemoryStore(), {"b"}
        full = plan(MemoryBatch(store=place), transforms=[Rules(refused=refused)])
        go(full)
        refused.clear()

        again(full)
        again(full)

        assert sorted(r.conversation.id for r in place.sent) == list(LETTERS)

    def test_a_source_that_is_gone_from_the_plan_leaves_it_open(self, plan, store):
        place, refused = MemoryStore(), {"b"}
        full = plan(MemoryUpsert(store=place), transforms=[Rules(refused=refused)])
        go(full)
        refused.clear()

        retried = again(evolve(full, sources=(Step("other", "source", ListSource()),)))

        assert [len(ids) for ids in retried.left.values()] == [1]
        assert len(store.ids()) == 1

    def test_what_fails_at_another_stage_has_another_entry(self, plan, store):
        """With its content; the old one goes."""
        place, refused, unwritable = MemoryStore(), {"b"}, {"b"}
        sink = Picky(store=place, stage="write", refused=unwritable)
        full = plan(sink, transforms=[Rules(refused=refused)])
        go(full)
        first = store.ids()
        refused.clear()

        moved = again(full)
        second = store.ids()
        unwritable.clear()
        last = again(full)

        assert [e["stage"] for e in place.quarantine.values()] == []
        assert (moved.report.exit_code, moved.left) == (3, {"x": second})
        assert moved.without_content == {"x": set()}
        assert len(second) == 1 and second != first
        assert last.report.sinks["x"] == Counts(read=1, stored=1)
        assert store.ids() == set()

    def test_a_sink_that_has_it_is_owed_nothing(self, plan, store):
        """Though its own rules would refuse the record now."""
        one, other, refused = MemoryStore(), MemoryStore(), {"b"}
        unwritable: set[str] = set()
        full = plan(Picky(store=one, refused=unwritable), Picky(store=other, stage="write", refused=refused))
        go(full)
        unwritable.add("b")

        retried = again(full)

        assert set(retried.report.sinks) == {"y"}
        assert len(store.ids()) == 1
        assert one.quarantine == {}

    def test_superseded_though_it_still_fails(self, plan, store):
        """A newer version with all its messages was stored since."""
        place, refused = MemoryStore(), {"b"}
        full = plan(MemoryUpsert(store=place), transforms=[Rules(refused=refused)])
        go(full)
        newer = changed(make_record("b", ("1", "2", "3"), title="changed"))
        place.records[newer.key] = newer

        retried = again(full)

        assert retried.report.exit_code == 0
        assert [len(ids) for ids in retried.report.superseded.values()] == [1]
        assert retried.report.sinks["x"] == Counts(read=1, unchanged=1)
        assert (place.quarantine, store.ids()) == ({}, set())


class TestDurability:
    def test_content_is_there_before_its_entry(self, plan, store):
        """Whatever ends the run at its first commit."""
        place = MemoryStore()
        seen = []
        place.before_commit = lambda: seen.append(len(store.ids()))

        go(plan(MemoryUpsert(store=place), transforms=[Rules(refused={"a"})]))

        assert seen[0] == 1

    def test_a_second_attempt_doubles_nothing(self, plan, store):
        """The name is the same in every attempt."""
        place = MemoryStore()

        def fail():
            raise FatalError("killed")

        full = plan(MemoryUpsert(store=place), transforms=[Rules(refused={"a"})])
        place.before_commit = fail
        with pytest.raises(FatalError):
            go(full)
        first = store.ids()
        place.before_commit = lambda: None
        go(full)

        assert len(first) == 1
        assert store.ids() == first

    def test_it_fails_where_content_cannot_be_written(self, plan, keeping):
        """And nothing passes."""
        place = MemoryStore()
        keeping.path.touch()

        with pytest.raises(FatalError, match="^what could not be archived cannot be kept either: "):
            go(plan(MemoryUpsert(store=place), transforms=[Rules(refused={"a"})]))

        assert (place.checkpoints, place.quarantine) == ({}, {})

    def test_of_places_that_two_share_nothing_is_kept(self, plan, store):
        """Nobody could tell whose content it is; the input still has both."""
        place, same = MemoryStore(), [make_record(c, title=c) for c in LETTERS]

        go(plan(MemoryUpsert(store=place), read=ListSource(records=same, chunk_records=2),
                transforms=[Rules(refused={"a"})]))  # fmt: skip

        assert store.ids() == set()

    def test_orphans_go(self, plan, store):
        place, refused = MemoryStore(), {"b"}
        full = plan(MemoryUpsert(store=place), transforms=[Rules(refused=refused)])
        go(full)
        (kept,) = store.ids()
        store.write({"0123456789abcdef": store.read(kept)})

        shown = remove_orphans(full, Events(), dry_run=True)
        removed = remove_orphans(full, Events())

        assert shown == removed == ["0123456789abcdef.enc"]
        assert store.ids() == {kept}


class TestContent:
    def content(self, **more):
        partition = Partition("p\ud800", "f" * 64, "export.zip", locator={"path": "x"})
        origin = Origin("export.zip", "p\ud800", 3, 9, "d" * 64)
        return Content("0123", ("list", "source"), partition, origin, b'{"title": "\n\xff"}', **more)

    def keeper(self, keeping):
        return Keeper.of(keeping, Context(run="r"))

    @pytest.mark.parametrize("is_record", [False, True])
    def test_it_comes_back(self, keeping, is_record):
        """Byte for byte, whatever the names hold."""
        keeper, content = self.keeper(keeping), self.content(is_record=is_record)

        assert keeper.open("0123", keeper.seal(content)) == content

    def test_it_stands_for_no_other_entry(self, keeping):
        keeper = self.keeper(keeping)

        with pytest.raises(DamagedError, match="^the content of entry `4567` is another one's; restore"):
            keeper.open("4567", keeper.seal(self.content()))

    def test_every_change_is_noticed(self, keeping):
        keeper = self.keeper(keeping)
        sealed = keeper.seal(self.content())

        for at in range(0, len(sealed), 7):
            with pytest.raises((DamagedError, FatalError)):
                keeper.open("0123", sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])

    def test_nothing_of_it_is_plain(self, keeping):
        sealed = self.keeper(keeping).seal(self.content())

        assert b"title" not in sealed
        assert b"export.zip" not in sealed

    def test_bytes_of_the_source_come_before_records(self):
        """What it had is better evidence than what was made of it."""
        (record,) = records("a")
        place = ("list", 0, 9)

        assert Evidence.of({place: b"raw"}, [record]).slices == {place: b"raw"}
        assert Evidence.of({}, [record]).are_records

    def test_custody_keeps_nothing_of_what_has_no_content(self, keeping):
        with contextlib.closing(Custody.open(keeping, Context(run="r"))) as custody:
            custody.keep(Partition("p", "f", "l"), [Rejected(Origin("l", "p", 1, 2), "read", "why")], Evidence({}))

            assert custody.store.ids() == set()


class TestOptions:
    def test_a_path_needs_encryption(self):
        """Nothing is ever kept plain."""
        assert list(Quarantine(path="kept").check()) == [
            "`path` is where encrypted content is kept; give `encryption`, or leave it out"
        ]

    def test_encryption_names_somebody(self):
        assert list(Quarantine(encryption=Encryption()).check()) == [
            "`encryption` names nobody who could read it; give `key`, `passphrase` or `recipients`"
        ]
