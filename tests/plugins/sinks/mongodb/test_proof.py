"""Without transactions, too, manifests and documents end up the same."""

import random

import pytest

from muniment import Context
from muniment.manifest import Manifest
from muniment.testing import make_record
from muniment.testing.records import changed
from muniment.verification import Inspection


@pytest.fixture
def alone(standalone, make_place):
    """A place on a server that has no transactions."""
    return make_place(standalone)


def verify(place):
    found = place.sink().verify(Context(run="", path="sinks[0]"), Inspection())
    return [(f.kind, f.where) for f in found]


class TestWithoutTransactions:
    def test_it_is_sound(self, alone):
        """After several runs, with earlier versions."""
        record = make_record("c1", ["one"])
        alone.store([record, make_record("c2")])
        alone.store([changed(record, title="Newer"), make_record("c3")])

        assert verify(alone) == []

    def test_what_the_server_refuses_is_taken_back(self, alone):
        """The manifest had announced it."""
        alone.store([make_record("c0")])
        alone.db.command("collMod", "conversations", validator={"title": {"$ne": "no"}})
        counts = alone.store([make_record(f"c{i}", title="no" if i == 2 else "yes") for i in range(1, 5)])

        assert (counts.stored, counts.quarantined) == (3, 1)
        assert verify(alone) == []

    def test_what_was_announced_and_not_stored_comes_with_the_next_run(self, alone):
        """As a run leaves it that was killed behind the manifest."""
        records = [make_record(f"c{i}") for i in range(3)]
        alone.store(records)
        last = alone.db.manifests.find_one(sort=[("_id", -1)])
        assert "exit_code" in Manifest.from_json(last["manifest"].encode()).report
        alone.db.manifests.delete_one({"_id": last["_id"]})
        alone.db.runs.update_many({}, {"$unset": {"exit_code": 1}})
        alone.db.conversations.delete_one({"_id": "test:c2"})
        alone.db.checkpoints.delete_many({})
        assert ("missing", "record `test:c2`") in verify(alone)
        alone.store(records)

        assert verify(alone) == []

    def test_receipts_that_a_killed_run_left_are_replaced(self, alone):
        """Those of a manifest that never came."""
        alone.store([make_record("c1")])
        number = alone.db.manifests.count_documents({}) + 1
        stray = {"conversation": "test:x", "key": "test:x", "stored_hash": b"x" * 32, "gone": False}
        alone.db.receipts.insert_one({"_id": {"manifest": number, "position": 5}, **stray})
        alone.store([make_record("c2")])

        assert verify(alone) == []


class TestOdd:
    def test_what_documents_cannot_hold(self, place):
        """Lone surrogates, names with dots and dollars, integers beyond 64 bits."""
        odd = {"a.b": 1e23, "$c": 10**30, "": [1.0, None, -0.0], "k\0": "v\ud800"}
        record = make_record("c\0\ud800", ["x\0y \ud800"], metadata=odd)
        place.store([record, make_record("c2")])
        place.store([changed(record, title="Newer")])

        assert verify(place) == []


class TestLarge:
    def test_a_record_beside_its_document_is_read_and_missed(self, place):
        """Whole; without it the conversation has no content."""
        noise = random.Random(1).randbytes(4_500_000).hex()
        place.store([make_record("c1", [noise])])
        assert place.db["records.files"].count_documents({}) == 1
        assert verify(place) == []
        place.db["records.chunks"].delete_one({"n": 1})

        assert ("missing", "record `test:c1`") in verify(place)
