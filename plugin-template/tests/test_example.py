"""The sink is found, stores every conversation once, and refuses what it must."""

import json

import pytest
from muniment_sink_example import Example

from muniment import RecordError
from muniment.config.pipeline import parse
from muniment.pipeline import run
from muniment.plugins import load_registry
from muniment.testing import make_record

PIPELINE = """
version: 1
source: {type: archive, path: talks.jsonl}
sinks:
  - {type: example, path: lines.jsonl}
"""


@pytest.fixture
def sink(tmp_path):
    return Example(path=str(tmp_path / "lines.jsonl"), max_texts=2)


@pytest.fixture
def stored(tmp_path):
    """Return a function that reads back what was stored."""
    return lambda: [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]


class TestExample:
    def test_is_found_by_its_name(self):
        """The entry point makes `type: example` known."""
        assert "example" in load_registry().names("sinks")

    def test_stores_one_line_per_conversation(self, sink, stored):
        """A line holds the key, the title and the texts."""
        with sink.connect() as client:
            sink.send(client, [make_record("c1", ["Hello", "Hi"]), make_record("c2", ["Bye"], title=None)])

        assert stored() == [
            {"key": "test:c1", "title": "A talk", "texts": ["Hello", "Hi"]},
            {"key": "test:c2", "title": None, "texts": ["Bye"]},
        ]

    def test_refuses_one_record_and_writes_nothing_yet(self, sink, stored):
        """The error names the record; the others are sent again without it."""
        with sink.connect() as client, pytest.raises(RecordError) as caught:
            sink.send(client, [make_record("c1"), make_record("c2", ["a", "b", "c"])])

        assert (caught.value.record_id, stored()) == ("test:c2", [])


class TestExampleInAPipeline:
    def test_stores_nothing_twice(self, tmp_path, stored):
        """A second run over the same conversations sends nothing."""
        from muniment.canonical import record_to_json

        lines = [record_to_json(make_record(f"c{i}")) for i in range(3)]
        (tmp_path / "talks.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        registry = load_registry()
        plan = parse(PIPELINE, file="pipeline.yaml", base=tmp_path, registry=registry)

        exit_codes = [run(plan, registry).exit_code for _ in range(2)]

        assert exit_codes == [0, 0]
        assert [line["key"] for line in stored()] == ["test:c0", "test:c1", "test:c2"]
