"""State: what has been archived, up to where, by which run."""

import sqlite3

import pytest

from muniment.errors import FatalError
from muniment.model import Origin, Rejected
from muniment.state import PURGED, State, StoredRecord, message_digest
from muniment.units import Checkpoint, Counts, Unit


@pytest.fixture
def state(tmp_path):
    with State.open(tmp_path / "state.db") as state:
        yield state


def unit(run="r1", finished=True, rejected=(), read_whole=True):
    checkpoint = Checkpoint("p", "f", {"offset": 3}, 7, finished, 5, "h", run)
    return Unit(run, 1, checkpoint, Counts(5, 4, 0, 0, 1), tuple(rejected), read_whole)


BAD = Rejected(Origin("export.zip", "p", 10, 20, "d" * 64), "decode", "not JSON")


class TestState:
    def test_it_gives_back_a_checkpoint(self, state):
        """A checkpoint comes back equal."""
        state.add_unit(unit())

        assert state.checkpoints() == {"p": unit().checkpoint}

    def test_it_finds_records_in_any_number(self, state):
        """More keys than SQLite has variables are no matter; surrogates neither."""
        stored = [
            StoredRecord(f"k{i}\ud83d", "s", "p", None, "x", frozenset({message_digest("m")})) for i in range(1200)
        ]
        with state.transaction():
            state.put_records(stored)

        assert set(state.find([r.key for r in stored])) == {r.key for r in stored}
        assert state.find(["other"]) == {}

    def test_what_was_purged_is_not_forgotten(self, state):
        """A repair that finds it missing does not let it come again."""
        state.put_records([StoredRecord("k1", "s", "p", "2026", "a title.md"), StoredRecord("k2", "s", "p")])
        state.bury(["k1"], "r1")
        state.forget(["k1", "k2"], missing=True)

        assert state.find(["k1"])["k1"] == StoredRecord("k1", PURGED, "", run="r1")
        assert state.find(["k2"])["k2"].source_hash == ""

    def test_what_was_no_run_is_dropped(self, state):
        state.begin_run("r1", "pipeline", "sink")
        state.drop_run("r1")

        assert state.runs() == []

    def test_a_transaction_stores_all_or_nothing(self, state):
        """An error inside leaves what was before."""
        with pytest.raises(RuntimeError), state.transaction():
            state.set_last_manifest(4, b"")
            raise RuntimeError

        assert state.last_manifest() == 0

    def test_a_repeated_attempt_does_not_double_a_quarantine_entry(self, state):
        """The id of an entry is of its place, so a killed run writes it twice as one."""
        state.add_unit(unit(rejected=[BAD]))
        state.add_unit(unit(run="r2", rejected=[BAD]))

        assert [q["run"] for q in state.quarantined()] == ["r2"]

    def test_an_entry_that_does_not_come_again_is_resolved(self, state):
        """Reading a partition from its start to its end settles what was open in it."""
        state.add_unit(unit(rejected=[BAD]))
        state.add_unit(unit(run="r2"))

        assert list(state.quarantined()) == []
        assert [q["status"] for q in state.quarantined(everything=True)] == ["resolved"]

    def test_a_resumed_run_resolves_nothing(self, state):
        """What was not read again is not settled."""
        state.add_unit(unit(rejected=[BAD]))
        state.add_unit(unit(run="r2", read_whole=False))

        assert len(list(state.quarantined())) == 1

    def test_it_refuses_a_file_that_is_no_database(self, tmp_path):
        """Damaged state is refused, never trusted."""
        path = tmp_path / "state.db"
        path.write_bytes(b"x" * 5000)

        with pytest.raises(FatalError, match="state.db` cannot be opened as state: file is not a database; move it"):
            State.open(path)

    def test_runs_add_up(self, state):
        """The counts of a run's units stand in its row."""
        state.begin_run("r1", "pipeline", "sinks[0]")
        state.add_unit(unit())
        state.add_unit(unit())

        assert [(r["run"], r["read"], r["stored"]) for r in state.runs()] == [("r1", 10, 8)]

    def test_it_uses_a_write_ahead_log(self, state):
        """Readers do not wait for a writer."""
        assert state.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert isinstance(state.connection, sqlite3.Connection)


class TestSealed:
    """A closed state has its SHA-256 beside it."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "state.db"
        with State.open(path) as state, state.transaction():
            state.begin_run("r1", "", "")
            state.add_unit(unit())
        return path

    def test_closed_it_is_two_files(self, path):
        """No log stays, so that it can be copied."""
        assert sorted(p.name for p in path.parent.iterdir()) == ["state.db", "state.db.sum"]

    def test_any_change_is_refused(self, path):
        """One bit, anywhere: the file is not what the last run left, and stays as it is."""
        data = path.read_bytes()
        for place in range(0, len(data), 509):
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)

            with pytest.raises(FatalError, match="was changed since the last run; restore it from a copy"):
                State.open(path)
            assert path.read_bytes() == changed

    @pytest.mark.parametrize("damage", ["truncated", "zeroed", "deleted", "garbage"])
    def test_damage_is_refused(self, path, damage):
        """Whatever happened to it."""
        data = path.read_bytes()
        match damage:
            case "truncated":
                path.write_bytes(data[: len(data) // 2])
            case "zeroed":
                path.write_bytes(data[:4096] + bytes(4096) + data[8192:])
            case "deleted":
                path.write_bytes(b"")
            case "garbage":
                path.write_bytes(b"garbage" * 1000)

        with pytest.raises(FatalError):
            State.open(path)

    def test_what_a_killed_run_left_is_opened(self, path):
        """It has no sum: SQLite recovers it."""
        state = State.open(path)

        assert not path.with_name("state.db.sum").exists()
        state.connection.close()
        with State.open(path) as again:
            assert again.checkpoints() == {"p": unit().checkpoint}

    def test_while_somebody_reads_it_is_not_sealed(self, path):
        """The last to close it does."""
        first, second = State.open(path), State.open(path)
        second.find(["k"])

        first.close()
        assert not path.with_name("state.db.sum").exists()
        second.close()
        assert path.with_name("state.db.sum").exists()

    def test_it_knows_the_manifest_that_it_has_seen(self, path):
        """Another one of the same number is of another target."""
        with State.open(path) as state:
            assert not state.has_seen(b"one")
            with state.transaction():
                state.set_last_manifest(1, b"one")

            assert (state.has_seen(b"one"), state.has_seen(b"other")) == (True, False)
