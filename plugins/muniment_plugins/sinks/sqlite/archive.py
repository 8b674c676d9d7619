"""How are rows put into an archive?  One connection, in one of two manners.

*Loading*: the archive does not exist yet; it is filled in a file beside it without a journal, then
flushed and renamed: a killed load leaves no archive and starts again.  *Topping up*: the archive
exists; every unit is a transaction (WAL, ``synchronous=FULL``), and readers do not wait.  At rest the
archive is one file: the log is gone.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from muniment import Asset, Context, Counts, FatalError, RecordError, Rejected, Unit
from muniment.canonical import record_from_json
from muniment.components import Receipt
from muniment.merge import merge_records
from muniment.model import Origin
from muniment.proof import SigningKey
from muniment.state import Ledger
from muniment_plugins.sinks.sqlite import schema
from muniment_plugins.sinks.sqlite.encode import Rows, decompress, encode, index_rows, time_text
from muniment_plugins.sinks.sqlite.index import BURST_ENTRIES, Index, kind_of
from muniment_plugins.sinks.sqlite.manifests import Manifests
from muniment_plugins.sinks.sqlite.manifests import Receipt as Stored
from muniment_plugins.sinks.sqlite.migrate import migrate
from muniment_plugins.sinks.sqlite.text import scrub

Key = tuple[str, str]

_PAGE_BYTES = 8192
_CACHE_KIB = 16384
_ASSET_CHUNK_BYTES = 2**20


class Archive:
    """A connection to an archive that rows are written to."""

    def __init__(
        self, path: Path, *, fts: str, loading: bool, ctx: Context | None = None, signer: SigningKey | None = None
    ) -> None:
        self.path = path
        self.loading = loading
        file = loading_path(path) if loading else path
        if loading:
            os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        try:
            self.connection = sqlite3.connect(
                file, isolation_level=None, timeout=60, cached_statements=256, check_same_thread=False
            )
        except sqlite3.DatabaseError as error:
            raise refused(path, error) from error
        try:
            self._configure()
            created = self._prepare(fts)
            self.index = Index(self.connection, kind_of(self.connection), beside=loading)
            if created:
                self.index.begin_load()
            # While loading, most keys are new: a set of hashes tells without a look into the tables.
            self._held = self._held_keys() if loading else None
            self._next = {t: self._max(t) for t in ("conversations", "messages")}
        except BaseException as error:
            self.connection.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise refused(path, error) from error
            raise
        self.manifests = Manifests(self.connection, ctx or Context(run=""), signer)
        self._stamp = "", "", ""
        self._waiting: dict[Key, Rows] = {}
        self._waiting_messages = 0

    @property
    def ledger(self) -> Ledger:
        """Return what is noted about runs, checkpoints and the quarantine."""
        self.index.wait()
        return Ledger(self.connection)

    def close(self) -> None:
        self.index.close()
        self.connection.close()

    def settle(self) -> None:
        """Leave the archive as one file, without a log beside it, unless somebody is reading it now.

        Raises:
            FatalError: the log cannot be taken in; it stays, with all that was committed.
        """
        try:
            self.connection.execute("PRAGMA busy_timeout=0")
            self.connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise refused(self.path, error) from error

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
                self._insert_waiting()
                self.index.fill()
                self.index.wait()
                self.connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                raise refused(self.path, error) from error

    def save_unit(self, unit: Unit) -> None:
        """Note a unit inside the open transaction: its manifest, its checkpoint, its quarantine entries."""
        try:
            self._insert_waiting()
            self.index.wait()
            self.manifests.append_unit(unit)
            self.ledger.add_unit(unit)
        except sqlite3.DatabaseError as error:
            raise refused(self.path, error) from error

    def save_end(self, run: str, exit_code: int, counts: Counts) -> None:
        """Note inside the open transaction how a run ended."""
        self.manifests.append_report(run, exit_code, counts)
        self.ledger.end_run(run, exit_code, counts)

    def rollback(self) -> None:
        self.manifests.clear()
        self._waiting, self._waiting_messages = {}, 0
        self.index.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def write(
        self, batch: Sequence[Rows], *, run: str, plan_hash: str, seen: str, on_plan_change: str,
        open_asset: Callable[[Asset], BinaryIO],
    ) -> Receipt:  # fmt: skip
        """Store a batch inside the open transaction; what is stored already is merged or left alone.

        ``seen`` is what the batch was read from: the same for all that a complete source holds.

        Raises:
            FatalError: the disk is full, or the file is damaged.
        """
        rejected: list[Rejected] = []
        stored = unchanged = 0
        self._stamp = plan_hash, run, seen
        try:
            existing = self._existing(batch)
            for rows in batch:
                try:
                    self._store_assets(rows.assets, open_asset)
                except RecordError as error:
                    rejected.append(Rejected(rows.origin, "write", error.reason, rows.key))
                    continue
                key = rows.conversation[:2]
                if key in self._waiting:
                    # Twice in a row: the first must be in the tables to merge with.
                    existing |= self._existing([rows])
                found = existing.get(key)
                if found is None:
                    self._waiting[key] = rows
                    self._waiting_messages += len(rows.messages)
                    stored += 1
                elif self._replace(found, rows, on_plan_change):
                    stored += 1
                else:
                    self.connection.execute(schema.SEE, (seen, *key))
                    unchanged += 1
            if not self.loading or self._waiting_messages >= BURST_ENTRIES:
                self._insert_waiting()
        except sqlite3.DatabaseError as error:
            raise refused(self.path, error) from error
        return Receipt(stored, unchanged, tuple(rejected))

    def see(self, keys: Iterable[str], seen: str) -> None:
        """Note inside the open transaction that these conversations were seen again, unchanged."""
        rows = ((seen, *(scrub(x) for x in key.partition(":")[::2])) for key in keys)
        self.connection.executemany(schema.SEE, rows)

    def mark_absent(self, seen: str, later: Sequence[str]) -> int:
        """Mark what was not seen in a complete source, in a transaction of its own; return how many."""
        self.begin()
        now = time_text(datetime.now(UTC))
        marked = self.connection.execute(
            schema.MARK_ABSENT, {"seen": seen, "all": json.dumps([seen, *later]), "now": now}
        ).rowcount
        self.commit()
        return marked

    def forget_hashes(self, keys: Iterable[str]) -> None:
        """Let the next write of these conversations look at what they hold, in a transaction of its own."""
        update = "UPDATE conversations SET source_hash='' WHERE source=? AND id=?"
        self.begin()
        self.connection.executemany(update, ([scrub(x) for x in k.partition(":")[::2]] for k in keys))
        self.commit()

    # --- set-up -----------------------------------------------------------------------------

    def _configure(self) -> None:
        if self.loading:
            pragmas = f"""PRAGMA page_size={_PAGE_BYTES}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
                PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-{_CACHE_KIB};"""
        else:
            pragmas = f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-{_CACHE_KIB};"
        self.connection.executescript(pragmas)

    def _prepare(self, fts: str) -> bool:
        """Create what is missing; return whether that was everything."""
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > schema.VERSION:
            raise FatalError(
                f"`{self.path}` was written by a newer muniment (archive version {version}); update muniment"
            )
        if 0 < version < schema.VERSION:
            migrate(self.connection, version)
        if version:
            return False
        if self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise FatalError(
                f"`{self.path}` is an SQLite database of something else; choose another file for the archive"
            )
        self.connection.executescript(
            f"BEGIN; {schema.TABLES} {schema.FTS[fts]} PRAGMA application_id={schema.APPLICATION_ID};"
            f" PRAGMA user_version={schema.VERSION}; COMMIT;"
        )
        return True

    def _max(self, table: str) -> int:
        row = self.connection.execute(f"SELECT max(no) FROM {table}").fetchone()  # noqa: S608 - our own names
        return (row[0] or 0) + 1

    # --- rows -------------------------------------------------------------------------------

    def _held_keys(self) -> set[int]:
        return set(map(hash, self.connection.execute("SELECT source, id FROM conversations")))

    def _existing(self, batch: Sequence[Rows]) -> dict[Key, tuple[int, str, str]]:
        """Return (no, source_hash, plan_hash) of what the archive holds, by (source, id)."""
        keys = [rows.conversation[:2] for rows in batch]
        if self._held is not None:
            hashes = set(map(hash, keys))
            if self._held.isdisjoint(hashes):
                self._held |= hashes
                return {}
        self._insert_waiting()
        self.index.wait()
        select = "SELECT no, source_hash, plan_hash FROM conversations WHERE source=? AND id=?"
        found = {}
        for key in keys:
            row = self.connection.execute(select, key).fetchone()
            if row:
                found[key] = row
        return found

    def _insert_waiting(self) -> None:
        waiting, self._waiting, self._waiting_messages = self._waiting, {}, 0
        if not waiting:
            return
        self.index.wait()
        first, no = self._next["conversations"], self._next["messages"]
        self._insert(waiting.values(), first, no)

    def _insert(self, batch: Collection[Rows], first: int, no: int) -> None:
        """Insert rows; ``first`` is the number of the first conversation, ``no`` of its first message."""
        # Rows are numbered while they are put in: another list of them would take as much memory again.
        numbered = []
        for conversation, rows in enumerate(batch, first):
            numbered.append((conversation, no, rows))
            no += len(rows.messages)
        execute = self.connection.executemany
        execute(schema.INSERT_CONVERSATION, ((c, *rows.conversation, *self._stamp) for c, _, rows in numbered))
        execute(schema.INSERT_MESSAGE, ((n + m[0], c, *m) for c, n, rows in numbered for m in rows.messages))
        execute(schema.INSERT_PART, ((n + p[0], *p[1:]) for _, n, rows in numbered for p in rows.parts))
        execute(schema.INSERT_ASSET, ((c, *asset_row(a)) for c, _, rows in numbered for a in rows.assets))
        execute(schema.INSERT_RECORD, ((c, rows.record) for c, _, rows in numbered))
        self.manifests.add(Stored(c, ":".join(rows.conversation[:2]), rows.stored_hash) for c, _, rows in numbered)
        self._next = {"conversations": max(first + len(batch), self._next["conversations"]), "messages": no}
        self.index.add([(n + i[0], i[1], i[2]) for _, n, rows in numbered for i in rows.index])
        if self.index.is_due:
            self.index.fill()

    def _replace(self, found: tuple[int, str, str], rows: Rows, on_plan_change: str) -> bool:
        """Merge a record with the stored one; return whether that changed anything."""
        conversation, stored_hash, stored_plan = found
        plan_hash = self._stamp[0]
        if stored_hash == rows.source_hash and (stored_plan == plan_hash or on_plan_change == "keep"):
            return False
        old_blob = self._blob(conversation)
        if stored_hash == rows.source_hash or (stored_plan != plan_hash and on_plan_change == "rewrite"):
            # The plan is another one: what it makes stands in place of the old, not beside it.
            new_rows, keep_old = rows, on_plan_change == "new_version"
            if on_plan_change == "rewrite":
                earlier = self.connection.execute("SELECT record FROM versions WHERE conversation=?", (conversation,))
                self._note_gone(conversation, rows, *(bytes(row[0]) for row in earlier))
                self.connection.execute("DELETE FROM versions WHERE conversation=?", (conversation,))
        else:
            old = record_from_json(decompress(old_blob), rows.origin)
            new = record_from_json(decompress(rows.record), rows.origin)
            merged = merge_records(old, new)
            if merged.source_hash == old.source_hash:
                return False
            new_rows, keep_old = encode(merged, indexed=self.index.kind != "none"), True
        if keep_old:
            self.connection.execute(
                "INSERT INTO versions(conversation, source_hash, run, superseded_at, record)"
                " SELECT no, source_hash, run, ?, ? FROM conversations WHERE no=?",
                (time_text(datetime.now(UTC)), old_blob, conversation),
            )
        else:
            self._note_gone(conversation, rows, old_blob)
        self._delete(conversation, old_blob)
        self._insert([new_rows], conversation, self._next["messages"])
        return True

    def _note_gone(self, conversation: int, rows: Rows, *blobs: bytes) -> None:
        key = ":".join(rows.conversation[:2])
        self.manifests.add(Stored(conversation, key, hashlib.sha256(b).digest(), gone=True) for b in blobs)

    def _delete(self, conversation: int, blob: bytes) -> None:
        select = "SELECT min(no) FROM messages WHERE conversation=?"
        first = self.connection.execute(select, (conversation,)).fetchone()[0]
        if self.index.kind != "none" and first is not None:
            # A contentless index is told what to forget: the same words that were put in.
            old = record_from_json(decompress(blob), Origin("", ""))
            self.index.forget([(first + i[0], i[1], i[2]) for i in index_rows(old.conversation)])
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
            if asset.sha256:
                self.index.wait()
                if not self._holds_asset(asset.sha256):
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
        archive.index.end_load()
        connection.executescript(schema.INDEXES)
        archive.close()
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


def asset_row(asset: Asset) -> tuple[Any, ...]:
    """Return an asset as a row without its conversation."""
    return (
        scrub(asset.id), scrub(asset.name), scrub(asset.mime_type), asset.size, asset.sha256,
        None if asset.missing is None else scrub(asset.missing),
    )  # fmt: skip


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    first = True
    while (data := stream.read(_ASSET_CHUNK_BYTES)) or first:
        first = False
        yield data
