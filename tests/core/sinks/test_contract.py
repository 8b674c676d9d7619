"""The sinks in memory, one on each base, keep the contract of sinks."""

import contextlib

import pytest
from attrs import frozen

from muniment import BatchSink, Format, option
from muniment.canonical import record_from_json, record_to_json
from muniment.model import Origin
from muniment.testing import MemoryBatch, MemoryStore, MemoryUpsert, SinkContract
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace


@frozen(kw_only=True)
class Lines(Format):
    suffix = ".lines"
    reads_back = True

    def encode(self, record, links):
        return record_to_json(record) + b"\n"

    def decode(self, stream, origin):
        for line in stream:
            yield record_from_json(line, origin)


@frozen(kw_only=True)
class LinesOfAFile(BatchSink):
    """An API that appends to a file."""

    path: str = option("The file.", identity=False)

    def connect(self):
        return contextlib.closing(open(self.path, "ab"))

    def send(self, client, records):
        client.write(b"".join(record_to_json(r) + b"\n" for r in records))
        client.flush()


class TestMemoryUpsert(SinkContract):
    keeps_assets = False
    outlives_process = False

    @pytest.fixture
    def sink(self):
        return MemoryUpsert(store=MemoryStore())


class TestBatch(SinkContract):
    keeps_assets = False
    locks = True

    @pytest.fixture
    def sink(self, tmp_path):
        return LinesOfAFile(path=str(tmp_path / "sent.jsonl"))

    def read_stored(self, sink):
        with contextlib.suppress(FileNotFoundError), open(sink.path, "rb") as file:
            return [record_from_json(line, Origin("", "")) for line in file]
        return []


class TestMemoryBatch(SinkContract):
    keeps_assets = False
    locks = True
    outlives_process = False

    @pytest.fixture
    def sink(self):
        return MemoryBatch(store=MemoryStore())

    def read_stored(self, sink):
        return sink.store.sent


class ObjectsContract(SinkContract):
    outlives_process = False
    mode = "append"

    @pytest.fixture
    def sink(self, tmp_path):
        formats = {"jsonl": Lines}
        return MemoryObjects(
            place=MemoryPlace(), state=tmp_path / "state", formats=formats, format="jsonl", mode=self.mode
        )


class TestAppend(ObjectsContract):
    pass


class TestMirror(ObjectsContract):
    mode = "mirror"


class TestSnapshot(ObjectsContract):
    mode = "snapshot"
    accumulates = False
