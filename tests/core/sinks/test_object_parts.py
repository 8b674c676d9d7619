"""Parts by key: many at once in bounded memory, limited, and whole wherever a run is killed."""

import json
import re
from datetime import UTC, datetime

import pytest
from attrs import frozen

from muniment.canonical import record_from_json, record_to_json
from muniment.components import Context, Format
from muniment.engine.local import Local
from muniment.errors import ConfigError, FatalError, TargetBusyError, TransientError
from muniment.model import Asset
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.retry import retry
from muniment.sinks import _object_parts, _object_tables
from muniment.sinks.objects import PartLimits
from muniment.storage import Capabilities
from muniment.tables import TableFormat, TablePart
from muniment.testing import ListSource, make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace, MemoryStorage
from muniment.units import Batch, Checkpoint, Counts, Fence, Unit

KEY = "chats/{source}/{year}/{part}.lines"


class Registry:
    def call_run_event(self, event):
        pass


class Killed(BaseException):
    """What a SIGKILL is to the code: no handler sees it."""


@frozen(kw_only=True)
class Lines(Format):
    suffix = ".lines"
    reads_back = True

    def encode(self, record, links):
        return record_to_json(record) + b"\n"

    def decode(self, stream, origin):
        for line in stream.read().splitlines():
            yield record_from_json(line, origin)


@frozen(kw_only=True)
class Sheets(TableFormat):
    """Two tables of lines: whole records, and titles."""

    suffix = ".sheet"
    reads_back = True
    default_key = "{table}/{source}/{year}/{part}"

    @property
    def table_names(self):
        return ("records", "titles")

    def encode_batch(self, records, links):
        return [(record_to_json(r) + b"\n", f"{r.conversation.title}\n".encode()) for r in records]

    def select(self, batch, records):
        return [batch[i] for i in records]

    def join(self, batches):
        return [row for batch in batches for row in batch]

    def size_of(self, batch):
        return sum(len(line) + len(title) for line, title in batch)

    def begin(self, streams):
        return SheetsPart(streams)

    def decode(self, stream, origin):
        for line in stream.read().splitlines():
            yield record_from_json(line, origin)


class SheetsPart(TablePart):
    def __init__(self, streams):
        self.streams = streams
        self.rows = []

    @property
    def held(self):
        return sum(len(line) for line, _ in self.rows)

    def add(self, batch):
        self.rows += batch

    def flush(self):
        for line, title in self.rows:
            self.streams["records"].write(line)
            self.streams["titles"].write(title)
        self.rows = []

    def close(self):
        self.flush()


FORMATS = {"lines": Lines, "sheets": Sheets}


@frozen(kw_only=True)
class Bucket(MemoryObjects):
    """A bucket in which few objects may be open at once."""

    capabilities: Capabilities = Capabilities(max_open=4)

    def storage(self):
        return MemoryStorage(self.place, self.capabilities)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """A second attempt comes at once."""
    monkeypatch.setitem(retry.__kwdefaults__, "sleep", lambda seconds: None)


@pytest.fixture
def place():
    return MemoryPlace()


@pytest.fixture
def make(place, tmp_path):
    def make(**options):
        values = {"format": "lines", "mode": "append", **options}
        values.setdefault("key", None if values["format"] == "sheets" else KEY)
        sink = Bucket(place=place, state=tmp_path / "state", formats=FORMATS, **values)
        assert list(sink.check()) == []
        return sink

    return make


def archive(sink, records, *, max_unit_records=2000, chunk_records=3):
    path = SinkPath(step=Step("memory", "sinks[0]", sink), name="sink", max_unit_records=max_unit_records)
    source = ListSource(records=tuple(records), chunk_records=chunk_records)
    plan = Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,), engine=Local())
    return run(plan, Registry()).sinks["sink"]


def stored(sink):
    with sink.open_target(Context(run="reader")) as target:
        return sorted(record_to_json(r) for r in target.read_back())


def plain(records):
    return sorted(map(record_to_json, records))


def visible(place):
    """Return the names of what is published, with the run's id left out."""
    names = [n for n in place.objects if not n.startswith(".muniment/")]
    return sorted(re.sub(r"\d{8}T\d{6}-[0-9a-f]{8}", "RUN", n) for n in names)


def talk(number, year, **fields):
    time = datetime(year, 1, 1, tzinfo=UTC) if year else None
    return make_record(f"c{number}", title=f"Talk {number}", created_at=time, **fields)


def mixed(count=12, years=3):
    return [talk(i, 2020 + i % years) for i in range(count)]


def unit(run="r1", number=1):
    return Unit(run, number, Checkpoint("p", "f", 5, 1, True, 5, "", run), Counts(5, 5))


class TestLayout:
    def test_each_key_gets_a_part(self, make, place):
        """One part per folder and unit; the number of the part is never the same twice."""
        archive(make(), [*mixed(6), talk(9, None)], max_unit_records=6)

        assert visible(place) == [
            "chats/test/2020/part-00000001-RUN.lines",
            "chats/test/2021/part-00000001-RUN-2.lines",
            "chats/test/2022/part-00000001-RUN-3.lines",
            "chats/test/undated/part-00000002-RUN.lines",
        ]

    def test_tables_stand_side_by_side(self, make, place):
        """The same part of each table."""
        archive(make(format="sheets"), mixed(4, years=2))

        assert visible(place) == [
            "records/test/2020/part-00000001-RUN.sheet",
            "records/test/2021/part-00000001-RUN-2.sheet",
            "titles/test/2020/part-00000001-RUN.sheet",
            "titles/test/2021/part-00000001-RUN-2.sheet",
        ]

    def test_a_mirror_has_folders_too(self, make, place):
        """A conversation stays where it was first put."""
        sink = make(mode="mirror", key="{year}/{title}-{id}.lines")
        archive(sink, mixed(2))
        later = make_record(
            "c0", ("Hello", "Hi there", "More"), title="Renamed", updated_at=datetime(2030, 1, 1, tzinfo=UTC)
        )
        archive(sink, [later])

        assert [re.sub("-[0-9a-f]{12}", "", n) for n in visible(place)] == ["2020/Talk 0.lines", "2021/Talk 1.lines"]
        assert len(stored(sink)) == 2

    def test_the_key_says_the_compression(self, make):
        """Its ending is enough."""
        assert make(key="chats/{part}.lines.xz").layout.compression == "xz"

    def test_links_lead_out_of_the_folders(self, make):
        """Assets stand in one place for all parts."""
        asset = Asset(id="f", name="a.png", sha256="ab" * 32)

        assert make().layout.links(asset) == f"../../../assets/ab/{'ab' * 32}.png"
        assert make(key=None).layout.links(asset) == f"assets/ab/{'ab' * 32}.png"
        assert make().layout.links(Asset(id="g")) == ""


@pytest.mark.parametrize("form", ["lines", "sheets"])
class TestAnyFormat:
    def test_it_gives_back_what_it_stored(self, make, form):
        """Whatever the order of the keys."""
        sink = make(format=form)

        assert archive(sink, mixed(), max_unit_records=5) == Counts(12, 12)
        assert stored(sink) == plain(mixed())

    def test_the_same_again_changes_nothing(self, make, place, form):
        """Of a batch only what is new is written."""
        sink = make(format=form)
        archive(sink, mixed())
        before = {n: d for n, d in place.objects.items() if n != ".muniment/checkpoint"}

        assert archive(sink, [*mixed(), talk(99, 2020)]) == Counts(13, 1, 12)
        assert {n: d for n, d in place.objects.items() if n in before} == before
        assert stored(sink) == plain([*mixed(), talk(99, 2020)])

    def test_memory_and_open_parts_are_bounded(self, make, place, form, monkeypatch):
        """With more keys than may be open, and no room to wait, everything is there in more parts."""
        monkeypatch.setattr(_object_parts, "_WAITING_BYTES", 1)
        monkeypatch.setattr(_object_tables, "_SORTED_BYTES", 1)
        monkeypatch.setattr(_object_tables, "_WRITTEN_BYTES", 1)
        most = []
        place.before = lambda step, name: most.append(len(place.staged) - _closed(place))
        sink = make(format=form)
        archive(sink, mixed(40, years=8))

        assert stored(sink) == plain(mixed(40, years=8))
        assert max(most) <= 4

    def test_few_parts_when_there_is_room(self, make, place, form):
        """Keys that had to wait get one part each, not one per batch."""
        archive(make(format=form), mixed(40, years=8))

        assert len(visible(place)) == (8 if form == "lines" else 16)

    @pytest.mark.parametrize("records", [1, 2, 5, 100])
    def test_a_part_holds_no_more_than_its_limit(self, make, place, form, records):
        """Records are counted exactly."""
        sink = make(format=form, part=PartLimits(max_records=records))
        archive(sink, mixed())
        sizes = [d.count(b"\n") for n, d in place.objects.items() if n.startswith(("chats", "records"))]

        assert max(sizes) == min(4, records) and sum(sizes) == 12
        assert stored(sink) == plain(mixed())

    def test_a_part_ends_when_it_is_large_enough(self, make, place, form):
        """With the record that reaches the limit."""
        sink = make(format=form, part=PartLimits(max_bytes=1))
        archive(sink, mixed(), chunk_records=1)

        assert len(visible(place)) == (12 if form == "lines" else 24)
        assert stored(sink) == plain(mixed())

    def test_it_resumes_wherever_it_is_killed(self, make, place, form):
        """Killed before any step, the next run ends as if nothing had happened."""
        sink, newer = make(format=form), [*mixed(4), *(talk(i, 2020 + i % 3) for i in range(20, 26))]
        step = 0
        while _killed_at(place, step, sink, newer):
            archive(sink, newer, max_unit_records=5)
            assert stored(sink) == plain(newer), f"killed at step {step}"
            place.objects.clear()
            place.staged.clear()
            step += 1

        assert step > 10

    def test_a_passing_fault_at_any_step_is_retried(self, make, place, form):
        """No part is lost or doubled by a commit that failed for the moment."""
        sink, step = make(format=form), 0
        while True:
            left, failed = iter(range(step)), []

            def before(what, name, left=left, failed=failed):
                if what != "write" and not failed and next(left, None) is None:
                    failed.append(what)
                    raise TransientError("try again")

            place.before = before
            archive(sink, mixed(), max_unit_records=6)
            place.before = lambda *_: None
            assert stored(sink) == plain(mixed()), f"failed at step {step}"
            assert place.staged == {}
            if not failed:
                break
            place.objects.clear()
            step += 1

        assert step > 10


def _closed(place):
    return sum(1 for data in place.staged.values() if data)


def _killed_at(place, step, sink, newer):
    archive(sink, mixed(4), max_unit_records=2)
    left = iter(range(step))

    def before(*_):
        if next(left, None) is None:
            raise Killed

    place.before = before
    try:
        archive(sink, newer, max_unit_records=5)
    except Killed:
        return True
    finally:
        place.before = lambda *_: None
    return False


class TestCommit:
    def test_an_answer_that_was_lost_is_no_other_run(self, make, place):
        """The part that is there already is the one that this run has put there."""
        sink, ctx = make(), Context(run="r1")

        class Forgetful(MemoryStorage):
            def publish(self, token, name, *, if_absent=False):
                data = place.staged.get(token)
                super().publish(token, name, if_absent=if_absent)
                if data and name.startswith("chats/") and name not in lost:
                    lost.add(name)
                    place.staged[token] = data
                    raise TransientError("no answer came")

        lost: set[str] = set()
        with sink.open_target(ctx) as target, sink.open(ctx) as writer:
            target.storage = Forgetful(place)
            writer.write(sink.encode(Batch("p", 1, mixed())))
            prepared = writer.seal(unit())
            for _ in range(3):
                with pytest.raises(TransientError):
                    target.commit([prepared], Fence("r1"))
            target.commit([prepared], Fence("r1"))

        assert stored(sink) == plain(mixed()) and place.staged == {}

    def test_a_part_of_someone_else_is(self, make, place):
        """Other bytes under the name mean another run."""
        sink, ctx = make(), Context(run="r1")
        with sink.open_target(ctx) as target, sink.open(ctx) as writer:
            writer.write(sink.encode(Batch("p", 1, mixed())))
            prepared = writer.seal(unit())
            place.objects["chats/test/2020/part-00000001-r1.lines"] = b"of another run"
            with pytest.raises(TargetBusyError, match="another run has written to this target"):
                target.commit([prepared], Fence("r1"))

    def test_a_second_attempt_at_a_unit_leaves_nothing(self, make, place):
        """What it has staged is removed when the first one is committed already."""
        sink, ctx = make(), Context(run="r1")
        with sink.open_target(ctx) as target, sink.open(ctx) as one, sink.open(ctx) as other:
            prepared = []
            for writer in (one, other):
                writer.write(sink.encode(Batch("p", 1, mixed())))
                prepared.append(writer.seal(unit()))
            for attempt in prepared:
                target.commit([attempt], Fence("r1"))

        assert place.staged == {} and stored(sink) == plain(mixed())

    def test_units_are_numbered_from_the_first(self, make, place):
        """A writer that is opened in the middle of a run names its parts after its units."""
        sink = make(key="x/{part}.lines")
        ctx = Context(run="r1", first_unit=7)
        with sink.open_target(ctx) as target, sink.open(ctx) as writer:
            for number in (7, 8):
                writer.write(sink.encode(Batch("p", 1, [talk(number, 2020)])))
                target.commit([writer.seal(unit(number=number))], Fence("r1"))

        assert visible(place) == ["x/part-00000007-r1.lines", "x/part-00000008-r1.lines"]

    def test_the_name_is_known_when_an_object_is_begun(self, make, place):
        """What is published under a name was staged for it."""
        staged, published = set(), set()
        place.before = lambda step, name: {"stage": staged, "publish": published}.get(step, set()).add(name)
        for options in ({}, {"format": "sheets"}, {"mode": "mirror", "key": None}, {"mode": "snapshot", "key": None}):
            archive(make(**options), mixed())

        assert staged == published

    def test_an_object_that_cannot_be_begun_ends_the_run(self, make, place):
        """It was tried often enough; the batch is not given to the writer again."""

        def before(step, name):
            if step == "stage" and name.startswith("chats"):
                raise TransientError("no connection")

        place.before = before
        with pytest.raises(FatalError, match="no connection; run the same command again to resume"):
            archive(make(), mixed())


class TestOrphans:
    @pytest.mark.parametrize("form", ["lines", "sheets"])
    def test_they_are_found_by_the_prefix(self, make, place, form):
        """In whatever folder a part would stand, and nothing else."""
        sink = make(format=form)
        archive(sink, mixed())
        folder = "chats" if form == "lines" else "titles"
        place.objects[f"{folder}/test/1999/part-00000009-dead-2.x"] = b"x"
        place.objects["other/part-00000009-dead"] = place.objects[f"{folder}/README"] = b"mine"

        with sink.open_target(Context(run="r")) as target:
            assert [o.where for o in target.orphans()] == [f"{folder}/test/1999/part-00000009-dead-2.x"]


class TestLatest:
    @pytest.mark.parametrize(("form", "name"), [("lines", "latest.lines.zst"), ("sheets", "latest/records.sheet")])
    def test_it_has_each_conversation_once(self, make, place, form, name):
        """Merged from its versions, while the parts keep all of them."""
        options = {"format": form, "latest": True}
        sink = make(**options, **({"key": f"{KEY}.zst"} if form == "lines" else {}))
        archive(sink, mixed(3))
        newer = make_record("c0", ("Hello", "Hi there", "More"), updated_at=datetime(2030, 1, 1, tzinfo=UTC))
        archive(sink, [newer, talk(9, 2020)])

        reader = make(**{**options, "latest": False, "key": None if form == "sheets" else f"{KEY}.zst"})
        assert plain(_records(place, name)) == stored(reader) == plain([newer, *mixed(3)[1:], talk(9, 2020)])

    def test_it_is_not_written_again_for_nothing(self, make, place):
        """A run that stored nothing leaves it alone."""
        sink = make(latest=True)
        archive(sink, mixed())
        writes = []
        place.before = lambda step, name: writes.append(name)
        archive(sink, mixed(), chunk_records=5)

        assert not [n for n in writes if "latest.lines" in n]

    def test_a_killed_refresh_is_repeated(self, make, place):
        """The old view or the new one is there, and the next run makes it right, even if it stores nothing."""
        step = 0
        while True:
            sink = make(latest=True)
            archive(sink, mixed(3))
            left = iter(range(step))

            def before(what, name, left=left):
                if "latest" in name and next(left, None) is None:
                    raise Killed

            place.before = before
            try:
                archive(sink, mixed(5))
            except Killed:
                killed = True
            else:
                killed = False
            place.before = lambda *_: None
            assert plain(_records(place, "latest.lines")) in (plain(mixed(3)), plain(mixed(5)))
            if not killed:
                break
            archive(sink, mixed(5))
            assert plain(_records(place, "latest.lines")) == plain(mixed(5)), f"killed at step {step}"
            place.objects.clear()
            place.staged.clear()
            step += 1

        assert step >= 4

    def test_it_says_what_it_was_made_of(self, make, place):
        """For those who check."""
        archive(make(latest=True), mixed(3))
        note = json.loads(place.objects[".muniment/latest.json"])

        assert (note["manifest"], note["conversations"]) == (2, 3)
        assert note["objects"][0]["size"] == len(place.objects["latest.lines"])

    def test_the_storage_must_be_able_to_replace(self, make, place, tmp_path):
        """Under object lock there is no view."""
        sink = Bucket(
            place=place, state=tmp_path / "state", formats=FORMATS, format="lines", latest=True,
            capabilities=Capabilities(replaces=False),
        )  # fmt: skip
        with pytest.raises(ConfigError, match="cannot replace an object, which `latest: true` needs"):
            sink.open_target(Context(run="r", path="sinks[0]"))


def _records(place, name):
    from muniment.objects import decompressing

    with MemoryStorage(place).open(name) as raw, decompressing(raw, name) as stream:
        return [record_from_json(line, None) for line in stream.read().splitlines()]


class TestStorageThatCannotReadWhatIsStaged:
    def test_a_mirror_remembers_its_unit(self, place, tmp_path):
        """Two versions in one unit are joined without opening the first."""

        class Blind(MemoryStorage):
            def open(self, name):
                assert name not in place.staged
                return super().open(name)

        @frozen(kw_only=True)
        class BlindBucket(MemoryObjects):
            def storage(self):
                return Blind(self.place, Capabilities(reads_staged=False))

        sink = BlindBucket(place=place, state=tmp_path / "state", formats=FORMATS, format="lines", mode="mirror")
        newer = make_record("c0", ("Hello", "More"), updated_at=datetime(2030, 1, 1, tzinfo=UTC))
        archive(sink, [make_record("c0"), newer])

        assert [len(json.loads(line)["messages"]) for line in stored(sink)] == [2]
        assert len([name for name in place.objects if not name.startswith(".muniment/")]) == 1


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "mirror", "part": PartLimits(max_records=1)}, "`part` does not go with `mode: mirror`"),
            ({"mode": "snapshot", "part": PartLimits(max_records=1)}, "`part` does not go with `mode: snapshot`"),
            ({"mode": "snapshot", "key": "x/{part}.lines"}, "`key` does not go with `mode: snapshot`"),
            ({"mode": "mirror", "latest": True}, "`latest` goes with `mode: append`"),
            ({"format": "sheets", "mode": "mirror"}, "format `sheets` makes tables of many conversations"),
            ({"format": "sheets", "mode": "snapshot"}, "format `sheets` makes several tables, which one file cannot"),
            ({"format": "sheets", "compression": "gzip"}, "format `sheets` compresses by itself"),
            ({"key": "x/{part}.lines.gz", "compression": "zstd"}, "`key` must end in `.lines.zst`"),
        ],
    )
    def test_each_mistake_is_a_sentence(self, place, tmp_path, options, message):
        given = {"format": "lines", "mode": "append", **options}
        problems = list(Bucket(place=place, state=tmp_path, formats=FORMATS, **given).check())

        assert [p for p in problems if p.startswith(message)], problems

    def test_tables_have_larger_units(self, make):
        """A part of a few conversations is slow to read."""
        assert make(format="sheets").unit.max_records > make().unit.max_records

    @pytest.mark.parametrize("name", ["max_bytes", "max_records"])
    def test_a_limit_is_positive(self, name):
        with pytest.raises(ValueError, match=f"`{name}` must be 1 or more"):
            PartLimits(**{name: 0})
