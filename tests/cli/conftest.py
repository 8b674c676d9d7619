"""A command line in an empty folder, and small exports."""

import importlib
import json
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from muniment.cli import cli


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the empty folder that commands run in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("MUNIMENT_DEBUG", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return work


@pytest.fixture
def muniment(folder):
    """Return a function that runs the command line and gives its result."""

    def invoke(*args: object, **extra: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in args], prog_name="muniment", **extra)

    return invoke


def node(name, parent, message):
    return {"id": name, "parent": parent, "children": [], "message": message}


def message(name, role, text):
    return {
        "id": name,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": 1735700000.5,
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully",
        "metadata": {},
    }


def conversation(name, title, *texts, time=1735700000.0):
    """Return a conversation as ChatGPT exports it: texts in turn of user and assistant, a chain."""
    names = [f"{name}-m{i}" for i in range(len(texts))]
    mapping = {f"{name}-root": node(f"{name}-root", None, None)}
    parent = f"{name}-root"
    for index, (each, text) in enumerate(zip(names, texts, strict=True)):
        mapping[parent]["children"].append(each)
        mapping[each] = node(each, parent, message(each, ("user", "assistant")[index % 2], text))
        parent = each
    return {
        "id": name,
        "conversation_id": name,
        "title": title,
        "create_time": time,
        "update_time": time + 60,
        "current_node": parent,
        "mapping": mapping,
    }


CONVERSATIONS = [
    conversation("c1", "Tax return", "How do I file my tax return?", "Start with the form for 2025."),
    conversation("c2", "Soup", "A soup with lentils?", "Take red lentils and cumin.", time=1767300000.0),
    conversation("c3", "归档", "如何归档对话?", "导出数据库。"),
]


@pytest.fixture
def make_export(folder):
    """Return a function that writes conversations as an export and gives its path."""

    def make(conversations=CONVERSATIONS, name="export.zip") -> Path:
        path = folder / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("conversations.json", json.dumps(conversations))
            z.writestr("user.json", json.dumps({"id": "user-1"}))
        return path

    return make


@pytest.fixture
def export(make_export):
    return make_export()


@pytest.fixture
def archive(muniment, export, folder):
    """Return an archive that holds the three conversations."""
    result = muniment("import", export, "--quiet")
    assert result.exit_code == 0, result.output
    return folder / "archive.db"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution with one plugin module."""

    def make(name: str, source: str) -> None:
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[muniment.plugins.v1]\n{name} = {name}\n")
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)

    return make


@pytest.fixture
def a_conversation():
    return conversation


@pytest.fixture
def conversations():
    return CONVERSATIONS
