"""Is an archive what its manifests say?  Every record, file and row read and compared; nothing written."""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from muniment import Record
from muniment.canonical import record_from_json
from muniment.crypto import Keyring
from muniment.errors import DamagedError
from muniment.manifest import Log, Manifest
from muniment.merkle import root_of
from muniment.model import Origin
from muniment.proof import SignedHead, VerifierKey
from muniment.sinks.database_manifests import Stored
from muniment.verification import Entries, Finding, Inspection, Purges, check_log
from muniment_plugins.sinks.sqlite import read
from muniment_plugins.sinks.sqlite.assets import NO_CONVERSATION, row
from muniment_plugins.sinks.sqlite.cover import Cover, Encrypted, head_of, stored_hash
from muniment_plugins.sinks.sqlite.encode import decompress, encode
from muniment_plugins.sinks.sqlite.manifests import ManifestTables
from muniment_plugins.sinks.sqlite.vault import find_cover
from muniment_plugins.sinks.sqlite.verify_assets import AssetsCheck, stored_digests
from muniment_plugins.sinks.sqlite.verify_ledger import LedgerCheck

_MESSAGES = """SELECT no, position, id, parent_id, role, author, recipient, created_at, model, hidden, visible, status,
    metadata FROM messages WHERE conversation=? ORDER BY no"""
_PARTS = """SELECT m.position, p.position, p.type, p.kind, p.text, p.file_id FROM messages m
    JOIN parts p ON p.message = m.no WHERE m.conversation=? ORDER BY p.message, p.position, p.no"""
_ASSETS = "SELECT id, name, mime_type, size, sha256, missing FROM assets WHERE conversation=? ORDER BY id"
_RECEIPTS = "SELECT conversation, key, stored_hash, gone FROM receipts WHERE conversation<>? ORDER BY conversation, no"
_COLUMNS = (
    "source", "id", "account", "title", "created_at", "updated_at", "model", "current", "message_count", "metadata",
)  # fmt: skip


def verify(path: Path, inspection: Inspection, keyring: Keyring | None = None) -> Iterator[Finding]:
    """Yield what is wrong with an archive.

    Without a keyring what is encrypted is compared with its digests.

    Raises:
        InputError: there is no archive.
        WrongKeyError: no key of the keyring opens it.
    """
    connection = read.connect(path)
    try:
        yield from _Check(connection, inspection, find_cover(connection, keyring)).findings()
    except DamagedError as error:
        yield Finding("changed", "vault", str(error))
    except sqlite3.DatabaseError as error:
        yield Finding("unreadable", path.name, f"it cannot be read any further ({error})")
    except (OverflowError, ValueError, TypeError, AttributeError) as error:
        # A flipped bit can make a number of a text: no column is as safe as its declaration.
        yield Finding("changed", path.name, f"a cell holds what was never stored in it ({type(error).__name__})")
    finally:
        connection.close()


@define(eq=False)
class _Held:
    """What the receipts say of a conversation: its key, its stored hashes, oldest first."""

    key: str
    hashes: list[bytes] = field(factory=list)


@define(eq=False)
class _Check:
    connection: sqlite3.Connection
    inspection: Inspection
    cover: Cover | None
    named_assets: set[str] = field(factory=set)
    needs_manifests: bool = True

    @property
    def hides(self) -> bool:
        return self.cover is None or self.cover.hides

    @property
    def key(self) -> str:
        """What of `conversations` its receipts call a record."""
        return "id" if self.hides else "source || ':' || id"

    @property
    def head(self) -> str:
        # An older archive has no such column.
        return "head" if self.hides else "NULL"

    def findings(self) -> Iterator[Finding]:
        tables = {r[0] for r in self.connection.execute("SELECT name FROM sqlite_master")}
        if "manifests" not in tables:
            said = "without manifests its content could be compared with itself only; the next import adds them"
            version = self._all("PRAGMA user_version")[0][0]
            asked = self.inspection.since or self.inspection.public_key
            yield Finding("missing", "manifests", said, is_problem=bool(version > 1 or asked))
            self.needs_manifests = False
        yield from self._pages()
        if self.needs_manifests:
            yield from check_log(self._entries(), self.inspection)
            yield from self._notes()
            yield from self._units()
            yield from LedgerCheck(self.connection, self._manifests()).findings()
            yield from self._purges()
        yield from self._conversations()
        yield from self._versions()
        digests = stored_digests(self.connection) if self.hides and self.needs_manifests else {}
        yield from AssetsCheck(self.connection, self.inspection, self.cover, digests, self.named_assets).findings()
        yield from self._rows()

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, values).fetchall()

    def _pages(self) -> Iterator[Finding]:
        for (text,) in self.connection.execute("PRAGMA integrity_check(100)"):
            if text != "ok":
                yield Finding("changed", "database", str(text))

    # --- the chain --------------------------------------------------------------------------

    def _entries(self) -> Entries:
        numbers = [r[0] for r in self.connection.execute("SELECT number FROM manifests ORDER BY number")]
        note = ""
        if numbers:
            note = self._all("SELECT checkpoint FROM manifests WHERE number=?", numbers[-1])[0][0]
        return Entries(numbers, self._manifest_bytes, "manifest {}".format, "checkpoint", _bytes(note))

    def _manifest_bytes(self, number: int) -> bytes:
        return _bytes(self._all("SELECT manifest FROM manifests WHERE number=?", number)[0][0])

    def _manifests(self) -> Iterator[Manifest]:
        """Yield those that can be read; `check_log` has named the others."""
        for (data,) in self.connection.execute("SELECT manifest FROM manifests ORDER BY number"):
            with contextlib.suppress(Exception):
                yield Manifest.from_json(_bytes(data))

    def _notes(self) -> Iterator[Finding]:
        """Compare the checkpoint of every manifest but the last, which `check_log` has seen, with the log."""
        log = Log()
        select = "SELECT number, run, manifest, checkpoint FROM manifests ORDER BY number"
        for number, run, text, note in self._all(select):
            data = _bytes(text)
            log.append(data)
            try:
                manifest, signed = Manifest.from_json(data), SignedHead.parse(_bytes(note))
                keys = [VerifierKey.parse(manifest.signer)] if manifest.signer else []
            except Exception:  # noqa: BLE001 - what a changed text may raise; a changed manifest was named before
                yield Finding("changed", f"manifest {number}", "it or its checkpoint cannot be read")
                return
            if log.number != number or signed.head != log.head() or run != manifest.run:
                yield Finding("changed", f"manifest {number}", "its checkpoint is not that of the manifests up to it")
                return
            if len(signed.signatures) != len(keys) or not all(map(signed.is_signed_by, keys)):
                yield Finding("unsigned", f"manifest {number}", "its checkpoint has not the signature that it says")

    def _units(self) -> Iterator[Finding]:
        """Compare the receipts of each unit with the root that its manifest has of them."""
        leaves: dict[int, list[bytes]] = {}
        last = 0
        for number, _, receipt in self._receipts():
            leaves.setdefault(number, []).append(receipt.leaf())
            if number < last:
                yield Finding(
                    "changed", f"manifest {number}", "its receipts are not in the order in which they were written"
                )
            last = number
        for manifest in self._manifests():
            found = leaves.pop(manifest.number, [])
            said = manifest.records or {"count": 0, "root": root_of([]).hex()}
            if (len(found), root_of(found).hex()) != (said.get("count"), said.get("root")):
                yield Finding("changed", f"manifest {manifest.number}", "the receipts of its records were changed")
        numbers = {r[0] for r in self.connection.execute("SELECT number FROM manifests")}
        for number in leaves:
            if number not in numbers:
                yield Finding("extra", f"manifest {number}", "there are receipts of records, but no such manifest")

    def _receipts(self) -> Iterator[tuple[int, int, Stored]]:
        return ManifestTables(self.connection).receipts()

    def _purges(self) -> Iterator[Finding]:
        """Compare what purges say that they took away with the receipts."""
        purges = Purges()
        for manifest in self._manifests():
            purges.hear(manifest)
        if not purges.keys:
            return
        for number, _, receipt in self._receipts():
            is_record = receipt.identity != NO_CONVERSATION
            purges.receipt(number, receipt.key, receipt.stored_hash.hex(), gone=receipt.gone, is_record=is_record)
        yield from purges.findings("manifest {}".format)
        for _, held in self._held():
            if held.hashes and held.key in purges.keys:
                said = f"it is held, and manifest {purges.keys[held.key]} purged it"
                yield Finding("extra", f"record `{held.key}`", said)

    # --- records ----------------------------------------------------------------------------

    def _conversations(self) -> Iterator[Finding]:
        numbers = [r[0] for r in self.connection.execute("SELECT no FROM conversations ORDER BY no")]
        chosen = set(self.inspection.choose(numbers))
        held = self._held()
        waiting = next(held, None)
        columns = ", ".join(_COLUMNS)
        select = f"""SELECT no, {self.key}, {columns}, {self.head}, record FROM conversations
            LEFT JOIN records ON conversation = no ORDER BY no"""  # noqa: S608 - our names
        for number, key, *columns, head, blob in self.connection.execute(select):
            while waiting and waiting[0] < number:
                yield from self._gone(waiting[1])
                waiting = next(held, None)
            mine = None
            if waiting and waiting[0] == number:
                mine, waiting = waiting[1], next(held, None)
            if number in chosen:
                yield from self._conversation(number, key, columns, (blob, head), mine)
                self.inspection.seen()
        while waiting:
            yield from self._gone(waiting[1])
            waiting = next(held, None)

    def _held(self) -> Iterator[tuple[int, _Held]]:
        """Yield what the receipts say is held, by conversation, in order."""
        if not self.needs_manifests:
            return
        number, held = None, _Held("")
        for conversation, key, digest, gone in self.connection.execute(_RECEIPTS, (NO_CONVERSATION,)):
            if conversation != number:
                if number is not None:
                    yield number, held
                number, held = conversation, _Held(key)
            if gone:
                with contextlib.suppress(ValueError):
                    held.hashes.remove(bytes(digest))
            else:
                held.hashes.append(bytes(digest))
                held.key = key
        if number is not None:
            yield number, held

    def _gone(self, held: _Held) -> Iterator[Finding]:
        if held.hashes:
            yield Finding("missing", f"record `{held.key}`", "it was stored, and is gone")

    def _conversation(
        self, number: int, key: str, columns: Sequence[Any], stored: tuple[Any, Any], held: _Held | None
    ) -> Iterator[Finding]:
        where = f"record `{key}`"
        self.inspection.objects += 1
        if stored[0] is None:
            yield Finding("missing", where, "its row is here, its content is gone")
            return
        blob, head = bytes(_bytes(stored[0])), None if stored[1] is None else bytes(_bytes(stored[1]))
        if self.needs_manifests and (problem := self._stored(where, key, stored_hash(blob, head), held)):
            yield problem
            return
        if self.hides:
            yield from self._hidden_columns(where, columns)
        if self.cover is None:
            self.inspection.undecoded += 1
            return
        try:
            record = record_from_json(decompress(self.cover.record(blob, key)), Origin("", ""))
        except Exception as error:  # noqa: BLE001 - whatever the compressor makes of damaged bytes
            yield Finding("unreadable", where, f"its content cannot be decoded ({type(error).__name__})")
            return
        self.inspection.records += 1
        self._name_assets(record)
        if isinstance(self.cover, Encrypted):
            yield from self._head(where, key, head, record, self.cover)
        else:
            yield from self._columns(number, where, columns, record)

    def _hidden_columns(self, where: str, columns: Sequence[Any]) -> Iterator[Finding]:
        for name, found in zip(_COLUMNS, columns, strict=True):
            if name != "id" and found:
                yield Finding(
                    "changed", where, f"column `{name}` of `conversations` is not as an encrypted archive has it"
                )

    def _head(self, where: str, key: str, head: bytes | None, record: Record, cover: Encrypted) -> Iterator[Finding]:
        try:
            found = cover.head(head, key)
        except (DamagedError, ValueError, TypeError):
            yield Finding("unreadable", where, "its head cannot be decrypted")
            return
        rows = encode(record, indexed=False)
        if cover.key(record.key)[1] != key or found != head_of(rows, found.source_hash):
            yield Finding("changed", where, "its head is not what its record says")

    def _stored(self, where: str, key: str, digest: bytes, held: _Held | None) -> Finding | None:
        if held is None or not held.hashes:
            return Finding("extra", where, "no manifest says that it was stored")
        if held.key != key:
            return Finding("swapped", where, f"`{held.key}` was stored in its place")
        if held.hashes[-1] == digest:
            return None
        if digest in held.hashes:
            return Finding("rolled back", where, "it is an earlier version of itself")
        other = self._all("SELECT key FROM receipts WHERE stored_hash=? LIMIT 1", digest)
        if other and other[0][0] != key:
            return Finding("swapped", where, f"it has the content of `{other[0][0]}`")
        return Finding("changed", where, "its content is not what was stored")

    def _columns(self, number: int, where: str, columns: Sequence[Any], record: Record) -> Iterator[Finding]:
        """Compare the rows of a conversation with what its record says."""
        rows = encode(record, indexed=False)
        for name, found, said in zip(_COLUMNS, columns, rows.conversation[: len(_COLUMNS)], strict=True):
            if found != said:
                yield Finding("changed", where, f"column `{name}` of `conversations` is not what its record says")
        messages = self._all(_MESSAGES, number)
        first = messages[0][0] if messages else 0
        if [(m[0] - first, *m[1:]) for m in messages] != [(m[0], *_plain(m)) for m in rows.messages]:
            yield Finding("changed", where, "its rows in `messages` are not what its record says")
        parts = self._all(_PARTS, number)
        if parts != [_plain(p) for p in rows.parts]:
            yield Finding("changed", where, "its rows in `parts` are not what its record says")
        assets = self._all(_ASSETS, number)
        if assets != sorted((row(a) for a in record.conversation.assets), key=lambda a: str(a[0])):
            yield Finding("changed", where, "its rows in `assets` are not what its record says")

    def _versions(self) -> Iterator[Finding]:
        """Compare the earlier states of each conversation with the receipts that came before its last."""
        if not self.needs_manifests:
            return
        keys = dict(self._all(f"SELECT no, {self.key} FROM conversations"))  # noqa: S608 - our names
        expected: Counter[tuple[int, bytes]] = Counter()
        for number, held in self._held():
            expected.update((number, digest) for digest in held.hashes[:-1])
        select = f"SELECT conversation, record, {self.head} FROM versions ORDER BY no"  # noqa: S608 - our names
        for number, blob, head in self.connection.execute(select):
            data = bytes(_bytes(blob))
            known = number, stored_hash(data, None if head is None else bytes(_bytes(head)))
            where = f"an earlier version of `{keys.get(number, number)}`"
            if not expected[known]:
                yield Finding("changed", where, "it is not what was stored")
                continue
            expected[known] -= 1
            if self.cover is None:
                continue
            with contextlib.suppress(Exception):
                content = self.cover.record(data, str(keys.get(number)))
                self._name_assets(record_from_json(decompress(content), Origin("", "")))
        for (number, _), count in expected.items():
            if count:
                yield Finding(
                    "missing", f"an earlier version of `{keys.get(number, number)}`", "it was stored, and is gone"
                )

    # --- rows ------------------------------------------------------------------------------

    def _name_assets(self, record: Record) -> None:
        name = self.cover.asset_name if self.cover else str
        self.named_assets.update(name(a.sha256) for a in record.conversation.assets if a.sha256)

    def _rows(self) -> Iterator[Finding]:
        """Find rows that belong to no conversation."""
        for table in ("messages", "parts", "assets", "records"):
            owner = "message" if table == "parts" else "conversation"
            select = f"SELECT count(*) FROM {table} WHERE {owner} NOT IN (SELECT no FROM {owner}s)"  # noqa: S608 - our names
            if found := self._all(select)[0][0]:
                yield Finding("extra", table, f"{found} of its rows belong to nothing")
        for table in ("messages", "parts", "assets") if self.hides else ():
            if found := self._all(f"SELECT count(*) FROM {table}")[0][0]:  # noqa: S608 - our names
                yield Finding("extra", table, f"it has {found} rows, and none in an encrypted archive")


def _bytes(value: Any) -> bytes:
    """Return what a cell holds: a mutated one may be of another type."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row as SQLite gives it back: booleans are numbers there."""
    return tuple(int(v) if isinstance(v, bool) else v for v in row)
