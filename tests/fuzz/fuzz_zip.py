"""Fuzz the reader of exports: any bytes under the name of a zip."""

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from targets import Target

from muniment import Context, MunimentError
from muniment_plugins.sources.chatgpt_export import ChatGPTExport
from muniment_plugins.sources.chatgpt_export.zips import Zip

CONVERSATION = {
    "title": "t",
    "create_time": 1.5,
    "mapping": {"m": {"id": "m", "parent": None, "children": [], "message": {"id": "m", "content": {"parts": ["x"]}}}},
    "current_node": "m",
    "conversation_id": "c",
}
MOST_BYTES = 20_000_000


def make() -> Target:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name, "export.zip")

    def check(data: bytes, _folder: object = folder) -> None:
        path.write_bytes(data)
        try:
            read_all(path)
        except MunimentError:
            return
        if data[:2] == b"PK":
            compare(path)

    words = [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"conversations.json", b"../", b"\0"]
    words += [struct.pack("<H", n) for n in (0, 1, 0x7FFF, 0xFFFF)]
    words += [struct.pack("<L", n) for n in (1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)]
    words += [struct.pack("<Q", n) for n in (2**32, 2**63 - 1, 2**64 - 1)]
    return Target(check, list(seeds()), words)


def read_all(path: Path) -> None:
    """Read an export to its end, and every conversation in it."""
    source = ChatGPTExport(path=str(path), max_total_bytes=MOST_BYTES)
    with source.open(Context(run="fuzz")) as reader:
        for partition in reader.partitions():
            for chunk in reader.read(partition, None):
                for _ in source.decode(chunk):  # type: ignore[arg-type]
                    pass


def compare(path: Path) -> None:
    """Where the standard library reads a member too, it reads the same."""
    ours = Zip(path, "export.zip")
    try:
        theirs = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return
    with theirs:
        for member in ours.members:
            if member.problem or not member.stored_name.endswith(".json"):
                continue
            try:
                data = b"".join(ours.blocks(member))
            except MunimentError:
                continue
            try:
                expected = theirs.read(member.stored_name)
            except Exception:
                # It raises many things; what it cannot read is no witness.
                continue
            assert data == expected, f"`{member.stored_name}` is another file to the standard library"


def seeds() -> Iterator[bytes]:
    conversations = json.dumps([CONVERSATION] * 2).encode()
    yield conversations
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield zipped({"conversations.json": conversations}, method)
        yield zipped({"x/conversations-000.json": conversations, "x/user.json": b'{"id":"u"}'}, method)
    yield zipped({"conversations.json": conversations, "file-1.dat": b"x" * 99, "empty/": b""}, comment=b"comment")
    yield zipped({"conversations.json": conversations}, stream=True)
    yield b"before" + zipped({"conversations.json": conversations}) + b"behind"
    inner = zipped({"conversations.json": conversations}, zipfile.ZIP_STORED)
    yield zipped({"conversations.json": conversations, "a.zip": inner}, zipfile.ZIP_STORED)
    yield zip64(zipped({"conversations.json": conversations}))


def zipped(
    members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, comment: bytes = b"", stream: bool = False
) -> bytes:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return not stream

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, data in members.items():
            # The same bytes each time: the clock has no part in a seed.
            archive.writestr(zipfile.ZipInfo(name), data, method)
        archive.comment = comment
    return pipe.getvalue()


def zip64(data: bytes) -> bytes:
    """Return a zip of one member with all numbers of its directory's place in zip64 records."""
    at = data.rindex(b"PK\5\6")
    *_, size, start, _ = struct.unpack("<4s4H2LH", data[at:])
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    return data[:at] + end64 + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[2**32 - 1] * 2, 0)


if __name__ == "__main__":
    from engines import start

    start("zip")
