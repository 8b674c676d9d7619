"""How is an archive read back?  Read-only connections, records exact, bounded memory."""

import contextlib
import io
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from muniment import FatalError, InputError, Known, Record
from muniment.canonical import record_from_json
from muniment.model import Origin
from muniment_plugins.sinks.sqlite import schema
from muniment_plugins.sinks.sqlite.encode import decompress
from muniment_plugins.sinks.sqlite.text import scrub


def connect(path: Path) -> sqlite3.Connection:
    """Return a read-only connection to an archive.

    Raises:
        InputError: there is no such file, or it is no archive.
    """
    if not path.is_file():
        raise InputError(f"there is no archive `{path}`; make one with `muniment import <export>`")
    try:
        try:
            connection, version, application = _opened(path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            # A run was killed, or the power went, in the middle of a write: whoever may write takes it back.
            with contextlib.closing(sqlite3.connect(path, timeout=60)) as recovering:
                recovering.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection, version, application = _opened(path)
    except sqlite3.DatabaseError as error:
        raise InputError(f"`{path}` cannot be read as an archive ({error})") from error
    if application != schema.APPLICATION_ID:
        connection.close()
        raise InputError(f"`{path}` is an SQLite database, but not a muniment archive")
    if version > schema.VERSION:
        connection.close()
        raise InputError(f"`{path}` was written by a newer muniment (archive version {version}); update muniment")
    return connection


def _opened(path: Path) -> tuple[sqlite3.Connection, int, int]:
    """Return a read-only connection, the version and the application that the file names."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return connection, version, connection.execute("PRAGMA application_id").fetchone()[0]
    except BaseException:
        connection.close()
        raise


def read_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield (number, record) in the order of the archive."""
    connection = connect(path)
    try:
        last = 0
        select = "SELECT conversation, record FROM records WHERE conversation>? ORDER BY conversation LIMIT 64"
        # In pages: an open cursor would keep a WAL from being checkpointed while someone tops up.
        while rows := connection.execute(select, (last,)).fetchall():
            for number, blob in rows:
                yield number, record_from_json(decompress(blob), Origin(path.name, "", number, number))
            last = rows[-1][0]
    finally:
        connection.close()


def open_asset(path: Path, sha256: str) -> BinaryIO:
    """Return the bytes of an asset, streamed.

    Raises:
        FileNotFoundError: the archive does not hold it.
    """
    connection = connect(path)
    if connection.execute("SELECT 1 FROM asset_chunks WHERE sha256=?", (sha256,)).fetchone() is None:
        connection.close()
        raise FileNotFoundError(sha256)
    return io.BufferedReader(_ChunkStream(connection, sha256))


class _ChunkStream(io.RawIOBase):
    def __init__(self, connection: sqlite3.Connection, sha256: str) -> None:
        self._connection = connection
        select = "SELECT data FROM asset_chunks WHERE sha256=? ORDER BY position"
        self._rows = connection.execute(select, (sha256,))
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            row = self._rows.fetchone()
            if row is None:
                return 0
            self._rest = memoryview(row[0])
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._connection.close()
        super().close()


class ArchiveKnown(Known):
    """What an archive holds, by key, for workers."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)

    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        select = "SELECT source_hash, plan_hash FROM conversations WHERE source=? AND id=?"
        found = {}
        for key in keys:
            source, _, identity = key.partition(":")
            try:
                row = self._connection.execute(select, (scrub(source), scrub(identity))).fetchone()
            except sqlite3.DatabaseError as error:
                raise FatalError(f"the archive cannot be read: {error}; check the disk, then run again") from error
            if row:
                found[key] = (row[0], row[1])
        return found

    def close(self) -> None:
        self._connection.close()
