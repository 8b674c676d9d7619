"""Whatever happens to what a target knows of itself, no record is skipped: rebuilt, or refused."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile

import pytest

from muniment import config
from muniment.errors import FatalError
from muniment.pipeline import run
from muniment.plugins import load_registry
from muniment_plugins.sinks.sqlite.read import read_records

PIPELINE = """\
version: 1
source: {{type: chatgpt_export, path: {export}}}
sinks:
  - {{type: {sink}, path: {path}, unit: {{max_records: 2}}}}
"""


def conversation(number):
    message = {"id": f"m{number}", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["hello"]}}
    return {
        "id": f"c{number}", "title": f"number {number}", "create_time": 1735700000.0 + number,
        "update_time": 1735700000.0 + number, "current_node": "n", "mapping": {"n": {"id": "n", "message": message}},
    }  # fmt: skip


@pytest.fixture
def target(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def archive(tmp_path, target):
    """Return a function that archives so many conversations and returns what it says."""

    def archive(sink, count):
        export = tmp_path / f"export-{count}.zip"
        with zipfile.ZipFile(export, "w") as z:
            z.writestr("conversations.json", json.dumps([conversation(n) for n in range(count)]))
        path = target / ("archive.db" if sink == "sqlite" else "out")
        text = PIPELINE.format(export=json.dumps(str(export)), sink=sink, path=json.dumps(str(path)))
        registry = load_registry(allow=["muniment"])
        return run(config.parse(text, file="p.yaml", base=tmp_path, registry=registry), registry)

    return archive


def stored(target, sink):
    """Return how often each conversation is held."""
    if sink == "sqlite":
        connection = sqlite3.connect(target / "archive.db")
        ids = [r[0] for r in connection.execute("SELECT id FROM conversations ORDER BY id")]
        connection.close()
        return ids
    parts = sorted((target / "out").glob("part-*.jsonl"))
    return sorted(json.loads(line)["id"] for part in parts for line in part.read_text().splitlines())


def damages(data, seed):
    """Yield files that are not what they were."""
    rng = random.Random(seed)
    yield "empty", b""
    yield "garbage", b"garbage" * 3000
    for part in (2, 3, 10):
        yield f"truncated to 1/{part}", data[: len(data) // part]
    for page in range(0, len(data), 4096):
        yield f"page at {page} zeroed", data[:page] + bytes(4096) + data[page + 4096 :]
    for _ in range(30):
        place = rng.randrange(len(data))
        yield f"byte {place} flipped", data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


class TestFiles:
    """The state is a cache: damaged in any way, it is made anew."""

    def test_damaged(self, archive, target):
        """Ten conversations, then two more: twelve are stored, each once."""
        archive("files", 10)
        kept = target.with_name("kept")
        shutil.copytree(target, kept)
        data = (target / "out" / ".muniment" / "state.db").read_bytes()
        for what, damaged in damages(data, 1):
            shutil.rmtree(target)
            shutil.copytree(kept, target)
            (target / "out" / ".muniment" / "state.db").write_bytes(damaged)

            assert archive("files", 12).sinks["files"].stored == 2, what
            assert stored(target, "files") == sorted(f"c{n}" for n in range(12)), what

    @pytest.mark.parametrize("names", [["state.db"], ["state.db.sum"], ["state.db", "state.db.sum"]])
    def test_deleted(self, archive, target, names):
        """With or without its sum."""
        archive("files", 10)
        for name in names:
            (target / "out" / ".muniment" / name).unlink()

        assert archive("files", 12).sinks["files"].stored == 2
        assert stored(target, "files") == sorted(f"c{n}" for n in range(12))

    def test_an_older_copy(self, archive, target):
        """Even with the sum that belongs to it."""
        archive("files", 4)
        folder = target / "out" / ".muniment"
        older = {name: (folder / name).read_bytes() for name in ("state.db", "state.db.sum")}
        archive("files", 10)
        for name, data in older.items():
            (folder / name).write_bytes(data)

        assert archive("files", 12).sinks["files"].stored == 2
        assert stored(target, "files") == sorted(f"c{n}" for n in range(12))

    def test_that_of_another_target(self, archive, target):
        """It says that other conversations are stored: nothing is skipped on its word."""
        archive("files", 12)
        other = {n: (target / "out" / ".muniment" / n).read_bytes() for n in ("state.db", "state.db.sum")}
        shutil.rmtree(target)
        archive("files", 2)
        for number in (4, 6, 8, 10):
            archive("files", number)
        for name, data in other.items():
            (target / "out" / ".muniment" / name).write_bytes(data)

        assert archive("files", 12).sinks["files"].stored == 2
        assert stored(target, "files") == sorted(f"c{n}" for n in range(12))


class TestArchive:
    """An archive holds its own state: what is damaged is refused, or does not matter."""

    def test_damaged(self, archive, target):
        """Never is a conversation passed over because a damaged file says that it is there."""
        archive("sqlite", 10)
        data = (target / "archive.db").read_bytes()
        refused = 0
        for what, damaged in damages(data, 2):
            if not damaged:
                continue
            (target / "archive.db").write_bytes(damaged)
            try:
                archive("sqlite", 12)
            except FatalError:
                refused += 1
                continue
            assert set(stored(target, "sqlite")) >= {"c10", "c11"}, what
        assert refused > 4

    def test_a_checkpoint_that_no_manifest_confirms_is_not_believed(self, archive, target):
        """Nobody wrote that the partition is done: it is read again."""
        archive("sqlite", 10)
        connection = sqlite3.connect(target / "archive.db")
        connection.execute("DELETE FROM conversations WHERE id='c7'")
        connection.execute("UPDATE checkpoints SET records=records+1")
        connection.commit()
        connection.close()

        assert archive("sqlite", 10).sinks["sqlite"].read == 10

    def test_an_older_copy_goes_on_from_where_it_was(self, archive, target):
        """It holds its own checkpoint."""
        archive("sqlite", 4)
        older = (target / "archive.db").read_bytes()
        archive("sqlite", 10)
        (target / "archive.db").write_bytes(older)

        archive("sqlite", 12)
        assert stored(target, "sqlite") == sorted(f"c{n}" for n in range(12))

    def test_after_a_run_that_did_not_end_every_page_is_looked_at(self, archive, target):
        """A disk that failed once is not believed."""
        archive("sqlite", 10)
        path = target / "archive.db"
        connection = sqlite3.connect(path)
        connection.execute("UPDATE runs SET exit_code=NULL")
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='parts_message'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
        connection.commit()
        connection.close()
        data = bytearray(path.read_bytes())
        data[(page - 1) * size : page * size] = bytes(size)
        path.write_bytes(data)

        with pytest.raises(FatalError, match="is not a readable SQLite database"):
            archive("sqlite", 10)

    def test_what_a_killed_writer_left_can_be_read(self, archive, target):
        """A rollback that is still to be done needs a writer: reading does it, and goes on."""
        archive("sqlite", 4)
        path = target / "archive.db"
        before = path.read_bytes()
        code = (
            "import os, sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('PRAGMA cache_size=1'); c.execute('BEGIN')\n"
            "c.execute('UPDATE conversations SET title=zeroblob(900000)')\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", code, path], check=False)
        assert path.with_name("archive.db-journal").exists()

        records = [record.conversation.id for _, record in read_records(path)]

        assert sorted(records) == ["c0", "c1", "c2", "c3"]
        assert path.read_bytes() == before
