"""What the pages say is so."""

import json
import re
from pathlib import Path

import pymongo
import pytest
from click.testing import CliRunner

from muniment.cli import cli
from muniment.testing import make_record
from muniment_plugins.sinks.mongodb.keys import escape_key
from muniment_plugins.sinks.mongodb.names import ROLES, indexes

DOCS = Path(__file__).parents[4] / "docs"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def export(tmp_path):
    """An export with one conversation, where the page's pipeline looks for it."""
    message = {"id": "m", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["How long?"]}}
    mapping = {
        "root": {"id": "root", "parent": None, "children": ["m"], "message": None},
        "m": {"id": "m", "parent": "root", "children": [], "message": message},
    }
    conversation = {"id": "c1", "title": "Sourdough", "create_time": 1735700000.5, "mapping": mapping}
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "conversations.json").write_text(json.dumps([conversation]))


class TestHowTo:
    def test_its_pipeline_runs(self, place, export, tmp_path, monkeypatch):
        """As it stands there but for the address, with a user that has the role which the page names."""
        (pipeline,) = blocks("how-to/mongodb.md", "yaml")
        place.db.command("createUser", "archiver", pwd="secret", roles=[{"role": "readWrite", "db": place.name}])
        address = place.uri.removeprefix("mongodb://").partition("/")[0]
        uri = f"mongodb://archiver@{address}/?replicaSet=rs0&authSource={place.name}"
        pipeline = re.sub(r"(?m)^(    uri: ).*$", rf"\1{uri}", pipeline)
        pipeline = pipeline.replace("*.zip", "*.json").replace("database: chats", f"database: {place.name}")
        (tmp_path / "pipeline.yaml").write_text(pipeline)
        monkeypatch.setenv("MONGODB_PASSWORD", "secret")

        result = CliRunner().invoke(cli, ["run", str(tmp_path / "pipeline.yaml")], prog_name="muniment")

        place.db.command("dropUser", "archiver")
        assert result.exit_code == 0, result.output
        assert place.db.conversations.find_one()["messages"][-1]["parts"][0]["content"] == "How long?"


class TestFormat:
    def test_names_every_collection_and_index(self):
        """None is missing from the page."""
        from muniment_plugins.sinks.mongodb.names import Names

        page = (DOCS / "formats" / "mongodb.md").read_text()
        ours = {i.name for i in indexes(Names(), documents="message", text=True) if i.name.startswith("muniment")}
        missing = [n for n in (*ROLES, *ours) if f"`{n}`" not in page and f"`{n}.files`" not in page and n not in page]
        assert missing == []

    def test_its_queries_run(self, place):
        """Each in the form that the driver takes."""
        place.store([make_record("c1", ["sourdough"], model="gpt")], sink=place.sink(text_index=True))

        months = place.db.conversations.aggregate([
            {"$group": {"_id": {"$dateToString": {"format": "%Y-%m", "date": "$created_at"}}, "n": {"$sum": 1}}}
        ])  # fmt: skip
        assert list(months) == [{"_id": "2026-01", "n": 1}]
        assert place.db.conversations.find_one({"$text": {"$search": "sourdough"}}, {"title": 1})
        assert place.db.conversations.find_one({"assets.missing": {"$exists": True}}, {"assets.$": 1}) is None

    def test_its_table_of_names_is_right(self):
        """The stand-ins are those of the page."""
        page = (DOCS / "formats" / "mongodb.md").read_text()

        for name in (".", "$", "\0", "", "\uff0e"):
            assert f"`{escape_key(name)}`" in page or escape_key(name) == "\u241b\uff0e"


def test_a_record_can_be_read_without_muniment(place):
    """zstd and JSON are all that it takes."""
    from muniment.record_blob import zstd

    place.store([make_record("c1", ["Hello"])])

    with pymongo.MongoClient(place.uri) as client:
        record = json.loads(zstd.decompress(client[place.name].conversations.find_one()["record"]))
    assert record["messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert record["raw"]["conversation"] == {"id": "c1"}
