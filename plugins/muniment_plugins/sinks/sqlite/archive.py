"""How are rows put into an archive?  One connection, in one of two manners.

*Loading*: the archive does not exist yet; it is filled in a file beside it without a journal, then
flushed and renamed: a killed load leaves no archive and starts again.  *Topping up*: the archive
exists; every unit is a transaction (WAL, ``synchronous=FULL``), and readers do not wait.  At rest the
archive is one file: the log is gone.
"""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from muniment import Asset, Context, Counts, FatalError, RecordError, Rejected, Unit
from muniment.canonical import record_from_json
from muniment.crypto import Keyring
from muniment.merge import merge_records
from muniment.model import Origin
from muniment.proof import SigningKey
from muniment.sinks.database_manifests import Stored
from muniment.state import Ledger
from muniment.units import Receipt
from muniment_plugins.sinks.sqlite import absent, assets, mend, schema, vault
from muniment_plugins.sinks.sqlite.cover import Cover, Key, stored_hash
from muniment_plugins.sinks.sqlite.encode import Rows, decompress, encode, index_rows, time_text
from muniment_plugins.sinks.sqlite.index import BURST_ENTRIES, Index, kind_of
from muniment_plugins.sinks.sqlite.loading import configure, loading_path, refused
from muniment_plugins.sinks.sqlite.manifests import Manifests
from muniment_plugins.sinks.sqlite.migrate import migrate

Found = tuple[int, str, str, str]
"""Of a conversation that the archive holds: its number, its column ``id``, its source hash, its plan."""


class Archive:
    """A connection to an archive that rows are written to; with ``keyless`` only what needs none of its keys.

    Raises:
        ConfigError: a keyring was given, and the archive is not encrypted; or the other way round.
        WrongKeyError: no key of the keyring opens it.
        FatalError: it cannot be opened, or is no archive.
    """

    def __init__(
        self, path: Path, *, fts: str, loading: bool, ctx: Context | None = None, signer: SigningKey | None = None,
        keyring: Keyring | None = None, keyless: bool = False,
    ) -> None:  # fmt: skip
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
            # Before anything is written: a file that is refused stays as it is.
            self._cover = vault.find_cover(self.connection, keyring)
            vault.check_keys(self.connection, path, self._cover, keyring, keyless=keyless)
            configure(self.connection, loading=loading)
            created = self._prepare(fts, keyring)
            if created:
                self._cover = vault.find_cover(self.connection, keyring)
            self.index = Index(self.connection, kind_of(self.connection), beside=loading)
            if created:
                self.index.begin_load()
            # While loading, most keys are new: a set of hashes tells without a look into the tables.
            self._held = self._held_keys() if loading else None
            self._next = {t: self._max(t) for t in ("conversations", "messages")}
            self.manifests = Manifests(self.connection, path.name, ctx or Context(run=""), signer)
            self._purged = set() if loading else self.manifests.purged()
        except BaseException as error:
            self.connection.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise refused(path, error) from error
            raise
        self._stamp = "", "", ""
        self._waiting: dict[Key, Rows] = {}
        self._waiting_messages = 0

    @property
    def cover(self) -> Cover:
        """Return how what stands in the archive is read and written.

        Raises:
            ConfigError: it is encrypted, and no keyring was given.
        """
        if self._cover is None:
            raise vault.locked(self.path)
        return self._cover

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
            unit = self.cover.unit(unit)
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

        What was purged is not stored again.

        ``seen`` is what the batch was read from: the same for all that a complete source holds.

        Raises:
            FatalError: the disk is full, or the file is damaged.
        """
        rejected: list[Rejected] = []
        stored = unchanged = 0
        self._stamp = plan_hash, run, seen
        try:
            keys = [self.cover.key_of(rows) for rows in batch]
            existing = self._existing(keys)
            for key, rows in zip(keys, batch, strict=True):
                if self._purged and self.cover.receipt_key(key) in self._purged:
                    unchanged += 1
                    continue
                try:
                    self._store_assets(rows.assets, open_asset)
                except RecordError as error:
                    rejected.append(Rejected(rows.origin, "write", error.reason, rows.key))
                    continue
                if key in self._waiting:
                    # Twice in a row: the first must be in the tables to merge with.
                    existing |= self._existing([key])
                found = existing.get(key)
                if found is None:
                    self._waiting[key] = self.cover.kept(rows)
                    self._waiting_messages += len(rows.messages)
                    stored += 1
                elif self._replace(key, found, rows, on_plan_change):
                    stored += 1
                else:
                    self.connection.execute(schema.SEE, (seen, *key))
                    unchanged += 1
            if not self.loading or self._waiting_messages >= BURST_ENTRIES:
                self._insert_waiting()
        except sqlite3.DatabaseError as error:
            raise refused(self.path, error) from error
        return Receipt(stored, unchanged, tuple(rejected))

    def remove(self, conversation: int, key: Key) -> list[bytes]:
        """Take a conversation away with all its versions, inside the open transaction; return their stored hashes."""
        select = "SELECT record, head FROM versions WHERE conversation=? ORDER BY no"
        current = self._find_blob(conversation)
        blobs = [*self.connection.execute(select, (conversation,)), *([current] if current else [])]
        self._note_gone(conversation, key, *blobs)
        self.connection.execute("DELETE FROM versions WHERE conversation=?", (conversation,))
        self._delete(conversation, current[0] if current else None)
        self._purged.add(self.cover.receipt_key(key))
        return [stored_hash(*blob) for blob in blobs]

    def see(self, keys: Iterable[str], seen: str) -> None:
        """Note inside the open transaction that these conversations were seen again, unchanged."""
        rows = ((seen, *self.cover.key(key)) for key in keys)
        self.connection.executemany(schema.SEE, rows)

    def mark_absent(self, seen: str, later: Sequence[str]) -> int:
        """Mark what was not seen in a complete source, in a transaction of its own; return how many."""
        self.begin()
        marked = absent.mark_absent(self.connection, self.cover, seen, later)
        self.commit()
        return marked

    def forget(self, missing: Iterable[str], short: Iterable[str]) -> None:
        """Let the next write take what is missing whole, and look at what the others hold, in a transaction."""
        update = "UPDATE conversations SET source_hash='' WHERE source=? AND id=?"
        self.begin()
        mend.make_room(self.connection, self.cover, list(map(self.cover.key, missing)))
        self.connection.executemany(update, map(self.cover.key, short))
        self.commit()

    # --- set-up -----------------------------------------------------------------------------

    def _prepare(self, fts: str, keyring: Keyring | None) -> bool:
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
        index = schema.FTS[fts if keyring is None else "none"]
        self.connection.executescript(
            f"BEGIN; {schema.TABLES} {index} PRAGMA application_id={schema.APPLICATION_ID};"
            f" PRAGMA user_version={schema.VERSION};"
        )
        if keyring is not None:
            vault.create(self.connection, keyring)
        self.connection.execute("COMMIT")
        return True

    def _max(self, table: str) -> int:
        row = self.connection.execute(f"SELECT max(no) FROM {table}").fetchone()  # noqa: S608 - our own names
        return (row[0] or 0) + 1

    # --- rows -------------------------------------------------------------------------------

    def _held_keys(self) -> set[int]:
        return set(map(hash, self.connection.execute("SELECT source, id FROM conversations")))

    def _existing(self, keys: Sequence[Key]) -> dict[Key, Found]:
        """Return what the archive holds, by key."""
        if self._held is not None:
            hashes = set(map(hash, keys))
            if self._held.isdisjoint(hashes):
                self._held |= hashes
                return {}
        self._insert_waiting()
        self.index.wait()
        select = "SELECT no, source_hash, plan_hash, head FROM conversations WHERE source=? AND id=?"
        found: dict[Key, Found] = {}
        for key in keys:
            row = self.connection.execute(select, key).fetchone()
            if row:
                found[key] = row[0], key[1], self.cover.source_hash(row[1], row[3], key[1]), row[2]
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
        execute(
            schema.INSERT_CONVERSATION, ((c, *rows.conversation, *self._stamp, rows.head) for c, _, rows in numbered)
        )
        execute(schema.INSERT_MESSAGE, ((n + m[0], c, *m) for c, n, rows in numbered for m in rows.messages))
        execute(schema.INSERT_PART, ((n + p[0], *p[1:]) for _, n, rows in numbered for p in rows.parts))
        execute(schema.INSERT_ASSET, ((c, *assets.row(a)) for c, _, rows in numbered for a in rows.assets))
        execute(schema.INSERT_RECORD, ((c, rows.record) for c, _, rows in numbered))
        name = self.cover.receipt_key
        self.manifests.add(Stored(c, name(rows.conversation[:2]), rows.stored_hash) for c, _, rows in numbered)
        self._next = {"conversations": max(first + len(batch), self._next["conversations"]), "messages": no}
        entries = ((n + i[0], i[1], i[2]) for _, n, rows in numbered for i in rows.index)
        while burst := list(islice(entries, BURST_ENTRIES)):
            self.index.add(burst)
            if self.index.is_due:
                self.index.fill()

    def _replace(self, key: Key, found: Found, rows: Rows, on_plan_change: str) -> bool:
        """Merge a record with the stored one; return whether that changed anything."""
        conversation, identity, source_hash, stored_plan = found
        plan_hash = self._stamp[0]
        if source_hash == rows.source_hash and (stored_plan == plan_hash or on_plan_change == "keep"):
            return False
        blob = self._find_blob(conversation)
        if blob is None:
            # It was damaged, and has made room.
            self.manifests.add(mend.lost(self.connection, self.cover, conversation, key))
            self._delete(conversation, None)
            self._insert([self.cover.kept(rows)], conversation, self._next["messages"])
            return True
        old_blob, old_head = blob
        if source_hash == rows.source_hash or (stored_plan != plan_hash and on_plan_change == "rewrite"):
            # The plan is another one: what it makes stands in place of the old, not beside it.
            new_rows, keep_old = rows, on_plan_change == "new_version"
            if on_plan_change == "rewrite":
                select = "SELECT record, head FROM versions WHERE conversation=?"
                self._note_gone(conversation, key, *self.connection.execute(select, (conversation,)))
                self.connection.execute("DELETE FROM versions WHERE conversation=?", (conversation,))
        else:
            old = record_from_json(decompress(self.cover.record(old_blob, identity)), rows.origin)
            new = record_from_json(decompress(rows.record), rows.origin)
            merged = merge_records(old, new)
            if merged.source_hash == old.source_hash:
                return False
            new_rows, keep_old = encode(merged, indexed=self.index.kind != "none"), True
        if keep_old:
            self.connection.execute(
                "INSERT INTO versions(conversation, source_hash, run, superseded_at, record, head)"
                " SELECT no, source_hash, run, ?, ?, head FROM conversations WHERE no=?",
                (time_text(datetime.now(UTC)), old_blob, conversation),
            )
        else:
            self._note_gone(conversation, key, (old_blob, old_head))
        self._delete(conversation, old_blob)
        self._insert([self.cover.kept(new_rows)], conversation, self._next["messages"])
        return True

    def _note_gone(self, conversation: int, key: Key, *blobs: tuple[bytes, bytes | None]) -> None:
        name = self.cover.receipt_key(key)
        self.manifests.add(Stored(conversation, name, stored_hash(*blob), gone=True) for blob in blobs)

    def _delete(self, conversation: int, blob: bytes | None) -> None:
        select = "SELECT min(no) FROM messages WHERE conversation=?"
        first = self.connection.execute(select, (conversation,)).fetchone()[0]
        if self.index.kind != "none" and first is not None and blob is not None:
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

    def _find_blob(self, conversation: int) -> tuple[bytes, bytes | None] | None:
        select = "SELECT record, head FROM records JOIN conversations ON no=conversation WHERE conversation=?"
        return self.connection.execute(select, (conversation,)).fetchone()  # type: ignore[no-any-return]

    def _store_assets(self, named: Iterable[Asset], open_asset: Callable[[Asset], BinaryIO]) -> None:
        for asset in named:
            if not asset.sha256:
                continue
            self.index.wait()
            name = self.cover.asset_name(asset.sha256)
            if not assets.holds(self.connection, name):
                kept = assets.store(self.connection, self.cover, asset, asset.sha256, open_asset)
                if self.cover.hides:
                    # Of a plain archive the name is the digest, and the records name it.
                    self.manifests.add([Stored(assets.NO_CONVERSATION, name, kept)])
