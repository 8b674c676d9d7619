"""How are records taken out of an archive, so that no page of the file holds them any more?"""

import contextlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muniment import Context, FatalError, Record
from muniment.canonical import record_from_json
from muniment.custody import Custody, Purged
from muniment.errors import DamagedError
from muniment.lock import TargetLock
from muniment.model import Origin
from muniment.retention import Holding
from muniment.sinks.database_manifests import Stored
from muniment.verification import Entries
from muniment_plugins.sinks.sqlite import read
from muniment_plugins.sinks.sqlite.assets import NO_CONVERSATION
from muniment_plugins.sinks.sqlite.cover import Encrypted
from muniment_plugins.sinks.sqlite.encode import decompress
from muniment_plugins.sinks.sqlite.sound import check, explained

if TYPE_CHECKING:
    from muniment_plugins.sinks.sqlite import SQLite
    from muniment_plugins.sinks.sqlite.archive import Archive

_RECEIPTS = """SELECT receipts.manifest, conversation, key, stored_hash, gone FROM receipts
    WHERE conversation<>? ORDER BY no"""
_LAST_FILE = "SELECT stored_hash FROM receipts WHERE conversation=? AND key=? ORDER BY no DESC LIMIT 1"
_ALL_OF = """SELECT record FROM records WHERE conversation=:no
    UNION ALL SELECT record FROM versions WHERE conversation=:no"""
_RECORDS = "SELECT id, record FROM records JOIN conversations ON no=conversation ORDER BY conversation"
_VERSIONS = """SELECT id, record FROM versions JOIN conversations ON conversations.no=conversation
    ORDER BY versions.no"""


class SQLiteCustody(Custody):
    """An archive, opened to look after it."""

    def __init__(self, sink: "SQLite", ctx: Context) -> None:
        self._path = Path(sink.path)
        self.signs = sink.proof is not None and sink.proof.key is not None
        read.connect(self._path).close()
        self._lock = TargetLock(self._path)
        self._lock.acquire()
        try:
            self._archive: Archive = sink.connect(ctx)
            try:
                check(self._path, self._archive.connection)
                with explained(self._path):
                    self._archive.manifests.check()
                    self._archive.begin()
                    self._archive.manifests.adopt()
                    self._archive.commit()
            except BaseException:
                self._archive.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._connection = self._archive.connection

    def close(self) -> None:
        try:
            self._archive.settle()
        finally:
            try:
                self._archive.close()
            finally:
                self._lock.release()

    def entries(self) -> Entries:
        numbers = [r[0] for r in self._connection.execute("SELECT number FROM manifests ORDER BY number")]
        note = self._cell("checkpoint", numbers[-1]) if numbers else b""
        return Entries(numbers, lambda n: self._cell("manifest", n), "manifest {}".format, "checkpoint", note)

    def _cell(self, column: str, number: int) -> bytes:
        select = f"SELECT {column} FROM manifests WHERE number=?"  # noqa: S608 - our names
        text = self._connection.execute(select, (number,)).fetchone()[0]
        return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)

    def times(self) -> Iterator[str]:
        for run in self._archive.ledger.runs():
            yield run["started_at"]
            yield run["finished_at"] or ""

    def holdings(self) -> Iterator[Holding]:
        at = {m.number: m.at for m in self.manifests()}
        held: dict[int, tuple[str, str, list[str]]] = {}
        for manifest, no, key, digest, gone in self._connection.execute(_RECEIPTS, (NO_CONVERSATION,)):
            _, since, hashes = held.get(no, ("", "", []))
            if gone:
                with contextlib.suppress(ValueError):
                    hashes.remove(digest.hex())
            else:
                hashes.append(digest.hex())
                since = at.get(manifest, "")
            held[no] = key, since, hashes
        updated = self._updated()
        for no, (key, since, hashes) in held.items():
            if hashes:
                yield Holding(key, since or None, updated.get(no), frozenset(hashes))

    def _updated(self) -> dict[int, str | None]:
        cover = self._archive.cover
        if not isinstance(cover, Encrypted):
            return dict(self._connection.execute("SELECT no, updated_at FROM conversations"))
        found: dict[int, str | None] = {}
        for no, identity, head in self._connection.execute("SELECT no, id, head FROM conversations"):
            # Of unknown age it is kept; `verify` names what is damaged.
            with contextlib.suppress(DamagedError):
                found[no] = cover.head(head, identity).updated_at
        return found

    def noted(self, key: str) -> str:
        cover = self._archive.cover
        return cover.receipt_key(cover.key(key))

    def note(self, event: Mapping[str, Any]) -> None:
        with explained(self._path), self._transaction():
            self._archive.manifests.append_event(event)

    def purge(self, keys: Collection[str], event: Mapping[str, Any]) -> Purged:
        wanted = set(keys)
        self._check_room()
        with explained(self._path), self._transaction():
            # What is freed is written over with zeros.
            self._connection.execute("PRAGMA secure_delete=ON")
            files: set[str] = set()
            tombstones: list[dict[str, Any]] = []
            for no, place in list(self._places(wanted)):
                files |= self._files(no, place[1])
                key = self._archive.cover.receipt_key(place)
                tombstones += [{"key": key, "hash": h.hex()} for h in self._archive.remove(no, place)]
            assets = self._remove_files(files)
            # Of a segment that was not merged the words of what is deleted would remain.
            self._archive.index.merge()
            self._archive.manifests.append_event({**event, "tombstones": tombstones})
        self.finish()
        return Purged(tuple(tombstones), assets)

    def finish(self) -> None:
        """Write the file anew, and take the write-ahead log in and away: both hold what was freed, earlier too.

        Raises:
            FatalError: somebody has the archive open, or there is no room.
        """
        with explained(self._path):
            self._connection.execute("VACUUM")
        self._archive.settle()
        log = self._path.with_name(f"{self._path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise FatalError(
                f"the records are purged, but `{log}` still holds pages of them while somebody reads the archive; close"
                " what reads it and run the same plan again"
            )

    def _check_room(self) -> None:
        needed = 2 * self._path.stat().st_size
        if shutil.disk_usage(self._path.absolute().parent).free < needed:
            raise FatalError(
                f"after a purge `{self._path}` is written anew, which needs {needed:,} free bytes beside it; nothing"
                " was purged: free some space and run the plan again"
            )

    # --- rows -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._archive.begin()
        try:
            yield
            self._archive.commit()
        except BaseException:
            self._archive.rollback()
            raise

    def _places(self, keys: Collection[str]) -> Iterator[tuple[int, tuple[str, str]]]:
        name = self._archive.cover.receipt_key
        for no, source, identity in self._connection.execute("SELECT no, source, id FROM conversations ORDER BY no"):
            if name((source, identity)) in keys:
                yield no, (source, identity)

    def _files(self, no: int, identity: str) -> set[str]:
        """Return the digests of the files that a conversation names, in any of its versions."""
        return self._named((identity, blob) for (blob,) in self._connection.execute(_ALL_OF, {"no": no}))

    def _named(self, records: Iterable[tuple[str, bytes]]) -> set[str]:
        return {a.sha256 for r in map(self._decoded, records) for a in r.conversation.assets if a.sha256}

    def _decoded(self, row: tuple[str, bytes]) -> Record:
        identity, blob = row
        return record_from_json(decompress(self._archive.cover.record(bytes(blob), identity)), Origin("", ""))

    def _remove_files(self, digests: set[str]) -> int:
        """Remove the files that no record names any more; return how many."""
        for select in (_RECORDS, _VERSIONS) if digests else ():
            digests -= self._named(self._connection.execute(select))
        cover = self._archive.cover
        for digest in sorted(digests):
            name = cover.asset_name(digest)
            self._connection.execute("DELETE FROM asset_chunks WHERE sha256=?", (name,))
            last = self._connection.execute(_LAST_FILE, (NO_CONVERSATION, name)).fetchone()
            if last is not None:
                self._archive.manifests.add([Stored(NO_CONVERSATION, name, bytes(last[0]), gone=True)])
        return len(digests)
