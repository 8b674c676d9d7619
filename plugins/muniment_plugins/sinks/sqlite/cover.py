"""What of a record stands in an archive?  In an encrypted one: ciphertext, pseudonyms, numbers, and nothing else."""

import hashlib
import json

from attrs import astuple, evolve, field, frozen
from msgspec.structs import replace

from muniment import Unit
from muniment.crypto import Vault, Veil
from muniment.errors import DamagedError
from muniment.model import Rejected
from muniment_plugins.sinks.sqlite.encode import Rows
from muniment_plugins.sinks.sqlite.text import scrub

Key = tuple[str, str]
"""What stands in the columns ``source`` and ``id`` of ``conversations``."""


class Cover:
    """An archive that is not encrypted: everything stands in it as it is."""

    hides = False

    def key(self, key: str) -> Key:
        """Return the columns of a record's key."""
        source, _, identity = key.partition(":")
        return scrub(source), scrub(identity)

    def key_of(self, rows: Rows) -> Key:
        """Return the columns of the key of ``rows``, as `Rows` come from `encode`."""
        return rows.conversation[:2]

    def receipt_key(self, key: Key) -> str:
        """Return what receipts call the record with these columns."""
        return ":".join(key)

    def kept(self, rows: Rows) -> Rows:
        """Return ``rows`` as they are put into the tables."""
        return rows

    def record(self, blob: bytes, identity: str) -> bytes:
        """Return the compressed JSON of a record; ``identity`` is the column ``id`` of its conversation.

        Raises:
            DamagedError: it is encrypted, and not what was written there.
        """
        return blob

    def source_hash(self, column: str, head: bytes | None, identity: str) -> str:
        """Return the source hash of a stored record; empty where it is to be forgotten."""
        return column

    def asset_name(self, sha256: str) -> str:
        """Return what the chunks of a file are named."""
        return sha256

    def chunk(self, data: bytes, name: str, position: int, *, is_last: bool) -> bytes:
        """Return a chunk of a file as it is put into the table."""
        return data

    def chunk_data(self, stored: bytes, name: str, position: int, *, is_last: bool) -> bytes:
        """Return what `chunk` was given.

        Raises:
            DamagedError: it is encrypted, and not what was written there.
        """
        return stored

    def unit(self, unit: Unit) -> Unit:
        """Return a unit as the ledger and its manifest are told of it."""
        return unit


@frozen
class Head:
    """What an encrypted archive must know of a conversation without opening its record."""

    key: str
    source_hash: str
    account: str | None
    created_at: str | None
    updated_at: str | None
    messages: int

    @property
    def source(self) -> str:
        return self.key.partition(":")[0]


@frozen(repr=False)
class Encrypted(Cover):
    """An encrypted archive.  Each value names its place, so that none can stand for another."""

    vault: Vault
    veil: Veil = field(init=False)

    hides = True

    @veil.default
    def _default_veil(self) -> Veil:
        return self.vault.veil()

    def key(self, key: str) -> Key:
        return "", self.veil.name("key", key)

    def key_of(self, rows: Rows) -> Key:
        return self.key(rows.key)

    def receipt_key(self, key: Key) -> str:
        return key[1]

    def kept(self, rows: Rows) -> Rows:
        identity = self.veil.name("key", rows.key)
        said = json.dumps(astuple(head_of(rows, rows.source_hash)), separators=(",", ":"))
        head = self.vault.encrypt(said.encode(), _place("head", identity))
        record = self.vault.encrypt(rows.record, _place("record", identity))
        return replace(
            rows,
            conversation=("", identity, *(None,) * 6, 0, None, hashlib.sha256(head).hexdigest()),
            messages=[], parts=[], index=[], assets=(),
            record=record, stored_hash=stored_hash(record, head), head=head,
        )  # fmt: skip

    def record(self, blob: bytes, identity: str) -> bytes:
        return self.vault.decrypt(blob, _place("record", identity))

    def head(self, head: bytes | None, identity: str) -> Head:
        """Return the head of a conversation.

        Raises:
            DamagedError: it is not what was written there.
        """
        if not isinstance(head, bytes):
            raise DamagedError("a conversation of an encrypted archive has no head; restore it from a copy")
        return Head(*json.loads(self.vault.decrypt(head, _place("head", identity))))

    def source_hash(self, column: str, head: bytes | None, identity: str) -> str:
        return self.head(head, identity).source_hash if column else ""

    def asset_name(self, sha256: str) -> str:
        return self.veil.name("asset", sha256)

    def chunk(self, data: bytes, name: str, position: int, *, is_last: bool) -> bytes:
        return self.vault.encrypt(data, _chunk_place(name, position, is_last=is_last))

    def chunk_data(self, stored: bytes, name: str, position: int, *, is_last: bool) -> bytes:
        return self.vault.decrypt(stored, _chunk_place(name, position, is_last=is_last))

    def unit(self, unit: Unit) -> Unit:
        return evolve(unit, quarantined=tuple(map(self._rejected, unit.quarantined)))

    def _rejected(self, rejected: Rejected) -> Rejected:
        origin, veil = rejected.origin, self.veil
        # The digest of a text that can be guessed would confirm the guess.
        digest = origin.digest and veil.name("digest", origin.digest)
        return replace(
            rejected, origin=replace(origin, digest=digest), key=rejected.key and veil.name("key", rejected.key)
        )


def head_of(rows: Rows, source_hash: str) -> Head:
    """Return the head of ``rows``, as they come from `encode`."""
    _, _, account, _, created_at, updated_at, *_ = rows.conversation
    return Head(rows.key, source_hash, account, created_at, updated_at, len(rows.messages))


def stored_hash(record: bytes, head: bytes | None) -> bytes:
    """Return the digest that a receipt has of what is stored: ciphertext, in an encrypted archive."""
    digest = hashlib.sha256(record).digest()
    return digest if head is None else hashlib.sha256(head + digest).digest()


def _place(kind: str, identity: str) -> bytes:
    return f"{kind}\0{identity}".encode()


def _chunk_place(name: str, position: int, *, is_last: bool) -> bytes:
    return f"asset\0{name}\0{position}\0{'last' if is_last else 'more'}".encode()
