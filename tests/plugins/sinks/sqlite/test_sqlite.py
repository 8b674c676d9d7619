"""An archive that people can query and search, and that loses nothing."""

import hashlib
import io
import sqlite3
import stat
from datetime import UTC, datetime

import pytest
from attrs import frozen

from muniment import Asset, Counts, FatalError, FilePart, InputError, Message, TargetBusyError, TextPart, UnknownPart
from muniment.canonical import source_hash
from muniment.components import Reader
from muniment.engine.local import Local
from muniment.lock import TargetLock
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.testing import ListSource, make_record
from muniment.testing.records import _ListReader
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.loading import loading_path
from muniment_plugins.sinks.sqlite.read import connect, open_asset, read_records
from muniment_plugins.sinks.sqlite.search import search

PNG = b"\x89PNG" + bytes(3_000_000)
DIGEST = hashlib.sha256(PNG).hexdigest()


class Quiet:
    def call_run_event(self, event):
        pass


@frozen(kw_only=True)
class WithAssets(ListSource):
    data: bytes = PNG

    def open(self, ctx):
        return _AssetReader(self)


class _AssetReader(_ListReader, Reader):
    def open_asset(self, asset):
        return io.BytesIO(self._source.data)


def store(path, records, source=ListSource, on_plan_change="keep", fail_at=None, **options):
    plan = Plan(
        name="test",
        sources=(Step("list", "source", source(records=records, fail_at=fail_at)),),
        sinks=(
            SinkPath(
                step=Step("sqlite", "sinks[0]", SQLite(path=str(path), **options)),
                name="sqlite",
                on_plan_change=on_plan_change,
            ),
        ),
        engine=Local(),
    )
    return run(plan, Quiet()).sinks["sqlite"]


def stored(path):
    return {r.conversation.id: r for _, r in read_records(path)}


def query(path, statement):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


NAUGHTY = [
    "",
    "\0",
    "a\0b",
    "\ud83d",
    "\ue200cite\ue202turn0search0\ue201",
    "‮rtl",
    "x" * 1_000_000,
    "'; DROP TABLE--",
    "😀",
]


class TestRoundTrip:
    def test_a_record_comes_back_identical(self, path):
        """Conversation, raw JSON and hash, for text that breaks others."""
        records = [make_record(f"c{i}", (text, "ok"), title=text) for i, text in enumerate(NAUGHTY)]
        records.append(make_record("none", (), title=None, created_at=None, metadata={"a": [1, None, "\ud800"]}))
        records.append(make_record("odd", messages=(Message(id="m", role="tool", parts=(UnknownPart({"x": [1]}),)),)))

        store(path, records)

        for record in records:
            back = stored(path)[record.conversation.id]
            assert (back.conversation, back.raw, back.source_hash) == (
                record.conversation,
                record.raw,
                record.source_hash,
            )

    def test_the_columns_hold_what_people_ask_for(self, path):
        """The tables can be read without us."""
        store(path, [make_record("c1", ("Hi", "Hello"))])

        rows = query(path, "SELECT title, role, visible, text, created_at FROM transcript ORDER BY position")
        time = "2026-01-02T03:04:05.678901Z"
        assert rows == [("A talk", "user", 1, "Hi", time), ("A talk", "assistant", 1, "Hello", time)]


class TestAgain:
    def test_twice_is_once(self, path):
        """The same records again change nothing."""
        records = [make_record("c1"), make_record("c2")]
        store(path, records)
        before = query(path, "SELECT * FROM conversations")

        assert store(path, records) == Counts(read=2, unchanged=2)
        assert query(path, "SELECT * FROM conversations") == before

    def test_a_continued_conversation_is_merged_and_its_earlier_version_kept(self, path):
        """The new messages are there, the old state can still be read."""
        store(path, [make_record("c1", ("one",)), make_record("c2")])
        longer = make_record("c1", ("one", "two zwei"))

        assert store(path, [longer, make_record("c2")]) == Counts(read=2, stored=1, unchanged=1)
        assert stored(path)["c1"].conversation == longer.conversation
        assert query(path, "SELECT conversation FROM versions") == [(1,)]
        assert [h.message_id for h in search(path, "zwei")] == ["m1"]

    def test_a_thinner_one_takes_nothing_away(self, path):
        """Fewer messages and fewer fields leave the richer record as it is."""
        rich = make_record("c1", ("one", "two"))
        store(path, [rich])

        assert store(path, [make_record("c1", ("one",), title=None)]) == Counts(read=1, unchanged=1)
        assert stored(path)["c1"].conversation == rich.conversation

    def test_words_that_went_are_not_found_any_more(self, path):
        """The index forgets what an edit removed."""
        old = make_record("c1", ("alpha",))
        later = datetime(2027, 1, 1, tzinfo=UTC)
        edited = (Message(id="m0", role="user", parts=(TextPart("omega"),), updated_at=later),)
        new = make_record("c1", messages=edited, updated_at=later)
        store(path, [old])
        store(path, [new])

        assert search(path, "alpha") == []
        assert [h.snippet for h in search(path, "omega")] == ["\x02omega\x03"]

    def test_a_conversation_twice_in_one_load_is_merged(self, path):
        """Shards may repeat a conversation."""
        counts = store(path, [make_record("c1", ("one",)), make_record("c1", ("one", "two"))])

        assert counts == Counts(read=2, stored=2)
        assert len(stored(path)["c1"].conversation.messages) == 2


class TestLoading:
    def test_a_failed_first_load_leaves_nothing(self, path, tmp_path):
        """The archive appears whole or not at all."""
        with pytest.raises(RuntimeError):
            store(path, [make_record("c1"), make_record("c2")], fail_at=1)

        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_load_left_is_discarded(self, path):
        """A half-written file is not trusted."""
        loading_path(path).write_bytes(b"garbage")

        assert store(path, [make_record("c1")]) == Counts(read=1, stored=1)
        assert not loading_path(path).exists()

    def test_at_rest_it_is_one_file(self, path, tmp_path):
        """Nothing stands beside it, after a load, a top-up and a search."""
        store(path, [make_record("c1")])
        store(path, [make_record("c2")])
        search(path, "hello")

        assert [p.name for p in tmp_path.iterdir()] == ["archive.db"]

    def test_the_file_is_for_its_owner_alone(self, path):
        """0600, whatever the umask."""
        store(path, [make_record("c1")])

        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_index_is_sound(self, path):
        """SQLite's own checks find nothing, after a load and after a top-up."""
        store(path, [make_record("c1", ("数据库", "x"))])
        store(path, [make_record("c1", ("数据库", "x", "y")), make_record("c2")])

        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        assert query(path, "INSERT INTO messages_fts(messages_fts) VALUES('integrity-check')") == []


class TestAssets:
    def record(self, sha256=DIGEST):
        message = Message(id="m", role="user", parts=(FilePart("file-1", "image"),))
        asset = Asset(id="file-1", name="a.png", mime_type="image/png", size=len(PNG), sha256=sha256)
        return make_record("c1", messages=(message,), assets=(asset, Asset(id="gone", missing="not in the export")))

    def test_the_bytes_are_inside(self, path):
        """An image comes back, streamed, from the one file."""
        store(path, [self.record()], WithAssets)

        with open_asset(path, DIGEST) as stream:
            assert stream.read() == PNG
        rows = query(path, "SELECT id, sha256, missing FROM assets ORDER BY id")
        assert rows == [("file-1", DIGEST, None), ("gone", None, "not in the export")]

    def test_an_asset_that_changed_rejects_its_record(self, path):
        """What is stored under a digest has that digest."""
        counts = store(path, [self.record("0" * 64), make_record("c2")], WithAssets)

        assert counts == Counts(read=2, stored=1, quarantined=1)
        assert query(path, "SELECT count(*) FROM asset_chunks") == [(0,)]

    def test_an_unknown_digest_is_not_found(self, path):
        """An error that says so, not an empty file."""
        store(path, [make_record("c1")])

        with pytest.raises(FileNotFoundError):
            open_asset(path, DIGEST)


class TestPlanChange:
    def altered(self):
        record = make_record("c1")
        changed = record.evolve(title="[hidden]")
        assert changed.source_hash == record.source_hash != source_hash(changed.conversation)
        return changed

    @pytest.mark.parametrize(
        ("on_plan_change", "title", "versions"),
        [("keep", "A talk", 0), ("rewrite", "[hidden]", 0), ("new_version", "[hidden]", 1)],
    )
    def test_the_option_decides(self, path, monkeypatch, on_plan_change, title, versions):
        """Same source, other plan: kept, replaced without a trace, or replaced with the old one kept."""
        store(path, [make_record("c1")])
        monkeypatch.setattr(Plan, "hash_of", lambda self, sink: "another plan")

        store(path, [self.altered()], on_plan_change=on_plan_change)

        assert stored(path)["c1"].conversation.title == title
        assert query(path, "SELECT count(*) FROM versions") == [(versions,)]


class TestRefusals:
    def test_it_refuses_a_target_that_another_run_holds(self, path):
        """Two writers would spoil each other's work."""
        lock = TargetLock(path)
        lock.acquire()
        with pytest.raises(TargetBusyError):
            store(path, [make_record("c1")])
        lock.release()

    @pytest.mark.parametrize("content", [b"not a database at all" * 100, b"{}"])
    def test_it_refuses_a_file_of_another_kind(self, path, content):
        """Nothing is written into somebody's file."""
        path.write_bytes(content)

        with pytest.raises(FatalError, match="archive.db` is not a readable SQLite database"):
            store(path, [make_record("c1")])
        assert path.read_bytes() == content

    def test_it_refuses_somebody_elses_database(self, path):
        """An SQLite file of another program is left alone."""
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs(x)")
        connection.close()

        with pytest.raises(FatalError, match="is an SQLite database of something else; choose another file"):
            store(path, [make_record("c1")])
        with pytest.raises(InputError, match="is an SQLite database, but not a muniment archive"):
            connect(path)

    def test_it_refuses_an_archive_of_a_newer_muniment(self, path):
        """A version that we do not know is not guessed at."""
        store(path, [make_record("c1")])
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version=99")
        connection.close()

        with pytest.raises(FatalError, match="written by a newer muniment \\(archive version 99\\); update muniment"):
            store(path, [make_record("c1")])
        with pytest.raises(InputError, match="newer muniment"):
            connect(path)

    def test_a_missing_archive_says_how_to_make_one(self, path):
        """The message names the next command."""
        with pytest.raises(InputError, match="^there is no archive `.*archive.db`; make one with `muniment import"):
            connect(path)


class TestSearch:
    def test_titles_weigh_more_than_text(self, path):
        """A talk about something comes before one that mentions it."""
        store(path, [make_record("c1", ("taxes here",), title="x"), make_record("c2", ("y",), title="taxes")])

        assert [h.conversation_id for h in search(path, "taxes")] == ["c2", "c1"]

    def test_filters_narrow(self, path):
        """By role, source and time."""
        store(path, [make_record("c1", ("word", "word"))])

        assert [h.role for h in search(path, "word", role="assistant")] == ["assistant"]
        assert search(path, "word", source="other") == []
        assert search(path, "word", after=datetime(2027, 1, 1, tzinfo=UTC)) == []
        assert len(search(path, "word", before=datetime(2027, 1, 1, tzinfo=UTC))) == 2

    def test_a_snippet_shows_the_match_in_a_long_text(self, path):
        """One line around the first match, marked, without regard to accents."""
        store(path, [make_record("c1", ("lorem " * 200 + "the Café\nopens " + "ipsum " * 200,))])

        [hit] = search(path, "cafe")
        assert "the \x02Café\x03 opens" in hit.snippet
        assert hit.snippet.startswith("…") and hit.snippet.endswith("…") and "\n" not in hit.snippet

    def test_trigrams_find_inside_words(self, path):
        """With `fts: trigram` also Latin substrings."""
        store(path, [make_record("c1", ("refactoring",))], fts="trigram")

        assert [h.conversation_id for h in search(path, "actori")] == ["c1"]

    def test_an_archive_without_an_index_says_so(self, path):
        """And how to get one."""
        store(path, [make_record("c1")], fts="none")

        with pytest.raises(FatalError, match="made without a full-text index; import again with `--fts words`"):
            search(path, "x")
