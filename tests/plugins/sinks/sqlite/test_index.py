"""The full-text index, filled in bursts and beside everything else."""

import sqlite3

import pytest

from muniment import FatalError
from muniment.engine.local import Local
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.plugins import load_registry
from muniment.testing import ListSource, make_record
from muniment_plugins.sinks.sqlite import SQLite, archive
from muniment_plugins.sinks.sqlite.index import Index
from muniment_plugins.sinks.sqlite.read import read_records


@pytest.fixture
def small_bursts(monkeypatch):
    monkeypatch.setattr("muniment_plugins.sinks.sqlite.index.BURST_ENTRIES", 5)
    monkeypatch.setattr("muniment_plugins.sinks.sqlite.archive.BURST_ENTRIES", 5)


def store(path, records, **options):
    source = Step("list", "source", ListSource(records=records, chunk_records=3))
    sink = Step("sqlite", "sinks[0]", SQLite(path=str(path), **options))
    plan = Plan(name="test", sources=(source,), sinks=(SinkPath(step=sink, name="sqlite"),), engine=Local())
    return run(plan, load_registry()).sinks["sqlite"]


def found(path, word, table="messages_fts"):
    with sqlite3.connect(path) as connection:
        select = (
            f"SELECT m.conversation, m.position FROM {table} f JOIN messages m ON m.no = f.rowid WHERE {table} MATCH ?"
        )
        return sorted(connection.execute(select, (word,)))


def talk(number, *texts, **fields):
    return make_record(f"c{number}", texts or (f"question{number:02}", f"answer{number:02} 归档"), **fields)


@pytest.mark.usefixtures("small_bursts")
class TestLoad:
    @pytest.mark.parametrize("kind", ["words", "trigram"])
    def test_it_indexes_every_message_of_every_burst(self, tmp_path, kind):
        """A load of many bursts finds what a top-up finds."""
        records = [talk(n) for n in range(40)]
        store(tmp_path / "loaded.db", records, fts=kind)
        store(tmp_path / "topped.db", records[:1], fts=kind)
        store(tmp_path / "topped.db", records[1:], fts=kind)

        tables = ("messages_fts", "messages_trigram") if kind == "trigram" else ("messages_fts",)
        for table in tables:
            for number in range(40):
                expected = [(number + 1, 1)]
                assert found(tmp_path / "loaded.db", f"answer{number:02}", table) == expected
                assert found(tmp_path / "topped.db", f"answer{number:02}", table) == expected

    def test_it_merges_what_comes_twice_in_one_load(self, tmp_path):
        """Near or far apart, the second version meets the first; only its words are found."""
        first = [talk(n) for n in range(12)]
        near, far = talk(11, "question11", "answer11", "more"), talk(2, "question02", "answer02", "later")

        counts = store(tmp_path / "a.db", [*first, near, far, first[5]])

        assert (counts.stored, counts.unchanged) == (14, 1)
        assert [len(r.conversation.messages) for _, r in read_records(tmp_path / "a.db")].count(3) == 2
        assert len(found(tmp_path / "a.db", "later")) == len(found(tmp_path / "a.db", "more")) == 1
        assert len(found(tmp_path / "a.db", "answer02")) == 1

    def test_it_says_that_the_index_cannot_be_filled(self, tmp_path, monkeypatch):
        """What fails in the thread fails the run, and no archive is left."""
        monkeypatch.setattr(archive.schema, "INDEX_UNINDEXED", ("INSERT INTO nowhere SELECT * FROM unindexed",))

        with pytest.raises(FatalError, match="nowhere"):
            store(tmp_path / "a.db", [talk(n) for n in range(40)])
        assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


class TestIndex:
    def test_it_forgets_what_it_was_given(self, tmp_path):
        """Entries that are taken out again are not found."""
        store(tmp_path / "a.db", [talk(1)])
        connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        index = Index(connection, "words", beside=False)
        index.add([(7, "", "once")])
        index.fill()

        index.forget([(7, "", "once")])

        assert connection.execute("SELECT rowid FROM messages_fts WHERE messages_fts MATCH 'once'").fetchall() == []
        index.close()
        connection.close()
