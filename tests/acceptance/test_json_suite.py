"""Each file of JSONTestSuite, bare and between two sound conversations."""

import json
import os
from pathlib import Path

import pytest

from muniment.errors import MunimentError
from muniment_plugins.sinks.sqlite.read import read_records


def suite():
    folder = os.environ.get("MUNIMENT_CORPORA")
    return sorted((Path(folder) / "JSONTestSuite").rglob("[yni]_*.json")) if folder else []


def conversation(name):
    node = {
        "id": "m",
        "parent": None,
        "message": {"id": "m", "author": {"role": "user"}, "content": {"content_type": "text", "parts": [name]}},
    }
    return {
        "title": name,
        "create_time": 1.0,
        "mapping": {"m": node},
        "current_node": "m",
        "conversation_id": name,
        "id": name,
    }


@pytest.mark.parametrize("path", suite(), ids=lambda p: p.stem)
class TestEveryFile:
    def test_as_an_element_it_harms_no_neighbour(self, path, runner, tmp_path):
        """Both neighbours survive; what is not sound is quarantined with its byte range."""
        element = path.read_bytes()
        head = b"[" + json.dumps(conversation("first")).encode() + b", "
        tail = b", " + json.dumps(conversation("last")).encode() + b"]"
        (tmp_path / "conversations.json").write_bytes(head + element + tail)

        report = runner.load(tmp_path / "conversations.json", tmp_path / "archive.db")

        stored = {r.conversation.id for _, r in read_records(tmp_path / "archive.db")}
        assert stored == {"first", "last"}
        assert report.exit_code == 3 or not element.strip()

    def test_bare_it_is_refused_or_read(self, path, runner, tmp_path):
        """Never a crash, never success with nothing."""
        (tmp_path / "conversations.json").write_bytes(path.read_bytes())

        with pytest.raises(MunimentError):
            report = runner.load(tmp_path / "conversations.json", tmp_path / "archive.db")
            assert report.exit_code == 3
            raise MunimentError("quarantined")
