"""Zips as nobody's zip program writes them, made byte by byte (APPNOTE 6.3.10)."""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen

from muniment import Chunk, Context, InputError
from muniment_plugins.sources.chatgpt_export import ChatGPTExport

NONE32 = 0xFFFFFFFF


@frozen
class Entry:
    """A file; ``local`` and ``central`` say what its two headers have other than the truth.

    ``behind`` stands behind its data: a descriptor, or anything.
    """

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    attributes: int = 0
    local: dict[str, Any] = field(factory=dict)
    central: dict[str, Any] = field(factory=dict)
    behind: bytes = b""
    packed: bytes | None = None

    @property
    def stored(self) -> bytes:
        if self.packed is not None:
            return self.packed
        if self.method == 0:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()

    def _values(self) -> dict[str, Any]:
        return {
            "name": self.name, "flags": self.flags, "method": self.method, "crc": zlib.crc32(self.data),
            "packed": len(self.stored), "size": len(self.data), "extra": b"", "comment": b"", "disk": 0,
            "made_by": 0x031E, "attributes": self.attributes,
        }  # fmt: skip

    def local_header(self) -> bytes:
        v = self._values() | self.local
        numbers = (20, v["flags"], v["method"], 0, 0, v["crc"], v["packed"], v["size"], len(v["name"]), len(v["extra"]))
        return struct.pack("<4s5H3L2H", b"PK\3\4", *numbers) + v["name"] + v["extra"]

    def central_header(self, offset: int) -> bytes:
        v = self._values() | {"offset": offset} | self.central
        head = (v["made_by"], 20, v["flags"], v["method"], 0, 0, v["crc"], v["packed"], v["size"], len(v["name"]))
        tail = (len(v["extra"]), len(v["comment"]), v["disk"], 0, v["attributes"], v["offset"])
        return struct.pack("<4s6H3L5H2L", b"PK\1\2", *head, *tail) + v["name"] + v["extra"] + v["comment"]


@frozen
class End:
    """The records at the end of a zip, where they differ from the truth; ``zip64`` adds those of zip64."""

    zip64: bool = False
    entries: int | None = None
    start: int | None = None
    size: int | None = None
    comment: bytes = b""
    comment_bytes: int | None = None
    large: dict[str, int] = field(factory=dict)
    end_large: bool = True

    def record(self, entries: int, start: int, size: int) -> bytes:
        entries = entries if self.entries is None else self.entries
        start = start if self.start is None else self.start
        size = size if self.size is None else self.size
        before = b""
        if self.zip64:
            v = {"entries": entries, "size": size, "start": start, "record": 44, "where": start + size} | self.large
            numbers = (v["record"], 45, 45, 0, 0, v["entries"], v["entries"], v["size"], v["start"])
            before = struct.pack("<4sQ2H2L4Q", b"PK\6\6", *numbers)
            before += struct.pack("<4sLQL", b"PK\6\7", 0, v["where"], 1)
            if self.end_large:
                entries, size, start = 0xFFFF, NONE32, NONE32
        length = len(self.comment) if self.comment_bytes is None else self.comment_bytes
        numbers = (0, 0, entries, entries, size, start, length)
        return before + struct.pack("<4s4H2LH", b"PK\5\6", *numbers) + self.comment


def build_zip(entries: Sequence[Entry], end: End | None = None, *, before: bytes = b"", between: bytes = b"") -> bytes:
    """Return a zip; ``before`` stands before it (and is not counted), ``between`` before its directory."""
    body = b""
    directory = b""
    for entry in entries:
        directory += entry.central_header(len(body))
        body += entry.local_header() + entry.stored + entry.behind
    body += between
    return before + body + directory + (end or End()).record(len(entries), len(body), len(directory))


def make_conversation(n: int = 1, **changes: Any) -> dict[str, Any]:
    message = {"id": "m", "author": {"role": "user"}, "content": {"content_type": "text", "parts": [f"text {n}"]}}
    node = {"id": "m", "message": message, "parent": None, "children": []}
    talk = {"title": f"Talk {n}", "create_time": 1.5, "mapping": {"m": node}, "current_node": "m"}
    return {**talk, "conversation_id": f"c{n}", **changes}


def conversations_entry(n: int = 1, name: bytes = b"conversations.json", **more: Any) -> Entry:
    return Entry(name, json.dumps([make_conversation(n)]).encode(), **more)


@pytest.fixture
def entry() -> Callable[..., Entry]:
    """Return a function that makes an entry, by default ``conversations.json`` with one conversation."""
    return lambda *args, **more: Entry(*args, **more) if args else conversations_entry(**more)


@pytest.fixture
def end() -> type[End]:
    return End


@pytest.fixture
def changed() -> Callable[..., Any]:
    return evolve


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a zip and gives its path."""

    def build(*entries: Entry, **more: Any) -> Path:
        path = tmp_path / "x.zip"
        path.write_bytes(build_zip(entries, **more))
        return path

    return build


@pytest.fixture
def talk() -> Callable[..., dict[str, Any]]:
    return make_conversation


@pytest.fixture
def titles() -> Callable[..., list[str]]:
    """Return a function that reads an export to its end and gives its conversations' titles."""

    def read(path: Path, **options: Any) -> list[str]:
        with ChatGPTExport(path=str(path), **options).open(Context(run="run")) as reader:
            chunks = [c for p in reader.partitions() for c in reader.read(p, None)]
        assert all(isinstance(c, Chunk) for c in chunks)
        return [json.loads(data)["title"] for c in chunks for _, _, data in c.data]  # type: ignore[union-attr]

    return read


@pytest.fixture
def refusal(titles: Callable[..., list[str]]) -> Callable[..., str]:
    """Return a function that gives the sentence with which an export is refused."""

    def refuse(path: Path, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            titles(path, **options)
        return str(caught.value)

    return refuse
