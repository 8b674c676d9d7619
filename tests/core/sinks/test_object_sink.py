"""Object sinks: nothing lost, doubled or half-written, in each mode and wherever a run is killed."""

import contextlib
import hashlib
import io
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve, frozen

from muniment.canonical import record_from_json, record_to_json
from muniment.components import Context, Format
from muniment.engine.local import Local
from muniment.errors import ConfigError, FatalError, TargetBusyError, TransientError
from muniment.model import Asset
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.sinks._object_manifest import load_all
from muniment.state import State
from muniment.storage import Capabilities
from muniment.testing import ListSource, make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace, MemoryStorage
from muniment.units import Batch, Checkpoint, Counts, Fence, Unit

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


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
class Notes(Format):
    """A format for reading, which cannot be read back."""

    suffix = ".note"
    default_mode = "mirror"

    def encode(self, record, links):
        images = " ".join(links(a) for a in record.conversation.assets)
        texts = " ".join(p.content for m in record.conversation.messages for p in m.parts)
        return f"{record.conversation.title}: {texts} {images}".encode()


@frozen(kw_only=True)
class Picky(Notes):
    level: int = 1


FORMATS = {"lines": Lines, "notes": Notes, "picky": Picky, "jsonl": Lines}


@pytest.fixture
def place():
    return MemoryPlace()


@pytest.fixture
def make(place, tmp_path):
    def make(**options):
        values = {"format": "lines", "mode": "append", **options}
        return MemoryObjects(place=place, state=tmp_path / "state", formats=FORMATS, **values)

    return make


def archive(sink, records, *, assets=None, normaliser="1", on_plan_change="keep", max_unit_records=2000, **source):
    """Run the records into the sink; return its counts."""

    class Opened(ListSource):
        def open(self, ctx):
            reader = super().open(ctx)
            reader.open_asset = lambda asset: io.BytesIO(assets[asset.id])
            return reader

    Opened.normaliser = normaliser
    kind = Opened if assets is not None else ListSource
    if kind is ListSource and normaliser != "1":
        kind = type("Changed", (ListSource,), {"normaliser": normaliser})
    path = SinkPath(
        step=Step("memory", "sinks[0]", sink), name="sink", on_plan_change=on_plan_change,
        max_unit_records=max_unit_records,
    )  # fmt: skip
    source = kind(records=tuple(records), **source)
    plan = Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,), engine=Local())
    return run(plan, Registry()).sinks["sink"]


def read_back(sink):
    with sink.open_target(Context(run="reader")) as target:
        return {r.key: r for r in _unique(target.read_back())}


def _unique(records):
    seen = set()
    for record in records:
        assert record.key not in seen
        seen.add(record.key)
        yield record


def plain(records):
    return {r.key: (r.conversation, r.raw) for r in records}


def stored(sink):
    return plain(read_back(sink).values())


def some(count=5, **fields):
    return [make_record(f"c{i}", title=f"Talk {i}", **fields) for i in range(count)]


def later(record, *texts, hours=1, **fields):
    """Return a newer version of a record."""
    texts = texts or ("Hello", "Hi there", "More")
    return make_record(record.conversation.id, texts, updated_at=TIME + timedelta(days=1, hours=hours), **fields)


def visible(place):
    return {n: d for n, d in place.objects.items() if not n.startswith(".muniment/")}


def with_asset(data=b"picture", conversation="c0"):
    asset = Asset(id="file-1", name="a.png", mime_type="image/png", sha256=hashlib.sha256(data).hexdigest())
    return make_record(conversation, assets=(asset,))


@pytest.mark.parametrize("mode", ["append", "mirror", "snapshot"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
class TestEveryMode:
    def test_it_gives_back_what_it_stored(self, make, mode, compression):
        """Every record comes back whole, with its raw JSON."""
        sink = make(mode=mode, compression=compression)

        assert archive(sink, some(), max_unit_records=2) == Counts(5, 5)
        assert stored(sink) == plain(some())

    def test_it_makes_the_same_bytes_again(self, make, place, mode, compression):
        """Equal records give equal objects; only the run in a part's name differs."""
        sink = make(mode=mode, compression=compression)
        archive(sink, some())
        first = sorted(visible(place).values())
        place.objects.clear()
        archive(sink, some())

        assert sorted(visible(place).values()) == first

    def test_it_resumes_wherever_it_is_killed(self, make, place, tmp_path, mode, compression):
        """Killed before any step at all, the next run ends as if nothing had happened."""
        sink = make(mode=mode, compression=compression)
        newer = [later(some()[0]), *some()[1:], make_record("c9", title="New")]
        step = 0
        while _killed_at(place, step, sink, newer):
            archive(sink, newer, max_unit_records=2)
            assert stored(sink) == plain(newer), f"killed at step {step}"
            names = visible(place)
            assert mode != "mirror" or len(names) == 6
            place.objects.clear()
            place.staged.clear()
            step += 1

        assert step > 4


def _killed_at(place, step, sink, newer):
    """Archive, then top up and be killed at a step of that; False if there are fewer steps."""
    place.before = lambda *_: None
    archive(sink, some(), max_unit_records=2)
    left = iter(range(step))

    def before(*_):
        if next(left, None) is None:
            raise Killed

    place.before = before
    try:
        archive(sink, newer, max_unit_records=2)
    except Killed:
        return True
    finally:
        place.before = lambda *_: None
    return False


@pytest.mark.parametrize("mode", ["append", "mirror"])
class TestIncremental:
    def test_the_same_again_changes_nothing(self, make, place, mode):
        """The second time every record is unchanged and no object is touched."""
        sink = make(mode=mode)
        archive(sink, some())
        before = dict(visible(place))

        # Another chunking is another partition to the target, so the records are looked at again.
        assert archive(sink, [*some(), make_record("c9")]) == Counts(6, 1, 5)
        assert {n: d for n, d in visible(place).items() if n in before} == before

    def test_a_newer_version_is_joined(self, make, mode):
        """What either version has is there."""
        old, new = make_record("c0", ("Hello", "Hi there")), later(make_record("c0"))
        sink = make(mode=mode)
        archive(sink, [old])

        assert archive(sink, [new]) == Counts(1, 1)
        assert stored(sink) == plain([new])

    def test_a_thinner_version_takes_nothing_away(self, make, mode):
        """Fewer messages and no later time: unchanged."""
        full, thin = make_record("c0", ("Hello", "Hi there", "More")), make_record("c0", ("Hello",))
        sink = make(mode=mode)
        archive(sink, [full])

        assert archive(sink, [thin]) == Counts(1, 0, 1)
        assert stored(sink) == plain([full])

    def test_a_later_version_that_lacks_messages_keeps_them(self, make, mode):
        """A message that was deleted at the source stays in the archive."""
        full = make_record("c0", ("Hello", "Hi there", "More"))
        cut = later(full, "Hello", title="Renamed")
        sink = make(mode=mode)
        archive(sink, [full])
        archive(sink, [cut])

        (record,) = read_back(sink).values()
        assert [m.id for m in record.conversation.messages] == ["m0", "m1", "m2"]
        assert record.conversation.title == "Renamed"

    def test_an_older_export_after_a_newer_one_changes_nothing(self, make, mode):
        """The order of imports does not matter."""
        old, new = make_record("c0"), later(make_record("c0"))
        sink = make(mode=mode)
        archive(sink, [new])

        assert archive(sink, [old]) == Counts(1, 0, 1)
        assert stored(sink) == plain([new])

    def test_two_versions_in_one_unit_are_joined(self, make, mode):
        """The second finds the first although it is not committed yet."""
        old, new = make_record("c0"), later(make_record("c0"))
        sink = make(mode=mode)

        assert archive(sink, [old, old, new]) == Counts(3, 2, 1)
        assert stored(sink) == plain([new])

    @pytest.mark.parametrize("policy", ["keep", "new_version"])
    def test_another_plan_does_as_it_is_told(self, make, mode, policy):
        """With `keep` the records stay; with `new_version` they are stored again, and count instead."""
        sink = make(mode=mode)
        archive(sink, [make_record("c0", ("secret one", "secret two"))])
        redacted = make_record("c0", ("[hidden]", "[hidden]"))
        redacted = type(redacted)(
            conversation=redacted.conversation, origin=redacted.origin, raw=None,
            source_hash=make_record("c0", ("secret one", "secret two")).source_hash,
        )  # fmt: skip
        counts = archive(sink, [redacted], normaliser="2", on_plan_change=policy)

        assert counts == (Counts(1, 0, 1) if policy == "keep" else Counts(1, 1))
        texts = record_to_json(next(iter(read_back(sink).values())))
        assert (b"secret" in texts) == (policy == "keep")


class TestCommit:
    def test_a_part_is_named_by_its_manifest(self, make, place):
        """Each unit is one part and one manifest, chained to the one before; the run's end leaves one, too."""
        archive(make(), some(4), max_unit_records=2)

        manifests = [d for n, d in sorted(place.objects.items()) if n.startswith(".muniment/manifests/")]
        assert len(visible(place)) == 2 and len(manifests) == 4
        assert hashlib.sha256(manifests[0]).hexdigest().encode() in manifests[1]

    def test_it_is_idempotent(self, make, place):
        """The same unit committed twice is there once."""
        ctx = Context(run="r1")
        sink = make()
        with sink.open_target(ctx) as target, sink.open(ctx) as writer:
            writer.write(sink.encode(Batch("p", 1, some())))
            prepared = writer.seal(unit())
            target.commit([prepared], Fence("r1"))
            before = dict(place.objects)
            target.commit([prepared], Fence("r1"))

            assert place.objects == before

    @pytest.mark.parametrize("mode", ["append", "mirror", "snapshot"])
    def test_a_passing_fault_at_any_step_is_retried(self, make, place, mode):
        """A commit that failed once for the moment, anywhere, is the same when it is repeated."""
        sink = make(mode=mode)
        for step in range(30):
            left = iter(range(step))
            failed = []

            def before(what, name, left=left, failed=failed):
                if what != "write" and not failed and next(left, None) is None:
                    failed.append(what)
                    raise TransientError("try again")

            ctx = Context(run=f"r{step}")
            with sink.open_target(ctx) as target, sink.open(ctx) as writer:
                writer.write(sink.encode(Batch("p", 1, some())))
                prepared = writer.seal(unit(run=ctx.run))
                place.before = before
                with contextlib.suppress(TransientError):
                    target.commit([prepared], Fence(ctx.run))
                target.commit([prepared], Fence(ctx.run))
                place.before = lambda *_: None
            assert stored(sink) == plain(some()), f"failed at step {step}"
            place.objects.clear()
            place.staged.clear()
            if not failed:
                break

        assert step >= 3

    @pytest.mark.parametrize("mode", ["append", "snapshot"])
    def test_a_fault_in_the_middle_of_a_stream_is_final(self, make, place, mode):
        """A compressor cannot take back what it was given, so no second attempt may go on from there."""

        def before(what, name):
            if what == "write":
                raise TransientError("connection lost")

        place.before = before
        with pytest.raises(FatalError, match="connection lost; run the same command again to resume"):
            archive(make(mode=mode, compression="zstd"), some())
        place.before = lambda *_: None

        assert visible(place) == {} and place.staged == {}

    def test_another_writer_is_noticed(self, make, place):
        """Of two runs that commit the same number one wins; the other leaves nothing staged."""
        sink, ctx, manifest = make(), Context(run="r1"), ".muniment/manifests/00000001.json"
        with sink.open_target(ctx) as target, sink.open(ctx) as writer:
            writer.write(sink.encode(Batch("p", 1, some())))
            prepared = writer.seal(unit())
            place.objects[manifest] = b"of another run"
            with pytest.raises(TargetBusyError, match="another run has written to this target"):
                target.commit([prepared], Fence("r1"))

        assert place.objects[manifest] == b"of another run" and place.staged == {}

    def test_abort_removes_what_is_staged(self, make, place):
        """A sealed unit that is not to be committed leaves nothing."""
        ctx = Context(run="r1")
        for mode in ("append", "mirror"):
            sink = make(mode=mode)
            with sink.open_target(ctx) as target, sink.open(ctx) as writer:
                writer.write(sink.encode(Batch("p", 1, some())))
                target.abort([writer.seal(unit())])

            assert visible(place) == {} and place.staged == {}

    @pytest.mark.parametrize("mode", ["append", "mirror", "snapshot"])
    def test_an_error_of_the_source_leaves_nothing_staged(self, make, place, mode):
        """What was committed stands, the rest is gone."""
        with pytest.raises(RuntimeError):
            archive(make(mode=mode), some(), fail_at=3, max_unit_records=2)

        assert place.staged == {}
        assert len(visible(place)) == {"append": 1, "mirror": 2, "snapshot": 0}[mode]

    def test_a_storage_must_be_able_to_do_it(self, make):
        """A storage without conditional puts cannot hold a chain of manifests."""

        @frozen(kw_only=True)
        class Weak(MemoryObjects):
            def storage(self):
                return MemoryStorage(self.place, Capabilities(if_absent=False))

        sink = make()
        weak = Weak(place=sink.place, state=sink.state, formats=FORMATS)
        with pytest.raises(ConfigError, match="cannot publish a name only if it is absent"):
            weak.open_target(Context(run="r", path="sinks[0]"))


def unit(run="r1", number=1):
    return Unit(run, number, Checkpoint("p", "f", 5, 1, True, 5, "", run), Counts(5, 5))


class TestState:
    @pytest.mark.parametrize("damage", ["missing", "garbage", "older", "foreign"])
    def test_it_is_rebuilt_from_the_target(self, make, place, tmp_path, damage):
        """The target is the authority: whatever happens to the cache, nothing is stored twice."""
        sink = make()
        path = sink.state / "state.db"
        archive(sink, some(3))
        older = path.read_bytes()
        archive(sink, [*some(3), make_record("c9")])
        match damage:
            case "missing":
                path.unlink()
            case "garbage":
                path.write_bytes(b"garbage" * 1000)
            case "older":
                path.write_bytes(older)
            case "foreign":
                with State.open(path) as state:
                    state.set_last_manifest(99, b"")

        assert archive(sink, [*some(3), make_record("c9"), make_record("c10")]) == Counts(5, 1, 4)

    def test_a_damaged_manifest_stops_the_run(self, make, place):
        """It names the manifest and what to do."""
        sink = make()
        archive(sink, some())
        (sink.state / "state.db").unlink()
        place.objects[".muniment/manifests/00000001.json"] = b"{}"

        with pytest.raises(FatalError, match=r"manifest `.muniment/manifests/00000001.json` cannot be read"):
            archive(sink, some())

    def test_workers_know_what_is_stored(self, make):
        """A look-up gives hash and plan of what is there."""
        sink = make()
        archive(sink, some(1))

        with sink.open_known(Context(run="w")) as known:
            assert {k: v[0] for k, v in known.find(["test:c0", "test:c1"]).items()} == {
                "test:c0": some(1)[0].source_hash
            }
        assert make(mode="snapshot").open_known(Context(run="w")) is None


class TestOrphans:
    def test_they_are_listed(self, make, place):
        """Staged objects and parts that no manifest names."""
        sink = make()
        archive(sink, some())
        place.objects["part-00000009-dead.lines"] = b"x"
        place.staged["staged-x"] = b"yz"

        with sink.open_target(Context(run="r")) as target:
            assert {(o.where, o.size) for o in target.orphans()} == {
                ("part-00000009-dead.lines", 1),
                ("staged-x", 2),
            }

    def test_they_are_never_read(self, make, place):
        """A part without a manifest is not part of the archive."""
        sink = make()
        archive(sink, some())
        place.objects["part-00000009-dead.lines"] = record_to_json(make_record("c9"))

        assert stored(sink) == plain(some())


class TestReadBack:
    def test_a_damaged_part_is_named(self, make, place):
        """The error says which object, and what to do."""
        sink = make(compression="zstd")
        archive(sink, some())
        (name,) = visible(place)
        place.objects[name] = place.objects[name][:20]

        with pytest.raises(FatalError, match=f"`{name}` is damaged"):
            read_back(sink)

    def test_a_format_for_reading_only_says_so(self, make):
        """It cannot come back."""
        with pytest.raises(NotImplementedError, match="format `notes` cannot be read back"):
            read_back(make(format="notes"))

    def test_parts_of_another_format_are_read_by_theirs(self, make):
        """The manifest knows what wrote a part."""
        archive(make(format="lines"), some(2))
        archive(make(format="jsonl"), [*some(2), make_record("c9")])

        assert set(stored(make())) == {"test:c0", "test:c1", "test:c9"}


class TestMirror:
    def test_the_name_stays_when_the_title_changes(self, make, place):
        """A link to the object stays good."""
        sink = make(mode="mirror")
        archive(sink, [make_record("c0", title="First")])
        (name,) = visible(place)
        archive(sink, [later(make_record("c0"), title="Second")])

        assert list(visible(place)) == [name] and name.startswith("First-")

    def test_another_compression_renames_the_object(self, make, place):
        """The ending tells the truth, and the old object goes."""
        archive(make(mode="mirror"), [make_record("c0")])
        archive(make(mode="mirror", compression="gzip"), [later(make_record("c0"))])

        (name,) = visible(place)
        assert name.endswith(".lines.gz")
        assert stored(make(mode="mirror")) == plain([later(make_record("c0"))])

    def test_a_commit_that_was_cut_off_is_made_whole(self, make, place):
        """An object that was replaced before its manifest was there is named by the next run on the same input."""
        sink = make(mode="mirror")
        archive(sink, [make_record("c0")])
        newer = [later(make_record("c0"), "Hello", "More")]

        def before(step, name):
            if step == "publish" and "/manifests/" in name:
                raise FatalError("the disk is gone")

        place.before = before
        with pytest.raises(FatalError, match="the disk is gone"):
            archive(sink, newer)
        place.before = lambda *_: None
        archive(sink, newer)

        said = {o["name"]: o["sha256"] for m in load_all(MemoryStorage(place)) for o in m.objects}
        assert said == {name: hashlib.sha256(data).hexdigest() for name, data in visible(place).items()}
        assert archive(sink, newer) == Counts(1, 0, 1)

    def test_what_cannot_be_merged_is_kept_beside(self, make, place):
        """Without reading back, an object that holds more is copied before it is replaced."""
        full = make_record("c0", ("Hello", "Hi there", "More"))
        sink = make(mode="mirror", format="notes")
        archive(sink, [full])
        archive(sink, [later(full, "Hello", "New")])

        (now, earlier) = sorted(visible(place), key=lambda n: "earlier" in n)
        assert earlier == now.replace(".note", f".earlier-{full.source_hash[:8]}.note")
        assert place.objects[earlier] == b"A talk: Hello Hi there More "
        assert place.objects[now] == b"A talk: Hello New "

    def test_a_newer_superset_just_replaces(self, make, place):
        """Nothing is lost, so nothing is kept."""
        sink = make(mode="mirror", format="notes")
        archive(sink, [make_record("c0")])
        archive(sink, [later(make_record("c0"))])

        assert list(visible(place).values()) == [b"A talk: Hello Hi there More "]

    def test_rewrite_removes_earlier_versions(self, make, place):
        """Under a new plan nothing of the old one stays."""
        full = make_record("c0", ("Hello", "Hi there", "More"))
        sink = make(mode="mirror", format="notes")
        archive(sink, [full])
        newest = later(full, "Hello", "New", "More")
        archive(sink, [make_record("c0", ("Hello", "Hi there", "More"), title="Same time")])
        assert len(visible(place)) == 2
        archive(sink, [newest], normaliser="2", on_plan_change="rewrite")

        assert list(visible(place).values()) == [b"A talk: Hello New More "]

    def test_a_deleted_object_is_written_again_when_it_changes(self, make, place):
        """What the user removed is no obstacle."""
        sink = make(mode="mirror")
        archive(sink, [make_record("c0")])
        for name in visible(place):
            del place.objects[name]
        archive(sink, [later(make_record("c0"))])

        assert stored(sink) == plain([later(make_record("c0"))])

    def test_a_damaged_object_is_kept_beside(self, make, place):
        """Someone's edits are not overwritten."""
        sink = make(mode="mirror")
        archive(sink, [make_record("c0")])
        (name,) = visible(place)
        place.objects[name] = b"edited by hand"
        archive(sink, [later(make_record("c0"))])

        assert b"edited by hand" in visible(place).values()
        assert stored(sink) == plain([later(make_record("c0"))])


class TestSnapshot:
    def test_nothing_is_there_before_the_end(self, make, place):
        """The old snapshot stays until the new one is whole."""
        sink = make(mode="snapshot")
        archive(sink, some(2))
        before = dict(visible(place))
        with pytest.raises(RuntimeError):
            archive(sink, some(5), fail_at=4, max_unit_records=1)

        assert visible(place) == before
        archive(sink, some(3))
        assert set(stored(sink)) == {"test:c0", "test:c1", "test:c2"}

    def test_all_sources_go_into_one_object(self, make, place):
        """Partitions and sources make one stream; what they share is in it once."""
        sink = make(mode="snapshot")
        steps = tuple(Step("list", "s", ListSource(records=r)) for r in (some(2), some(3)))
        path = SinkPath(step=Step("memory", "sinks[0]", sink), name="sink")
        report = run(Plan(name="t", sources=steps, sinks=(path,)), Registry())

        assert report.sinks["sink"] == Counts(5, 3, 2)
        assert list(visible(place)) == ["snapshot.lines"]

    def test_versions_are_merged_when_read(self, make):
        """A conversation that came in two versions comes back as one."""
        sink = make(mode="snapshot")
        archive(sink, [make_record("c0"), later(make_record("c0"))])

        assert stored(sink) == plain([later(make_record("c0"))])

    def test_it_is_written_where_the_run_is_driven(self, make):
        """Without its target a writer has no stream."""
        with pytest.raises(FatalError, match="a snapshot is written where its run is driven"):
            make(mode="snapshot").open(Context(run="elsewhere"))


class TestAssets:
    @pytest.mark.parametrize("mode", ["append", "mirror", "snapshot"])
    def test_they_are_stored_once_by_digest(self, make, place, mode):
        """Two conversations that name the same bytes share them."""
        counts = archive(make(mode=mode), [with_asset(), with_asset(conversation="c1")], assets={"file-1": b"picture"})
        digest = hashlib.sha256(b"picture").hexdigest()

        assert counts == Counts(2, 2)
        assert place.objects[f"assets/{digest[:2]}/{digest}.png"] == b"picture"

    @pytest.mark.parametrize("mode", ["append", "mirror", "snapshot"])
    def test_other_bytes_reject_the_record(self, make, place, mode):
        """A record is not stored with bytes that its digest does not name."""
        counts = archive(make(mode=mode), [with_asset(), make_record("c1")], assets={"file-1": b"changed"})

        assert counts == Counts(2, 1, 0, 0, 1)
        assert not [n for n in place.objects if n.startswith("assets/")] and place.staged == {}

    def test_a_missing_one_is_a_recorded_fact(self, make, place):
        """The record is stored; the manifest names the digest."""
        record = with_asset()
        counts = archive(make(), [record])

        assert counts == Counts(1, 1)
        assert (
            f'"missing_assets":["{record.conversation.assets[0].sha256}"]'.encode()
            in (place.objects[".muniment/manifests/00000001.json"])
        )

    def test_formats_link_to_them(self, make, place):
        """The link is relative, and empty for an asset without bytes."""
        archive(make(format="notes"), [with_asset()], assets={"file-1": b"picture"})
        digest = hashlib.sha256(b"picture").hexdigest()

        assert [d for n, d in visible(place).items() if n.endswith(".note")] == [
            f"A talk: Hello Hi there assets/{digest[:2]}/{digest}.png".encode()
        ]


class TestOptions:
    def test_defaults_follow_the_format(self, make):
        """A format of one document per conversation is mirrored."""
        assert make(format="notes", mode=None).layout.mode == "mirror"
        assert make(format=None, mode=None).layout == evolve(make().layout, format="jsonl")

    def test_format_options_are_checked(self, make):
        """A wrong option is a sentence, not a crash in a worker."""
        assert list(make(format="picky", format_options={"level": 2}).check()) == []
        (problem,) = make(format="picky", format_options={"nope": 2}).check()
        assert problem.startswith("`format_options` do not fit format `picky`:")

    def test_parts_cannot_be_rewritten(self, make):
        """An immutable part would keep what `rewrite` promises to remove."""
        with pytest.raises(ConfigError, match="cannot remove what the parts of `mode: append` hold"):
            make().open_target(Context(run="r", path="sinks[0]", on_plan_change="rewrite"))
