"""An archive is what its manifests say, whatever its rows hold; how it is changed and found stands in tests/proof."""

import random

import pytest

from muniment import Context
from muniment.testing import make_record
from muniment.testing.records import changed
from muniment.testing.runs import archive
from muniment.verification import Inspection

ODD = {"a": 1e23, "b": 1e-7, "c": 10**30, "d": -0.0, "e": [1.0, None, True], "k\0": "v"}


@pytest.fixture
def store(tmp_path):
    return lambda sink, *records: archive(sink, records, state_dir=tmp_path)


def verify(sink):
    return [(f.kind, f.where) for f in sink.verify(Context(run="", path="sinks[0]"), Inspection())]


class TestSound:
    def test_with_what_columns_cannot_hold(self, database, store):
        """NUL, lone surrogates, numbers that a database gives back in another form."""
        record = make_record("c\0\ud800", ["x\0y \ud800", "1e23"], metadata=ODD)
        store(database.sink(), record, make_record("c2"))
        store(database.sink(), changed(record, title="Newer"))

        assert verify(database.sink()) == []

    def test_with_a_record_in_pieces(self, database, store):
        """And an earlier state of it; without one piece it is missing."""
        record = make_record("c1", [random.Random(1).randbytes(1_500_000).hex()])
        store(database.sink(), record)
        store(database.sink(), changed(record, title="Newer"))
        assert verify(database.sink()) == []
        schema = database.options.get("schema")
        database.run(f"DELETE FROM {f'{schema}.' if schema else ''}record_chunks WHERE position=1")

        assert ("missing", "record `test:c1`") in verify(database.sink())

    def test_without_tables_for_people(self, database, store):
        """Those that are left out are not missed."""
        sink = database.sink(tables={"parts": None, "conversations": None})
        store(sink, make_record("c1"), make_record("c2"))

        assert verify(sink) == []

    def test_by_month(self, postgresql_database, store):
        """Messages in partitions."""
        sink = postgresql_database.sink(partition_by="month")
        store(sink, make_record("c1"), make_record("c2", created_at=None))

        assert verify(sink) == []
