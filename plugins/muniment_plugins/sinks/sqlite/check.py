"""Is an archive sound?  Every page, every record, every file in it, read and compared; nothing is written."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from attrs import frozen

from muniment.canonical import record_from_json
from muniment.crypto import Keyring
from muniment.errors import DamagedError
from muniment.model import Origin
from muniment_plugins.sinks.sqlite import assets, read
from muniment_plugins.sinks.sqlite.cover import Cover
from muniment_plugins.sinks.sqlite.encode import decompress
from muniment_plugins.sinks.sqlite.index import kind_of
from muniment_plugins.sinks.sqlite.vault import open_cover

_MAX_PAGE_PROBLEMS = 100


@frozen
class Problem:
    """Something that is not as it was stored: ``where`` names a conversation, a file or a table."""

    where: str
    what: str


def count(path: Path) -> int:
    """Return how many conversations and files `check` will look at."""
    connection = read.connect(path)
    try:
        select = "SELECT (SELECT count(*) FROM conversations) + (SELECT count(DISTINCT sha256) FROM asset_chunks)"
        return int(connection.execute(select).fetchone()[0])
    finally:
        connection.close()


def check(path: Path, seen: Callable[[], object], keyring: Keyring | None = None) -> Iterator[Problem]:
    """Yield what is wrong with an archive; ``seen`` is called after each conversation and file.

    A conversation is sound when its record parses, has the hash that was noted when it was stored,
    and the other tables hold the same messages.

    Raises:
        InputError: there is no archive.
        ConfigError: it is encrypted, and no keyring was given.
        WrongKeyError: no key of the keyring opens it.
    """
    connection = read.connect(path)
    try:
        cover = open_cover(connection, path, keyring)
        yield from _pages(connection)
        yield from _records(connection, cover, seen)
        yield from _assets(connection, cover, seen)
        yield from _rows(connection)
    except sqlite3.DatabaseError as error:
        yield Problem(path.name, f"cannot be read any further ({error})")
    finally:
        connection.close()


def _pages(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (text,) in connection.execute(f"PRAGMA integrity_check({_MAX_PAGE_PROBLEMS})"):
        if text != "ok":
            yield Problem("database", text)


def _records(connection: sqlite3.Connection, cover: Cover, seen: Callable[[], object]) -> Iterator[Problem]:
    head = "c.head" if cover.hides else "NULL"
    select = f"""SELECT c.no, c.id, c.source_hash, c.message_count, {head}, r.record
        FROM conversations c LEFT JOIN records r ON r.conversation = c.no ORDER BY c.no"""  # noqa: S608 - our names
    messages = connection.cursor()
    for number, name, source_hash, message_count, head, blob in connection.execute(select):
        where = f"conversation {number} (`{name}`)"
        if blob is None:
            yield Problem(where, "has no record")
        elif problem := _record_problem(blob, head, name, source_hash, cover):
            yield Problem(where, problem)
        found = messages.execute("SELECT count(*) FROM messages WHERE conversation=?", (number,)).fetchone()[0]
        if found != message_count:
            yield Problem(where, f"has {found} rows of messages instead of {message_count}")
        seen()


def _record_problem(blob: bytes, head: bytes | None, name: str, source_hash: str, cover: Cover) -> str:
    try:
        record = record_from_json(decompress(cover.record(blob, name)), Origin("", ""))
        said = cover.source_hash(source_hash, head, name)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, EOFError) as error:
        return f"has a damaged record ({type(error).__name__})"
    except Exception as error:  # noqa: BLE001 - the compressor's own error, whose place depends on the Python version
        return f"has a damaged record ({type(error).__name__})"
    if cover.key(record.key)[1] != name:
        return "has the record of another conversation"
    return "" if record.source_hash == said else "has a record that is not the one which was stored"


def _assets(connection: sqlite3.Connection, cover: Cover, seen: Callable[[], object]) -> Iterator[Problem]:
    for (digest,) in connection.execute("SELECT DISTINCT sha256 FROM asset_chunks"):
        actual = hashlib.sha256()
        try:
            for data in assets.chunks(connection, cover, digest):
                actual.update(data)
        except DamagedError:
            actual = hashlib.sha256(b"damaged")
        if cover.asset_name(actual.hexdigest()) != digest:
            yield Problem(f"file {digest[:16]}", "has other bytes than were stored")
        seen()
    select = """SELECT DISTINCT a.sha256 FROM assets a WHERE a.sha256 IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM asset_chunks k WHERE k.sha256 = a.sha256)"""
    for (digest,) in connection.execute(select):
        yield Problem(f"file {digest[:16]}", "is named, but its bytes are gone")


def _rows(connection: sqlite3.Connection) -> Iterator[Problem]:
    checks = {
        "messages": "SELECT count(*) FROM messages WHERE conversation NOT IN (SELECT no FROM conversations)",
        "parts": "SELECT count(*) FROM parts WHERE message NOT IN (SELECT no FROM messages)",
        "records": "SELECT count(*) FROM records WHERE conversation NOT IN (SELECT no FROM conversations)",
    }
    for table, select in checks.items():
        if found := connection.execute(select).fetchone()[0]:
            yield Problem(table, f"has {found} rows that belong to nothing")
    if kind_of(connection) != "none":
        select = "SELECT count(*) FROM messages_fts_docsize WHERE id NOT IN (SELECT no FROM messages)"
        if found := connection.execute(select).fetchone()[0]:
            yield Problem("index", f"has {found} entries of messages that are not there")
        select = """SELECT count(DISTINCT message) FROM parts WHERE text <> ''
            AND message NOT IN (SELECT id FROM messages_fts_docsize)"""
        if found := connection.execute(select).fetchone()[0]:
            yield Problem("index", f"lacks {found} messages")
