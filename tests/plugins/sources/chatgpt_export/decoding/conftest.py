"""Conversations, made small, and an export in memory that they come from."""

import io
import json
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest

from muniment import Message, Origin, Record
from muniment_plugins.sources.chatgpt_export.assets import Assets
from muniment_plugins.sources.chatgpt_export.container import Member
from muniment_plugins.sources.chatgpt_export.decode import decode_conversation
from muniment_plugins.sources.chatgpt_export.sidecars import Sidecars


class MemoryExport:
    """Members by name: bytes, or JSON.  ``opened`` lists what was opened."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members
        self.opened: list[str] = []

    def open(self, name: str) -> BinaryIO:
        self.opened.append(name)
        if isinstance(self.members[name], Exception):
            raise self.members[name]
        return io.BytesIO(self.members[name])

    def read_json(self, name: str) -> Any:
        value = self.members.get(name)
        if isinstance(value, Exception):
            raise value
        return value

    def find_asset(self, asset_id: str) -> Member | None:
        for name, value in self.members.items():
            if name.rpartition("/")[2].startswith(asset_id) and asset_id:
                return Member(name, len(value) if isinstance(value, bytes) else 0, 0)
        return None


def make_node(
    key: str = "m1", content: Any = None, parent: str | None = None, role: str = "user", **message: Any
) -> dict[str, Any]:
    """Return a node; a text stands for content of the type ``text``."""
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    return {
        "id": key,
        "parent": parent,
        "message": {"id": key, "author": {"role": role}, "content": content, **message},
    }


def make_conversation(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "title": "A talk", "mapping": {n["id"]: n for n in nodes}, **fields}


@pytest.fixture
def memory_export() -> type[MemoryExport]:
    return MemoryExport


@pytest.fixture
def node() -> Callable[..., dict[str, Any]]:
    return make_node


@pytest.fixture
def talk() -> Callable[..., dict[str, Any]]:
    return make_conversation


@pytest.fixture
def decode() -> Callable[..., Record]:
    """Decodes a conversation (bytes, or what becomes JSON) of an export with these members."""

    def run(conversation: Any, members: dict[str, Any] | None = None) -> Record:
        data = conversation if isinstance(conversation, bytes) else json.dumps(conversation).encode()
        export = MemoryExport(members or {})
        sidecars = Sidecars(export)
        return decode_conversation(data, Origin("export.zip", "p1", 7, 99), sidecars, Assets(export, sidecars))

    return run


@pytest.fixture
def message(decode: Callable[..., Record]) -> Callable[..., Message]:
    """Decodes the one message with this content."""

    def run(content: Any, members: dict[str, Any] | None = None, **fields: Any) -> Message:
        record = decode(make_conversation(make_node("m1", content, **fields)), members)
        return record.conversation.messages[0]

    return run
