"""How do the bytes of files come into an archive, and out of it?  In chunks of 1 MiB, each file once."""

import contextlib
import hashlib
import io
import sqlite3
from collections.abc import Callable, Generator, Iterator
from typing import Any, BinaryIO

from muniment import Asset, RecordError
from muniment_plugins.sinks.sqlite.cover import Cover
from muniment_plugins.sinks.sqlite.text import scrub

NO_CONVERSATION = 0
"""What stands in a receipt of a file, which belongs to no conversation alone."""

_CHUNK_BYTES = 2**20
_INSERT = "INSERT INTO asset_chunks(sha256, position, data) VALUES(?,?,?)"
_SELECT = "SELECT data FROM asset_chunks WHERE sha256=? ORDER BY position"


def holds(connection: sqlite3.Connection, name: str) -> bool:
    """Say whether the archive holds the file whose chunks have this name."""
    select = "SELECT 1 FROM asset_chunks WHERE sha256=? AND position=0"
    return connection.execute(select, (name,)).fetchone() is not None


def store(
    connection: sqlite3.Connection, cover: Cover, asset: Asset, digest: str, open_asset: Callable[[Asset], BinaryIO]
) -> bytes:
    """Put a file into the open transaction; return the digest of what was put there.

    Raises:
        RecordError: it is not what its digest says; nothing of it stays.
    """
    actual, kept = hashlib.sha256(), hashlib.sha256()
    name = cover.asset_name(digest)
    try:
        with contextlib.closing(open_asset(asset)) as stream:
            for position, (data, is_last) in enumerate(_pieces(stream)):
                actual.update(data)
                chunk = cover.chunk(data, name, position, is_last=is_last)
                if cover.hides:
                    kept.update(chunk)
                connection.execute(_INSERT, (name, position, chunk))
    except FileNotFoundError:
        actual = hashlib.sha256(b"gone")
    if actual.hexdigest() != digest:
        connection.execute("DELETE FROM asset_chunks WHERE sha256=?", (name,))
        raise RecordError("an asset changed or vanished while it was read; run the import again")
    return kept.digest() if cover.hides else actual.digest()


def row(asset: Asset) -> tuple[Any, ...]:
    """Return an asset as a row without its conversation."""
    return (
        scrub(asset.id), scrub(asset.name), scrub(asset.mime_type), asset.size, asset.sha256,
        None if asset.missing is None else scrub(asset.missing),
    )  # fmt: skip


class ChunkStream(io.RawIOBase):
    """The bytes of a file; closing it closes the connection."""

    def __init__(self, connection: sqlite3.Connection, cover: Cover, name: str) -> None:
        self._connection = connection
        self._chunks = chunks(connection, cover, name)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            data = next(self._chunks, None)
            if data is None:
                return 0
            self._rest = memoryview(data)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._chunks.close()
            self._connection.close()
        super().close()


def chunks(connection: sqlite3.Connection, cover: Cover, name: str) -> Generator[bytes, None, None]:
    """Yield the chunks of a file, in order.

    Raises:
        DamagedError: a chunk of an encrypted archive is not what was written, or one is missing.
    """
    rows = connection.execute(_SELECT, (name,))
    following = rows.fetchone()
    position = 0
    while following is not None:
        current, following = following[0], rows.fetchone()
        yield cover.chunk_data(current, name, position, is_last=following is None)
        position += 1


def _pieces(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield the chunks of a stream, at least one, each with whether it is the last."""
    data = stream.read(_CHUNK_BYTES)
    while following := stream.read(_CHUNK_BYTES):
        yield data, False
        data = following
    yield data, True
