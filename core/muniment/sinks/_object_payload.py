"""What does a worker make of records for an object sink?  Entries that the writer can skip one by one."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

from attrs import frozen

from muniment import names
from muniment.components import AssetLinks, Format
from muniment.model import Asset, Origin, Record
from muniment.objects import SUFFIXES, Compression, compressed, document
from muniment.state import StoredRecord

EARLIER = ".earlier-"
_NAME_BYTES = names.MAX_BYTES - len(EARLIER) - 8


@frozen
class Layout:
    """How objects are laid out: ``assets`` is the prefix of asset names, with a slash at its end."""

    format: str
    mode: str
    compression: Compression
    assets: str = "assets/"


@frozen
class Entry:
    """One record, encoded.

    ``messages`` holds the first 4 bytes of the SHA-256 of each message id, ``updated_at`` is ISO
    8601 in UTC with microseconds, so that text compares as time does.  In a mirror ``piece`` is a
    whole object, ``sha256`` its digest and ``name`` its name; elsewhere they are empty.
    """

    key: str
    source_hash: str
    updated_at: str | None
    messages: bytes
    piece: bytes
    name: str
    sha256: str
    assets: tuple[Asset, ...]
    origin: Origin

    def message_set(self) -> frozenset[str]:
        """Return the message ids in the form of `StoredRecord.messages`."""
        digits = self.messages.hex()
        return frozenset(digits[i : i + 8] for i in range(0, len(digits), 8))

    def stored(self, plan_hash: str, location: str, run: str) -> StoredRecord:
        """Return what the target holds once this entry stands at ``location``."""
        return StoredRecord(self.key, self.source_hash, plan_hash, self.updated_at, location, self.message_set(), run)


@frozen
class Payload:
    """What `ObjectSink.encode` gives to `Writer.write`."""

    entries: tuple[Entry, ...]


def encode(records: Iterable[Record], form: Format, layout: Layout) -> Payload:
    """Return the entries of ``records``, in their order."""
    links = asset_links(layout.assets)
    if layout.mode != "mirror":
        return Payload(tuple(_entry(r, form.encode(r, links)) for r in records))
    suffix = form.suffix + SUFFIXES[layout.compression]
    return Payload(
        tuple(
            _entry(
                r,
                compressed(document(form, form.encode(r, links)), layout.compression),
                names.slug(r.conversation.title, r.key, suffix, max_bytes=_NAME_BYTES),
            )
            for r in records
        )
    )


def asset_links(prefix: str) -> AssetLinks:
    """Return what gives the relative URL of an asset; empty for one whose bytes are missing."""
    quoted = quote(prefix)

    def link(asset: Asset) -> str:
        return quoted + names.asset_name(asset.sha256, asset.name, asset.mime_type) if asset.sha256 else ""

    return link


def _entry(record: Record, piece: bytes, name: str = "") -> Entry:
    conversation = record.conversation
    sha256 = hashlib.sha256
    return Entry(
        conversation.key,
        record.source_hash,
        _iso(conversation.updated_at),
        b"".join([sha256(m.id.encode("utf-8", "surrogatepass")).digest()[:4] for m in conversation.messages]),
        piece,
        name,
        hashlib.sha256(piece).hexdigest() if name else "",
        tuple(a for a in conversation.assets if a.sha256),
        record.origin,
    )


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")
