"""One run at a time writes to an archive."""

import os
import subprocess
import sys
import time

import pytest

from muniment import Batch, Checkpoint, Context, Counts, TargetBusyError, Unit
from muniment.testing import make_record
from muniment_plugins.sinks.mongodb.lease import _owner

# Writes a unit and is killed with its transaction open.
KILLED = """
import os, signal, sys
from muniment import Batch, Checkpoint, Context, Counts, Unit
from muniment.testing import make_record
from muniment_plugins.sinks.mongodb import MongoDB

sink, ctx = MongoDB(uri=sys.argv[1], database=sys.argv[2]), Context(run="killed")
target, writer = sink.open_target(ctx), sink.open(ctx)
writer.write(sink.encode(Batch("p", 1, (make_record("c1"),))))
archive = writer._archive
archive._session.start_transaction()
archive._put_unit(Unit("killed", 1, Checkpoint("p", "f", 1, 1), Counts(1, 1)), archive._session)
os.kill(os.getpid(), signal.SIGKILL)
"""


def unit(run, number=1, records=1):
    return Unit(run, number, Checkpoint("p", "f", number, number, run=run), Counts(records, records))


class TestLease:
    def test_another_run_is_refused(self, place):
        """At once, naming the run that holds it."""
        with (
            place.sink().open_target(Context(run="first")),
            pytest.raises(TargetBusyError, match=r"another run writes to `mongodb://.*` \(first, on .*\)"),
        ):
            place.sink().open_target(Context(run="second"))

        place.sink().open_target(Context(run="third")).close()

    def test_of_a_dead_process_is_taken_at_once(self, place):
        """A killed run on this machine holds nothing up."""
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        place.sink().open_target(Context(run="first")).close()
        self.hold(place, **{"owner.pid": dead.pid})

        place.sink().open_target(Context(run="second")).close()

    def test_of_a_reused_process_number_is_taken(self, place):
        """The time of its start tells one process from another."""
        self.hold(place, **{"owner.started": "1", "owner.pid": os.getpid()})

        place.sink().open_target(Context(run="second")).close()

    def test_of_another_machine_is_taken_when_it_has_expired(self, place):
        """By the server's clock."""
        self.hold(place, **{"owner.host": "elsewhere"})
        with pytest.raises(TargetBusyError):
            place.sink().open_target(Context(run="second"))

        place.db.meta.update_one({"_id": "lease"}, [{"$set": {"until": {"$subtract": ["$$NOW", 1]}}}])
        place.sink().open_target(Context(run="second")).close()

    def hold(self, place, **changes):
        place.db.meta.update_one(
            {"_id": "lease"},
            [
                {"$set": {"run": "first", "holder": "other", "owner": {"$literal": _owner()}, "sessions": []}},
                {"$set": {"until": {"$add": ["$$NOW", 60_000]}, **{k: {"$literal": v} for k, v in changes.items()}}},
            ],
            upsert=True,
        )


class TestFence:
    @pytest.mark.parametrize("server", ["set", "standalone"])
    def test_a_run_that_was_taken_over_stores_nothing(self, make_place, mongodb, standalone, server):
        """It sleeps, its lease expires, another run goes on: then its seal is refused."""
        place = make_place(mongodb.extra["url"] if server == "set" else standalone)
        sink, ctx = place.sink(), Context(run="slow")
        with sink.open_target(ctx), sink.open(ctx) as writer:
            writer.write(sink.encode(Batch("p", 1, (make_record("c1"),))))
            place.db.meta.delete_one({"_id": "lease"})
            sink.open_target(Context(run="quick")).close()

            with pytest.raises(TargetBusyError, match="another run has taken"):
                writer.seal(unit("slow"))
        assert place.db.conversations.count_documents({}) == 0
        assert place.db.checkpoints.count_documents({}) == 0

    def test_a_unit_that_was_committed_is_not_written_again(self, place):
        """A second attempt at it finds it done, also when its records are others."""
        sink, ctx = place.sink(), Context(run="r")
        with sink.open_target(ctx):
            for id_ in ("c1", "c2"):
                with sink.open(ctx) as writer:
                    writer.write(sink.encode(Batch("p", 1, (make_record(id_),))))
                    assert writer.seal(unit("r")).committed
            assert [c["_id"] for c in place.db.conversations.find()] == ["test:c1"]
            assert place.db.runs.find_one() is not None

    def test_an_open_transaction_of_a_killed_run_is_ended(self, place):
        """The server would keep it for a minute, and the next run would wait for it."""
        ended = subprocess.run([sys.executable, "-c", KILLED, place.uri, place.name], timeout=60)
        assert ended.returncode == -9
        before = time.monotonic()

        assert place.store([make_record("c1")]) == Counts(read=1, stored=1)

        assert time.monotonic() - before < 30
