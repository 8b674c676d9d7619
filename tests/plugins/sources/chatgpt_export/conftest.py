"""Exports of every layout, made small."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from muniment import Chunk, Context, Partition, Reader
from muniment_plugins.sources.chatgpt_export import ChatGPTExport


def make_conversation(n: int = 1, **changes: Any) -> dict[str, Any]:
    node = f"node-{n}"
    message = {
        "id": node,
        "author": {"role": "user"},
        "create_time": 1700000000.5 + n,
        "content": {"content_type": "text", "parts": [f'hello {n}: {{"mapping": [1, 2]}}, \\ \u00e9 \U0001f600']},
    }
    return {
        "title": f"Conversation {n}",
        "create_time": 1700000000.5 + n,
        "mapping": {node: {"id": node, "message": message, "parent": None, "children": []}},
        "current_node": node,
        "conversation_id": f"conversation-{n}",
    } | changes


def make_zip(path: Path, members: Mapping[str, Any], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write ``members``: bytes as they are, anything else as JSON."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in members.items():
            archive.writestr(name, value if isinstance(value, bytes) else json.dumps(value))
    return path


def make_folder(path: Path, members: Mapping[str, Any]) -> Path:
    for name, value in members.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def open_reader(*paths: Path | str, **options: Any) -> Reader:
    return ChatGPTExport(path=tuple(str(p) for p in paths), **options).open(Context(run="run"))


def read_all(reader: Reader, partition: Partition, after: Any = None) -> list[Chunk]:
    chunks = list(reader.read(partition, after))
    assert all(isinstance(c, Chunk) for c in chunks)
    return chunks  # type: ignore[return-value]


def titles(*paths: Path | str, **options: Any) -> list[str]:
    """Return the titles of all conversations below ``paths``, in the order in which they are read."""
    with open_reader(*paths, **options) as reader:
        slices = [d for p in reader.partitions() for c in read_all(reader, p) for d in c.data]
    return [json.loads(data)["title"] for _, _, data in slices]


@pytest.fixture
def conversation() -> Callable[..., dict[str, Any]]:
    return make_conversation


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    return lambda members, name="export.zip", **more: make_zip(tmp_path / name, members, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    return lambda members, name="export": make_folder(tmp_path / name, members)


@pytest.fixture
def reader() -> Callable[..., Reader]:
    return open_reader


@pytest.fixture
def read_chunks() -> Callable[..., list[Chunk]]:
    return read_all


@pytest.fixture
def read_titles() -> Callable[..., list[str]]:
    return titles
