"""What does one copy of an archive hold that another lacks?

The answer is kept in a temporary SQLite file, so that memory does not grow with the archive.
"""

import sqlite3
from collections.abc import Iterator
from types import TracebackType

from attrs import frozen

from muniment.canonical import source_hash
from muniment.model import Record

_SCHEMA = """
CREATE TABLE copy(key BLOB PRIMARY KEY, hash BLOB) WITHOUT ROWID;
CREATE TABLE original(key BLOB PRIMARY KEY, hash BLOB, lacks_asset INTEGER) WITHOUT ROWID;
CREATE TABLE assets(sha256 TEXT PRIMARY KEY, is_held INTEGER) WITHOUT ROWID;
"""
_SHORT = "c.key IS NOT NULL AND (c.hash <> o.hash OR o.lacks_asset)"
_MISSING = "c.key IS NULL"
_JOINED = "original o LEFT JOIN copy c ON c.key = o.key"


@frozen
class Difference:
    """Numbers of conversations.

    ``same`` are equal in both, ``missing`` only in the original; ``short`` differ, or lack an asset
    that the original has; ``extra`` are only in the copy.
    """

    same: int = 0
    missing: int = 0
    short: int = 0
    extra: int = 0

    @property
    def is_whole(self) -> bool:
        """True if the copy has all that the original has."""
        return not (self.missing or self.short)


class Comparison:
    """The keys and content hashes of two copies.  A context manager."""

    def __init__(self) -> None:
        # An empty name is a file of its own, which goes with the connection.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA} BEGIN;")

    def add_copy(self, record: Record) -> None:
        self._db.execute("INSERT OR REPLACE INTO copy VALUES(?,?)", (_key(record.key), _hash(record)))

    def add_original(self, record: Record, *, lacks_asset: bool) -> None:
        values = (_key(record.key), _hash(record), lacks_asset)
        self._db.execute("INSERT OR REPLACE INTO original VALUES(?,?,?)", values)

    def forget_copy(self) -> None:
        """Begin anew with the copy, which has changed."""
        self._db.execute("DELETE FROM copy")
        self._db.execute("DELETE FROM assets")

    def find_asset(self, sha256: str) -> bool | None:
        """Return whether the copy holds an asset; None if that was not looked at yet."""
        row = self._db.execute("SELECT is_held FROM assets WHERE sha256=?", (sha256,)).fetchone()
        return bool(row[0]) if row else None

    def note_asset(self, sha256: str, *, is_held: bool) -> None:
        self._db.execute("INSERT OR REPLACE INTO assets VALUES(?,?)", (sha256, is_held))

    def difference(self) -> Difference:
        total, missing, short = self._db.execute(
            f"SELECT count(*), coalesce(sum({_MISSING}), 0), coalesce(sum({_SHORT}), 0) FROM {_JOINED}"  # noqa: S608
        ).fetchone()
        extra = self._db.execute("SELECT count(*) FROM copy WHERE key NOT IN (SELECT key FROM original)").fetchone()[0]
        return Difference(total - missing - short, missing, short, extra)

    def missing(self) -> Iterator[str]:
        """Yield the keys that only the original has."""
        return self._keys(_MISSING)

    def short(self) -> Iterator[str]:
        """Yield the keys of what differs, or lacks an asset."""
        return self._keys(_SHORT)

    def is_owed(self, key: str) -> bool:
        """Say whether the copy lacks this record or a part of it."""
        sql = f"SELECT 1 FROM {_JOINED} WHERE o.key=? AND ({_MISSING} OR {_SHORT})"  # noqa: S608
        return self._db.execute(sql, (_key(key),)).fetchone() is not None

    def keys(self) -> Iterator[str]:
        """Yield the keys of what the original has."""
        return (bytes(row[0]).decode("utf-8", "surrogatepass") for row in self._db.execute("SELECT key FROM original"))

    def __enter__(self) -> "Comparison":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def _keys(self, condition: str) -> Iterator[str]:
        rows = self._db.execute(f"SELECT o.key FROM {_JOINED} WHERE {condition} ORDER BY o.key")  # noqa: S608
        return (bytes(row[0]).decode("utf-8", "surrogatepass") for row in rows)


def _key(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _hash(record: Record) -> bytes:
    return bytes.fromhex(source_hash(record.conversation))
