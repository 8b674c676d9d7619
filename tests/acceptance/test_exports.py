"""Every ChatGPT file of other projects' test data imports whole and comes back identical."""

import json
import os
import sqlite3
import zipfile
from pathlib import Path

import pytest

from muniment_plugins.sinks.sqlite.read import read_records


def chatgpt_files():
    """Return the files that hold conversations with a ``mapping``, found with plain `json`."""
    folder = os.environ.get("MUNIMENT_CORPORA")
    files = sorted((Path(folder) / "exports").rglob("*")) if folder else []
    return [f for f in files if f.suffix in (".json", ".zip") and conversations_in(f)]


def conversations_in(path):
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as z:
                names = [n for n in z.namelist() if n.startswith("conversations") and n.endswith(".json")]
                values = [c for n in sorted(names) for c in json.loads(z.read(n))]
        else:
            value = json.loads(path.read_bytes())
            values = value if isinstance(value, list) else [value]
    except (ValueError, UnicodeDecodeError):
        return []
    return [c for c in values if isinstance(c, dict) and any("mapping" in x for x in values if isinstance(x, dict))]


def independent_counts(path):
    """Return (conversations, messages, leaves that hold a message) counted with plain `json`.

    A conversation that stands twice counts once, with the nodes of both.
    """
    merged = {}
    for conversation in conversations_in(path):
        key = conversation.get("conversation_id") or conversation.get("id") or id(conversation)
        merged.setdefault(key, {}).update(conversation.get("mapping") or {})
    messages = leaves = 0
    for mapping in merged.values():
        kept = {k for k, n in mapping.items() if n.get("message")}
        messages += len(kept)
        leaves += len(kept - {mapping[k].get("parent") for k in kept})
    return len(merged), messages, leaves


def archived_counts(archive):
    connection = sqlite3.connect(archive)
    statement = """SELECT (SELECT count(*) FROM conversations), (SELECT count(*) FROM messages),
        (SELECT count(*) FROM messages m WHERE NOT EXISTS(
            SELECT 1 FROM messages x WHERE x.conversation = m.conversation AND x.parent_id = m.id))"""
    counts = connection.execute(statement).fetchone()
    connection.close()
    return counts


def records(archive):
    return {r.key: (r.conversation, r.raw, r.source_hash) for _, r in read_records(archive)}


@pytest.mark.parametrize("path", chatgpt_files(), ids=lambda p: "/".join(p.parts[-3:]))
class TestEveryExport:
    def test_the_counts_are_those_of_plain_json(self, path, runner, tmp_path):
        """Conversations, messages and branches."""
        runner.load(path, tmp_path / "archive.db")

        assert archived_counts(tmp_path / "archive.db") == independent_counts(path)

    def test_the_same_file_twice_changes_nothing(self, path, runner, tmp_path):
        """Nothing is stored the second time."""
        first = runner.load(path, tmp_path / "archive.db")
        again = runner.load(path, tmp_path / "archive.db")

        counts = again.sinks["out"]
        assert (counts.read, counts.stored) == (first.sinks["out"].read, 0)

    @pytest.mark.parametrize("name", ["all.jsonl", "all.json", "all.jsonl.zst", "all.json.gz"])
    def test_it_comes_back_identical(self, path, runner, tmp_path, name):
        """Through JSONL and JSON, record by record."""
        runner.load(path, tmp_path / "archive.db")
        runner.files(tmp_path / "archive.db", tmp_path / name)
        runner.reload(tmp_path / name, tmp_path / "again.db")

        assert records(tmp_path / "again.db") == records(tmp_path / "archive.db") != {}
