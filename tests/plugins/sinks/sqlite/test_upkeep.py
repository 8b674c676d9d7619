"""Archives of older versions, damaged ones, ones with gaps."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from muniment.cli import cli
from muniment.lock import TargetLock
from muniment_plugins.sinks.sqlite import check as checking
from muniment_plugins.sinks.sqlite import schema
from muniment_plugins.sinks.sqlite.archive import Archive
from muniment_plugins.sinks.sqlite.migrate import STEPS
from muniment_plugins.sinks.sqlite.read import read_records
from muniment_plugins.sinks.sqlite.search import search

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ARCHIVES = Path(__file__).parents[3] / "data" / "archives"
SAMPLE = Path(__file__).parents[4] / "core" / "muniment" / "sample" / "chatgpt-export.zip"


def muniment(*args):
    return CliRunner().invoke(cli, [str(a) for a in args], prog_name="muniment")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "archive.db"
    assert muniment("import", SAMPLE, "--to", path, "--quiet").exit_code in (0, 3)
    return path


@pytest.fixture
def archive(made, tmp_path):
    return Path(shutil.copy(made, tmp_path / "archive.db"))


@pytest.fixture(params=sorted(STEPS))
def older(request, tmp_path):
    """An archive as a released version wrote it."""
    path = tmp_path / "older.db"
    path.write_bytes(zstd.decompress((ARCHIVES / f"version-{request.param}.db.zst").read_bytes()))
    return path


def tables(path):
    with sqlite3.connect(path) as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")]
        return {n: connection.execute(f"PRAGMA table_info({n})").fetchall() for n in names}


def contents(path):
    return {r.key: (r.conversation, r.raw) for _, r in read_records(path)}


class TestMigration:
    def test_it_reads_an_older_archive_as_it_is(self, older, made):
        """Searching and reading need no migration, and write nothing."""
        before = older.read_bytes()

        assert contents(older) == contents(made)
        assert [h.snippet for h in search(older, "the")] == [h.snippet for h in search(made, "the")]
        assert older.read_bytes() == before

    def test_it_brings_an_older_archive_to_the_tables_of_a_new_one(self, older, made):
        """A top-up migrates; nothing of the content changes."""
        result = muniment("import", SAMPLE, "--to", older, "--quiet")

        assert result.exit_code in (0, 3)
        assert tables(older) == tables(made)
        assert contents(older) == contents(made)
        assert muniment("archive", "check", older).exit_code == 0

    def test_it_leaves_an_archive_that_cannot_be_migrated_as_it_was(self, older, monkeypatch):
        """A step that fails takes the whole migration back."""
        before = tables(older)
        monkeypatch.setitem(STEPS, schema.VERSION - 1, "CREATE TABLE half(x); INSERT INTO nowhere VALUES(1);")

        result = muniment("import", SAMPLE, "--to", older, "--quiet")

        assert result.exit_code == 1
        assert tables(older) == before


class TestCheck:
    def test_it_finds_a_sound_archive_sound(self, archive):
        """Exit code 0, and the number of things that were looked at."""
        result = muniment("archive", "check", archive, "--json")

        assert result.exit_code == 0
        assert json.loads(result.stdout) == {"checked": checking.count(archive), "problems": []}

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            ("UPDATE records SET record = zeroblob(9) WHERE conversation = 1", "conversation 1"),
            ("UPDATE records SET record = (SELECT record FROM records WHERE conversation=2) WHERE conversation=1",
             "has the record of another conversation"),
            ("DELETE FROM records WHERE conversation = 1", "has no record"),
            ("UPDATE conversations SET source_hash = 'x' WHERE no = 1", "is not the one which was stored"),
            ("DELETE FROM messages WHERE no = 1", "rows of messages instead of"),
            ("UPDATE asset_chunks SET data = zeroblob(9)", "has other bytes than were stored"),
            ("DELETE FROM asset_chunks", "its bytes are gone"),
            ("DELETE FROM conversations WHERE no = 1", "belong to nothing"),
            ("DELETE FROM messages_fts_docsize WHERE id IN (SELECT min(id) FROM messages_fts_docsize)",
             "lacks 1 messages"),
        ],
    )  # fmt: skip
    def test_it_names_what_is_damaged(self, archive, damage, said):
        """One line for each thing that is not as it was stored, and exit code 1."""
        with sqlite3.connect(archive) as connection:
            connection.execute(damage)
        connection.close()

        result = muniment("archive", "check", archive)

        assert result.exit_code == 1
        assert said in result.stdout

    def test_it_reports_damaged_pages(self, archive):
        """A file that was overwritten in the middle is not sound, and nothing crashes."""
        with archive.open("r+b") as file:
            file.seek(8192 * 3)
            file.write(b"\xff" * 8192)

        assert muniment("archive", "check", archive).exit_code == 1

    def test_it_says_that_there_is_no_archive(self, tmp_path):
        """A wrong name is an error, not a sound archive."""
        result = muniment("archive", "check", tmp_path / "none.db")

        assert result.exit_code == 1
        assert "there is no archive" in result.stderr


class TestVacuum:
    def test_it_makes_an_archive_smaller_and_changes_nothing_else(self, archive):
        """What was deleted gives its room back; every record is as it was."""
        before = contents(archive)
        with sqlite3.connect(archive) as connection:
            connection.executescript("CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(4000000)); DROP TABLE t;")
        connection.close()

        result = muniment("archive", "vacuum", archive, "--json")

        sizes = json.loads(result.stdout)
        assert sizes["bytes_after"] < sizes["bytes_before"] - 3_900_000
        assert contents(archive) == before
        assert muniment("archive", "check", archive).exit_code == 0
        assert sorted(p.name for p in archive.parent.iterdir()) == ["archive.db"]

    def test_it_waits_for_no_run(self, archive):
        """While a run holds the archive it is refused with the code of a busy target."""
        lock = TargetLock(archive)
        lock.acquire()
        try:
            assert muniment("archive", "vacuum", archive).exit_code == 11
        finally:
            lock.release()

    def test_it_says_that_there_is_too_little_room(self, archive, monkeypatch):
        """The room is looked at before anything is written."""
        monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(10, 10, 0))

        result = muniment("archive", "vacuum", archive)

        assert result.exit_code == 1
        assert "free bytes" in result.stderr


class TestReaders:
    def test_they_read_while_an_archive_is_topped_up(self, archive):
        """A reader sees the last commit, and nobody waits."""
        before = contents(archive)
        writer = Archive(archive, fts="words", loading=False)
        writer.begin()
        writer.connection.execute("DELETE FROM records")

        assert contents(archive) == before
        writer.rollback()
        writer.close()
