"""A copy that is short is made whole from another, and nothing else changes."""

import sqlite3

import pytest
from attrs import evolve, frozen

from muniment import ConfigError, Counts, Effect, FatalError, InputError, Record, Transform
from muniment.comparison import Difference
from muniment.errors import StoppedError
from muniment.pipeline import StopFlag, run
from muniment.plan import Plan, SinkPath, Step
from muniment.repair import repair
from muniment.state import State
from muniment.testing import ListSource, MemoryBatch, MemoryStore, MemoryUpsert, make_asset, make_record
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.read import open_asset, read_records

PICTURE = b"\x89PNG" * 1000
LETTERS = "abcdefghij"


class Events:
    def __init__(self):
        self.heard = []

    def call_run_event(self, event):
        self.heard.append(event)


@frozen(kw_only=True)
class Shout(Transform):
    effect = Effect.ALTERS_CONTENT

    def apply(self, record: Record) -> Record:
        return record.map_text(str.upper)


def records(letters=LETTERS, texts=("Hello", "Hi there")):
    picture = make_asset(PICTURE, name="cat.png")
    return [make_record(c, texts, title=c, assets=(picture,) if c in "ae" else ()) for c in letters]


def source(some=None):
    from hashlib import sha256

    return ListSource(records=records() if some is None else some, assets={sha256(PICTURE).hexdigest(): PICTURE})


def plan(tmp_path, *sinks, some=None, transforms=(), own=(), on_plan_change="keep"):
    return Plan(
        name="chats",
        sources=(Step("list", "source", source(some)),),
        transforms=tuple(Step("shout", "transforms[0]", t) for t in transforms),
        sinks=tuple(
            SinkPath(
                step=Step("x", f"sinks[{i}]", s),
                name="ab"[i],
                transforms=tuple(Step("shout", "t", t) for t in own[i : i + 1] if t),
                on_plan_change=on_plan_change,
                max_unit_records=3,
            )
            for i, s in enumerate(sinks)
        ),
        state_dir=tmp_path / "state",
    )


def mend(both, source="a", target="b", **more):
    return repair(both, Events(), source=source, target=target, stop=more.pop("stop", StopFlag()), **more)


@pytest.fixture
def archive(tmp_path):
    return SQLite(path=str(tmp_path / "a.db"))


@pytest.fixture
def folder(tmp_path):
    return Files(path=str(tmp_path / "b"), format="jsonl", mode="append")


def contents(both, name):
    (path,) = (s for s in both.sinks if s.name == name)
    from muniment import Context

    context = Context(run="look", path=path.step.path, state_dir=both.state_dir)
    with path.step.component.open_target(context) as target:
        found = {r.key: r.conversation for r in target.read_back()}
        target.end_run("look", 0, Counts())
    return found


def parts(folder):
    from pathlib import Path

    return sorted(Path(folder.path).glob("part-*"))


class TestFromArchiveToFiles:
    def test_a_whole_copy_is_left_alone(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        before = parts(folder)

        report = mend(both)

        assert (report.exit_code, report.found, report.left) == (0, Difference(same=10), None)
        assert report.counts == Counts(read=10, unchanged=10)
        assert parts(folder) == before

    @pytest.mark.parametrize("harm", ["remove", "truncate", "flip"])
    def test_lost_parts_are_written_again(self, tmp_path, archive, folder, harm):
        """What cannot be read counts as missing; afterwards the copy can be read whole."""
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        lost = parts(folder)[1]
        data = lost.read_bytes()
        if harm == "remove":
            lost.unlink()
        else:
            lost.write_bytes(data[:-20] if harm == "truncate" else data.replace(b"Hello", b"Jello"))

        report = mend(both)

        assert report.damaged == (lost.name,)
        assert (report.found, report.left) == (Difference(same=7, missing=3), Difference(same=10))
        assert (report.exit_code, report.counts) == (0, Counts(read=10, stored=3, unchanged=7))
        assert contents(both, "b") == contents(both, "a")

    def test_the_repair_survives_the_loss_of_local_state(self, tmp_path, archive, folder):
        """The manifests say it too."""
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        parts(folder)[0].unlink()
        mend(both)
        state = folder.state_path(None)
        state.unlink()

        assert contents(both, "b") == contents(both, "a")
        assert mend(both).found == Difference(same=10)

    def test_a_mirror(self, tmp_path, archive):
        """One file lost, one damaged, one changed by hand."""
        folder = Files(path=str(tmp_path / "b"), format="json", mode="mirror")
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        one, two, three, *_ = sorted((tmp_path / "b").glob("*.json"))
        one.unlink()
        two.write_bytes(b"{")
        three.write_bytes(three.read_bytes().replace(b"Hello", b"Jello"))

        report = mend(both)

        assert report.found == Difference(same=7, missing=3)
        assert (report.exit_code, report.left) == (0, Difference(same=10))
        assert contents(both, "b") == contents(both, "a")

    def test_a_lost_asset_is_copied(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        (asset,) = (p for p in (tmp_path / "b" / "assets").rglob("*") if p.is_file())
        asset.unlink()

        report = mend(both)

        assert report.found == Difference(same=8, short=2)
        assert (report.exit_code, report.left) == (0, Difference(same=10))
        assert asset.read_bytes() == PICTURE

    def test_a_dry_run_writes_nothing(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        parts(folder)[1].unlink()
        before = parts(folder)

        report = mend(both, dry_run=True)

        assert (report.exit_code, report.found, report.left) == (3, Difference(same=7, missing=3), None)
        assert parts(folder) == before
        assert mend(both).found == Difference(same=7, missing=3)

    def test_what_is_nowhere_else_is_left_as_it_is(self, tmp_path, archive, folder):
        """A damaged part is given up only if all that it held is written again."""
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        part = parts(folder)[0]
        part.write_bytes(part.read_bytes()[:-20])
        with sqlite3.connect(archive.path) as db:
            db.execute("DELETE FROM records WHERE conversation=1")
            db.execute("DELETE FROM conversations WHERE no=1")

        report = mend(both)

        assert (report.exit_code, report.still_damaged) == (3, (part.name,))
        assert report.left == Difference(same=9)
        assert part.exists()

    def test_the_next_run_finds_nothing_to_do(self, tmp_path, archive, folder):
        """Also where a transform altered what was stored: the copy has the hash of what was read."""
        both = plan(tmp_path, archive, folder, transforms=[Shout()], on_plan_change="new_version")
        run(both, Events())
        parts(folder)[1].unlink()
        mend(both)
        newer = evolve(both, sources=(Step("list", "source", source(records(LETTERS + "k"))),))

        report = run(newer, Events())

        assert report.sinks == {n: Counts(read=11, stored=1, unchanged=10) for n in "ab"}

    def test_a_stop_is_resumed_by_the_same_call(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        for part in parts(folder):
            part.unlink()
        stop, calls = StopFlag(), []

        class Stopping(Events):
            def call_run_event(self, event):
                calls.append(event.kind)
                if calls.count("reading") == 3:
                    stop.set(2)

        with pytest.raises(StoppedError):
            repair(both, Stopping(), source="a", target="b", stop=stop)

        assert mend(both).exit_code == 0
        assert contents(both, "b") == contents(both, "a")


class TestFromFilesToArchive:
    def test_missing_rows_come_back_with_their_assets(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        with sqlite3.connect(archive.path) as db:
            db.execute("DELETE FROM records WHERE conversation<4")
            db.execute("DELETE FROM conversations WHERE no<4")
            db.execute("DELETE FROM asset_chunks")

        report = mend(both, "b", "a")

        assert report.found == Difference(same=6, missing=3, short=1)
        assert (report.exit_code, report.left) == (0, Difference(same=10))
        digest = next(a.sha256 for _, r in read_records(tmp_path / "a.db") for a in r.conversation.assets)
        assert open_asset(tmp_path / "a.db", digest).read() == PICTURE

    def test_a_new_archive_is_made(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        (tmp_path / "a.db").unlink()

        report = mend(both, "b", "a")

        assert (report.exit_code, report.found, report.left) == (0, Difference(missing=10), Difference(same=10))
        assert contents(both, "a") == contents(both, "b")

    def test_it_is_a_run_of_its_own(self, tmp_path, archive, folder):
        """With the other sink as its input; the one that is read notes that it ended."""
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        (tmp_path / "a.db").unlink()
        report = mend(both, "b", "a")

        with State.open(tmp_path / "a.db", read_only=True) as state:
            (entry,) = state.runs()
            (checkpoint,) = state.checkpoints().values()
        with State.open(folder.state_path(None), read_only=True) as state:
            codes = [r["exit_code"] for r in state.runs()]

        assert (entry["run"], entry["pipeline"], entry["exit_code"]) == (report.run, "chats (repair)", 0)
        assert (checkpoint.partition, checkpoint.finished) == ("repair:b", True)
        assert codes == [0, 0]

    def test_what_only_the_copy_has_stays(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        run(evolve(plan(tmp_path, archive, some=records("xyz"))), Events())

        report = mend(both, "b", "a")

        assert (report.exit_code, report.found) == (0, Difference(same=10, extra=3))
        assert len(contents(both, "a")) == 13

    def test_a_richer_copy_is_not_made_poorer(self, tmp_path, archive, folder):
        """Versions are merged, and a second repair finds the same."""
        both = plan(tmp_path, archive, folder)
        run(both, Events())
        run(plan(tmp_path, archive, some=[make_record("a", ("Hello", "Hi there", "More"), title="a")]), Events())

        report = mend(both, "b", "a")

        assert len(contents(both, "a")["test:a"].messages) == 3
        assert report.found == Difference(same=9, short=1)
        assert report.counts == Counts(read=10, unchanged=10)

    def test_a_killed_write_is_told(self, tmp_path, folder):
        store = MemoryStore()
        both = plan(tmp_path, MemoryUpsert(store=store), folder)
        run(both, Events())
        store.records.clear()
        store.before_commit = lambda: (_ for _ in ()).throw(FatalError("no space"))

        with pytest.raises(FatalError, match="no space"):
            mend(both, "b", "a")


class TestRefusals:
    def refusal(self, both, *names):
        with pytest.raises(ConfigError) as caught:
            mend(both, *names)
        return str(caught.value)

    def test_unknown_sinks(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder)

        assert self.refusal(both, "aa", "b") == "there is no sink `aa` in `chats`; did you mean `a`?"
        assert self.refusal(both, "a", "a") == ("sink `a` cannot be repaired from itself; name another with `--from`")

    def test_transforms_of_their_own(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder, own=[None, Shout()])

        assert self.refusal(both, "a", "b") == (
            "sinks `a` and `b` have different `transforms` of their own, so that one is no copy of the other; run the"
            " pipeline again, or take a sink with the transforms of `b`"
        )

    def test_the_same_transforms_are_no_difference(self, tmp_path, archive, folder):
        both = plan(tmp_path, archive, folder, own=[Shout(), Shout()])
        run(both, Events())

        assert mend(both).exit_code == 0

    def test_sinks_that_cannot_be_read(self, tmp_path, archive):
        both = plan(tmp_path, archive, MemoryBatch(store=MemoryStore()))

        assert self.refusal(both, "b", "a") == "sink `b` cannot be read; take another with `--from`"
        assert self.refusal(both, "a", "b") == "sink `b` cannot be read, so nobody knows what it lacks"

    def test_formats_that_cannot_be_read(self, tmp_path, archive):
        both = plan(tmp_path, archive, Files(path=str(tmp_path / "b"), format="markdown"))
        run(both, Events())

        assert self.refusal(both, "a", "b") == "format `markdown` cannot be read back; take sinks that can be read"

    def test_snapshots(self, tmp_path, archive):
        both = plan(tmp_path, archive, Files(path=str(tmp_path / "b.jsonl"), format="jsonl", mode="snapshot"))
        run(both, Events())

        assert self.refusal(both, "a", "b") == (
            "sink `b` is a snapshot, which every run writes whole; run the pipeline again"
        )
        assert mend(both, "b", "a").found == Difference(same=10)

    def test_an_original_that_holds_nothing(self, tmp_path, archive, folder):
        """A repair never empties, but it would prove nothing either."""
        with pytest.raises(InputError, match="sink `a` holds nothing yet; run the pipeline first"):
            mend(plan(tmp_path, archive, folder))
