"""Database sinks: a transaction that is lost is made again, a record that is refused is left out."""

import pytest
from attrs import define, field, frozen

from muniment.components import Context
from muniment.errors import FatalError, RecordError, TransientError
from muniment.testing import MemoryStore, MemoryUpsert, make_record
from muniment.units import Batch, Checkpoint, Counts, Receipt, Unit


@define
class Script:
    """What goes wrong, in turn: an error for each call of ``upsert``, None where it goes well."""

    errors: list = field(factory=list)
    after_commit: list = field(factory=list)
    connections: int = 0

    def step(self, errors):
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error


@frozen(kw_only=True)
class Scripted(MemoryUpsert):
    script: Script = field(factory=Script)

    def connect(self, ctx):
        self.script.connections += 1
        return super().connect(ctx)

    def upsert(self, connection, rows):
        receipt = super().upsert(connection, rows)
        self.script.step(self.script.errors)
        return receipt

    def commit(self, connection):
        super().commit(connection)
        self.script.step(self.script.after_commit)


@pytest.fixture
def sink():
    return Scripted(store=MemoryStore())


def batch(*ids):
    return Batch("p", 1, [make_record(i) for i in ids])


def unit(stored):
    return Unit("r", 1, Checkpoint("p", "f", stored, stored, run="r"), Counts(stored, stored))


def ids(sink):
    return sorted(r.conversation.id for r in sink.store.records.values())


class TestTransientErrors:
    def test_the_unit_is_made_again(self, sink):
        """What was written before the connection was lost is put in again, on a new one."""
        sink.script.errors[:] = [None, TransientError("lost")]
        with sink.open(Context(run="r")) as writer:
            writer.write(batch("a"))
            with pytest.raises(TransientError):
                writer.write(batch("b"))
            assert writer.write(batch("b")) == Receipt(1)
            writer.seal(unit(2))

        assert ids(sink) == ["a", "b"]
        assert sink.script.connections == 2

    def test_nothing_of_an_earlier_unit_comes_again(self, sink):
        """It was committed."""
        with sink.open(Context(run="r")) as writer:
            writer.write(batch("a"))
            writer.seal(unit(1))
            sink.store.records.clear()
            sink.script.errors[:] = [TransientError("lost")]
            with pytest.raises(TransientError):
                writer.write(batch("b"))
            writer.write(batch("b"))
            writer.seal(unit(2))

        assert ids(sink) == ["b"]

    def test_a_commit_that_failed_is_made_again(self, sink, monkeypatch):
        """With everything that belongs to it."""
        faults = [TransientError("lost", retry_after_seconds=0)]
        sink.store.before_commit = lambda: sink.script.step(faults)
        with sink.open(Context(run="r")) as writer:
            writer.write(batch("a"))
            assert writer.seal(unit(1)).committed

        assert ids(sink) == ["a"]

    def test_a_commit_whose_answer_was_lost_is_found(self, sink):
        """And not made twice."""
        sink.script.after_commit[:] = [TransientError("lost", retry_after_seconds=0)]
        commits = []
        sink.store.before_commit = lambda: commits.append(1)
        with sink.open(Context(run="r")) as writer:
            writer.write(batch("a"))
            assert writer.seal(unit(1)).committed

        assert commits == [1]

    def test_the_end_of_a_run_is_noted_all_the_same(self, sink):
        """On a new connection."""
        sink.script.after_commit[:] = [TransientError("lost", retry_after_seconds=0)]
        with sink.open_target(Context(run="r")) as target:
            target.end_run("r", 0, Counts(1, 1))

        assert sink.store.runs[-1] == ("r", 0, Counts(1, 1))


class TestRecordErrors:
    def test_the_record_is_left_out(self, sink):
        """The others of its batch are stored, and what came before stays."""
        sink.script.errors[:] = [None, RecordError("too large", "test:b")]
        with sink.open(Context(run="r")) as writer:
            writer.write(batch("a"))
            receipt = writer.write(batch("b", "c"))
            writer.seal(unit(2))

        assert (receipt.stored, [(r.key, r.stage, r.reason) for r in receipt.rejected]) == (
            1, [("test:b", "write", "too large")],
        )  # fmt: skip
        assert ids(sink) == ["a", "c"]

    def test_it_may_be_the_only_one(self, sink):
        """Then nothing is written."""
        sink.script.errors[:] = [RecordError("too large", "test:a")]
        with sink.open(Context(run="r")) as writer:
            receipt = writer.write(batch("a"))
            writer.seal(unit(0))

        assert (receipt.stored, len(receipt.rejected)) == (0, 1)
        assert ids(sink) == []

    def test_without_a_culprit_it_is_raised(self, sink):
        """Nobody knows what to leave out."""
        sink.script.errors[:] = [RecordError("too large")]
        with sink.open(Context(run="r")) as writer, pytest.raises(RecordError):
            writer.write(batch("a"))

    def test_a_record_that_is_refused_only_the_second_time_ends_the_run(self, sink):
        """Its receipt has been given already."""

        class Fickle(Scripted):
            def upsert(self, connection, rows):
                receipt = super().upsert(connection, rows)
                if self.script.connections < 2:
                    return receipt
                from muniment.model import Rejected

                return Receipt(0, 0, tuple(Rejected(r.origin, "write", "no", r.key) for r in rows.records))

        fickle = Fickle(store=MemoryStore())
        fickle.script.errors[:] = [None, TransientError("lost")]
        with fickle.open(Context(run="r", path="sinks[0]")) as writer:
            writer.write(batch("a"))
            with pytest.raises(TransientError):
                writer.write(batch("b"))
            with pytest.raises(FatalError, match="a record was refused that had been taken before"):
                writer.write(batch("b"))
