"""How is an archive read back?  Read-only connections, records exact, bounded memory."""

import contextlib
import io
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from muniment import FatalError, InputError, Known, Record
from muniment.canonical import record_from_json
from muniment.crypto import Keyring
from muniment.model import Origin
from muniment_plugins.sinks.sqlite import assets, schema
from muniment_plugins.sinks.sqlite.cover import Cover
from muniment_plugins.sinks.sqlite.encode import decompress
from muniment_plugins.sinks.sqlite.vault import open_cover


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


def cover_of(path: Path, keyring: Keyring | None) -> Cover:
    """Return how what stands in an archive is read: what the functions below take.

    Raises:
        InputError: there is no archive.
        ConfigError: it is encrypted, and no keyring was given.
        WrongKeyError: no key of the keyring opens it.
    """
    with contextlib.closing(connect(path)) as connection:
        return open_cover(connection, path, keyring)


def read_records(path: Path, cover: Cover | None = None) -> Iterator[tuple[int, Record]]:
    """Yield (number, record) in the order of the archive.

    Raises:
        ConfigError: it is encrypted, and no ``cover`` was given.
        DamagedError: a record of an encrypted archive is not what was stored in its place.
    """
    connection = connect(path)
    try:
        cover = cover or open_cover(connection, path, None)
        last = 0
        # In pages: an open cursor would keep a WAL from being checkpointed while someone tops up.
        while rows := stored_records(connection, last):
            for number, identity, blob in rows:
                data = decompress(cover.record(blob, identity))
                yield number, record_from_json(data, Origin(path.name, "", number, number))
            last = rows[-1][0]
    finally:
        connection.close()


def stored_records(connection: sqlite3.Connection, after: int) -> list[tuple[int, str, bytes]]:
    """Return the next 64 records, as they are stored: (number, column ``id``, content)."""
    select = """SELECT conversation, coalesce((SELECT id FROM conversations WHERE no=conversation), ''), record
        FROM records WHERE conversation>? ORDER BY conversation LIMIT 64"""
    return connection.execute(select, (after,)).fetchall()


def find_record(connection: sqlite3.Connection, cover: Cover, key: str) -> Record | None:
    """Return the record that an archive holds under a key, if it does."""
    place = cover.key(key)
    select = "SELECT record FROM records JOIN conversations ON no=conversation WHERE source=? AND id=?"
    row = connection.execute(select, place).fetchone()
    return None if row is None else record_from_json(decompress(cover.record(row[0], place[1])), Origin("", ""))


def open_asset(path: Path, sha256: str, cover: Cover | None = None) -> BinaryIO:
    """Return the bytes of an asset, streamed.

    Raises:
        FileNotFoundError: the archive does not hold it.
        ConfigError: it is encrypted, and no ``cover`` was given.
    """
    connection = connect(path)
    try:
        cover = cover or open_cover(connection, path, None)
        name = cover.asset_name(sha256)
        if connection.execute("SELECT 1 FROM asset_chunks WHERE sha256=?", (name,)).fetchone() is None:
            raise FileNotFoundError(sha256)
    except BaseException:
        connection.close()
        raise
    return io.BufferedReader(assets.ChunkStream(connection, cover, name))


class ArchiveKnown(Known):
    """What an archive holds, by key, for workers."""

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        self._connection = connect(path)
        try:
            self._cover = open_cover(self._connection, path, keyring)
            has_heads = "head" in {r[1] for r in self._connection.execute("PRAGMA table_info(conversations)")}
        except BaseException:
            self._connection.close()
            raise
        # An archive of an older version is brought to today's tables when a run opens it, after its workers did.
        columns = "source_hash, plan_hash, head" if has_heads else "source_hash, plan_hash, NULL"
        self._select = f"SELECT {columns} FROM conversations WHERE source=? AND id=?"  # noqa: S608 - our own names

    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        found = {}
        for key in keys:
            source, identity = self._cover.key(key)
            try:
                row = self._connection.execute(self._select, (source, identity)).fetchone()
            except sqlite3.DatabaseError as error:
                raise FatalError(f"the archive cannot be read: {error}; check the disk, then run again") from error
            if row:
                found[key] = self._cover.source_hash(row[0], row[2], identity), row[1]
        return found

    def close(self) -> None:
        self._connection.close()
