"""How are rows put into an archive?  One connection, in one of two manners.

*Loading*: the archive does not exist yet; it is filled in a file beside it without a journal, then
flushed and renamed: a killed load leaves no archive and starts again.  *Topping up*: the archive
exists; every unit is a transaction (WAL, ``synchronous=FULL``), and readers do not wait.  At rest the
archive is one file: the log is gone.
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from muniment import Asset, FatalError, RecordError, Rejected
from muniment.canonical import record_from_json
from muniment.components import Receipt
from muniment.merge import merge_records
from muniment.model import Origin
from muniment.state import Ledger
from muniment_plugins.sinks.sqlite import schema
from muniment_plugins.sinks.sqlite.encode import Rows, decompress, encode, time_text
from muniment_plugins.sinks.sqlite.text import scrub

_PAGE_BYTES = 8192
_CACHE_KIB = 16384
_FTS_HASH_BYTES = 32 * 2**20
_ASSET_CHUNK_BYTES = 2**20
# The index is filled in bursts: its hash table then stays in the processor's caches, a quarter faster.
_INDEX_BURST_ROWS = 4000
_INDEX_BURST_CHARACTERS = 8_000_000
_NO_MERGE = 1999
_FTS_AUTOMERGE, _FTS_CRISISMERGE = 4, 16  # SQLite's defaults


class Archive:
    """A connection to an archive that rows are written to."""

    def __init__(self, path: Path, *, fts: str, loading: bool) -> None:
        self.path = path
        self.loading = loading
        file = loading_path(path) if loading else path
        if loading:
            os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        try:
            self.connection = sqlite3.connect(file, isolation_level=None, timeout=60, cached_statements=256)
            self._configure()
            self.fts = self._prepare(fts)
        except sqlite3.DatabaseError as error:
            raise refused(path, error) from error
        self.ledger = Ledger(self.connection)
        self._unindexed: list[tuple[Any, ...]] = []
        self._unindexed_characters = 0
        self._next = {t: self._max(t) for t in ("conversations", "messages")}

    def close(self) -> None:
        self.connection.close()

    def end_load(self) -> None:
        """Let the index merge its segments again, a little with each top-up."""
        if self.fts != "none":
            self._set_fts(automerge=_FTS_AUTOMERGE, crisismerge=_FTS_CRISISMERGE)

    def settle(self) -> None:
        """Leave the archive as one file, without a log beside it, unless somebody is reading it now."""
        with contextlib.suppress(sqlite3.OperationalError):
            self.connection.execute("PRAGMA busy_timeout=0")
            self.connection.execute("PRAGMA journal_mode=DELETE")

    def begin(self) -> None:
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since `begin` durable.

        Raises:
            FatalError: the disk is full, or the file is damaged; the transaction is undone.
        """
        if self.connection.in_transaction:
            try:
                self._fill_index()
                self.connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                raise refused(self.path, error) from error

    def rollback(self) -> None:
        self._unindexed.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def write(
        self, batch: Sequence[Rows], *, run: str, plan_hash: str, on_plan_change: str,
        open_asset: Callable[[Asset], BinaryIO],
    ) -> Receipt:  # fmt: skip
        """Store a batch inside the open transaction; what is stored already is merged or left alone.

        Raises:
            FatalError: the disk is full, or the file is damaged.
        """
        fresh: list[Rows] = []
        rejected: list[Rejected] = []
        stored = unchanged = 0
        seen: set[str] = set()
        try:
            existing = self._existing(batch)
            for rows in batch:
                try:
                    self._store_assets(rows.assets, open_asset)
                except RecordError as error:
                    rejected.append(Rejected(rows.origin, "write", error.reason, rows.key))
                    continue
                found = existing.get(rows.conversation[:2])
                if found is None and rows.key in seen:
                    # The same conversation twice in one batch: the first must be in the tables to merge with.
                    self._insert(fresh, run, plan_hash)
                    fresh = []
                    found = self._existing([rows])[rows.conversation[:2]]
                if found is None:
                    seen.add(rows.key)
                    fresh.append(rows)
                elif self._replace(found, rows, run, plan_hash, on_plan_change):
                    stored += 1
                else:
                    unchanged += 1
                    continue
                stored += found is None
            self._insert(fresh, run, plan_hash)
        except sqlite3.DatabaseError as error:
            raise refused(self.path, error) from error
        return Receipt(stored, unchanged, tuple(rejected))

    # --- set-up -----------------------------------------------------------------------------

    def _configure(self) -> None:
        if self.loading:
            pragmas = f"""PRAGMA page_size={_PAGE_BYTES}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
                PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-{_CACHE_KIB};"""
        else:
            pragmas = f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-{_CACHE_KIB};"
        self.connection.executescript(pragmas)

    def _prepare(self, fts: str) -> str:
        """Create what is missing; return which index the archive has."""
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > schema.VERSION:
            raise FatalError(
                f"`{self.path}` was written by a newer muniment (archive version {version}); update muniment"
            )
        if version == 0:
            if self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise FatalError(
                    f"`{self.path}` is an SQLite database of something else; choose another file for the archive"
                )
            self.connection.executescript(
                f"BEGIN; {schema.TABLES} {schema.FTS[fts]} PRAGMA application_id={schema.APPLICATION_ID};"
                f" PRAGMA user_version={schema.VERSION}; COMMIT;"
            )
            if not self.loading:
                self.connection.executescript(schema.INDEXES)
            if fts != "none":
                self._set_fts(hashsize=_FTS_HASH_BYTES)
                if self.loading:
                    # Merging segments on the way would write the index several times over.
                    self._set_fts(automerge=0, crisismerge=_NO_MERGE)
        return fts_of(self.connection)

    def _set_fts(self, **settings: int) -> None:
        for name, value in settings.items():
            self.connection.execute("INSERT INTO messages_fts(messages_fts, rank) VALUES(?, ?)", (name, value))

    def _max(self, table: str) -> int:
        row = self.connection.execute(f"SELECT max(no) FROM {table}").fetchone()  # noqa: S608 - our own names
        return (row[0] or 0) + 1

    # --- rows -------------------------------------------------------------------------------

    def _existing(self, batch: Sequence[Rows]) -> dict[tuple[str, str], tuple[int, str, str]]:
        """Return (no, source_hash, plan_hash) of what the archive holds, by (source, id)."""
        select = "SELECT no, source_hash, plan_hash FROM conversations WHERE source=? AND id=?"
        found = {}
        for rows in batch:
            key = rows.conversation[:2]
            row = self.connection.execute(select, key).fetchone()
            if row:
                found[key] = row
        return found

    def _insert(self, batch: Sequence[Rows], run: str, plan_hash: str) -> None:
        if not batch:
            return
        execute = self.connection.executemany
        first = self._next["conversations"]
        no = self._next["messages"]
        conversations, messages, parts, index, assets, records = [], [], [], [], [], []
        for conversation, rows in enumerate(batch, first):
            conversations.append((conversation, *rows.conversation, plan_hash, run))
            messages += [(no + m[0], conversation, *m) for m in rows.messages]
            parts += [(no + p[0], *p[1:]) for p in rows.parts]
            index += [(no + i[0], i[1], i[2]) for i in rows.index]
            if rows.assets:
                assets += [(conversation, *_asset_row(a)) for a in rows.assets]
            records.append((conversation, rows.record))
            no += len(rows.messages)
        execute(schema.INSERT_CONVERSATION, conversations)
        execute(schema.INSERT_MESSAGE, messages)
        execute(schema.INSERT_PART, parts)
        execute(schema.INSERT_ASSET, assets)
        execute(schema.INSERT_RECORD, records)
        if self.fts != "none":
            self._unindexed += index
            self._unindexed_characters += sum(len(i[2]) for i in index)
            if len(self._unindexed) >= _INDEX_BURST_ROWS or self._unindexed_characters >= _INDEX_BURST_CHARACTERS:
                self._fill_index()
        self._next = {"conversations": first + len(batch), "messages": no}

    def _fill_index(self) -> None:
        if self.fts != "none":
            self.connection.executemany(schema.INSERT_FTS, self._unindexed)
        if self.fts == "trigram":
            self.connection.executemany(schema.INSERT_TRIGRAM, self._unindexed)
        self._unindexed.clear()
        self._unindexed_characters = 0

    def _replace(self, found: tuple[int, str, str], rows: Rows, run: str, plan_hash: str, on_plan_change: str) -> bool:
        """Merge a record with the stored one; return whether that changed anything."""
        conversation, stored_hash, stored_plan = found
        if stored_hash == rows.source_hash and (stored_plan == plan_hash or on_plan_change == "keep"):
            return False
        old_blob = self._blob(conversation)
        if stored_hash == rows.source_hash or (stored_plan != plan_hash and on_plan_change == "rewrite"):
            # The plan is another one: what it makes stands in place of the old, not beside it.
            new_rows, keep_old = rows, on_plan_change == "new_version"
            if on_plan_change == "rewrite":
                self.connection.execute("DELETE FROM versions WHERE conversation=?", (conversation,))
        else:
            old = record_from_json(decompress(old_blob), rows.origin)
            new = record_from_json(decompress(rows.record), rows.origin)
            merged = merge_records(old, new)
            if merged.source_hash == old.source_hash:
                return False
            new_rows, keep_old = encode(merged, indexed=self.fts != "none"), True
        if keep_old:
            self.connection.execute(
                "INSERT INTO versions(conversation, source_hash, run, superseded_at, record)"
                " SELECT no, source_hash, run, ?, ? FROM conversations WHERE no=?",
                (time_text(datetime.now(UTC)), old_blob, conversation),
            )
        self._delete(conversation, old_blob)
        self._insert_at(conversation, new_rows, run, plan_hash)
        return True

    def _insert_at(self, conversation: int, rows: Rows, run: str, plan_hash: str) -> None:
        following = self._next["conversations"]
        self._next["conversations"] = conversation
        self._insert([rows], run, plan_hash)
        self._next["conversations"] = following

    def _delete(self, conversation: int, blob: bytes) -> None:
        select = "SELECT min(no) FROM messages WHERE conversation=?"
        first = self.connection.execute(select, (conversation,)).fetchone()[0]
        self._fill_index()
        if self.fts != "none" and first is not None:
            # A contentless index is told what to forget: the same words that were put in.
            old = encode(record_from_json(decompress(blob), Origin("", "")), indexed=True)
            entries = [(first + i[0], i[1], i[2]) for i in old.index]
            self.connection.executemany(schema.DELETE_FTS, entries)
            if self.fts == "trigram":
                self.connection.executemany(schema.DELETE_TRIGRAM, entries)
        for statement in (
            "DELETE FROM parts WHERE message IN (SELECT no FROM messages WHERE conversation=?)",
            "DELETE FROM messages WHERE conversation=?",
            "DELETE FROM assets WHERE conversation=?",
            "DELETE FROM records WHERE conversation=?",
            "DELETE FROM conversations WHERE no=?",
        ):
            self.connection.execute(statement, (conversation,))

    def _blob(self, conversation: int) -> bytes:
        select = "SELECT record FROM records WHERE conversation=?"
        return bytes(self.connection.execute(select, (conversation,)).fetchone()[0])

    # --- assets -----------------------------------------------------------------------------

    def _store_assets(self, assets: Iterable[Asset], open_asset: Callable[[Asset], BinaryIO]) -> None:
        for asset in assets:
            if asset.sha256 and not self._holds_asset(asset.sha256):
                self._store_asset(asset, asset.sha256, open_asset)

    def _holds_asset(self, digest: str) -> bool:
        select = "SELECT 1 FROM asset_chunks WHERE sha256=? AND position=0"
        return self.connection.execute(select, (digest,)).fetchone() is not None

    def _store_asset(self, asset: Asset, digest: str, open_asset: Callable[[Asset], BinaryIO]) -> None:
        actual = hashlib.sha256()
        insert = "INSERT INTO asset_chunks(sha256, position, data) VALUES(?,?,?)"
        try:
            with contextlib.closing(open_asset(asset)) as stream:
                for position, data in enumerate(_pieces(stream)):
                    actual.update(data)
                    self.connection.execute(insert, (digest, position, data))
        except FileNotFoundError:
            actual = hashlib.sha256(b"gone")
        if actual.hexdigest() != digest:
            self.connection.execute("DELETE FROM asset_chunks WHERE sha256=?", (digest,))
            raise RecordError("an asset changed or vanished while it was read; run the import again")


def finish_load(archive: Archive) -> None:
    """Make a loaded file the archive: indexes, flush, rename, flush the directory."""
    connection = archive.connection
    try:
        archive.end_load()
        connection.executescript(schema.INDEXES)
        connection.close()
    except sqlite3.DatabaseError as error:
        raise refused(archive.path, error) from error
    file = loading_path(archive.path)
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if path == file:
                file.rename(archive.path)
        finally:
            os.close(descriptor)


def loading_path(path: Path) -> Path:
    """Return the file that a new archive is loaded into."""
    return path.with_name(f".{path.name}.loading")


def discard_load(path: Path) -> None:
    """Remove what a killed load left."""
    file = loading_path(path)
    for suffix in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def fts_of(connection: sqlite3.Connection) -> str:
    """Return which full-text index an archive has: ``words``, ``trigram`` or ``none``."""
    names = {
        r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'messages_%' AND type='table'")
    }
    return "trigram" if "messages_trigram" in names else "words" if "messages_fts" in names else "none"


def refused(path: Path, error: sqlite3.Error) -> FatalError:
    """Return what to tell a person about an SQLite error."""
    text = str(error)
    if "full" in text:
        return FatalError(f"the disk of `{path}` is full; free some space and run again: what was committed stands")
    if "not a database" in text or "malformed" in text:
        return FatalError(f"`{path}` is not a readable SQLite database ({text}); restore it or choose another file")
    if "readonly" in text or "unable to open" in text:
        return FatalError(f"`{path}` cannot be written ({text}); check the folder and its permissions")
    return FatalError(f"`{path}`: {text}")


def _asset_row(asset: Asset) -> tuple[Any, ...]:
    return (
        scrub(asset.id), scrub(asset.name), scrub(asset.mime_type), asset.size, asset.sha256,
        None if asset.missing is None else scrub(asset.missing),
    )  # fmt: skip


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    first = True
    while (data := stream.read(_ASSET_CHUNK_BYTES)) or first:
        first = False
        yield data
