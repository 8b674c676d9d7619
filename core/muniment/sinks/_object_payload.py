"""What does a worker make of records for an object sink?  Entries that the writer can skip one by one."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from attrs import frozen

from muniment import names
from muniment.components import AssetLinks, Format
from muniment.model import Asset, Origin, Record
from muniment.objects import SUFFIXES, Compression, compressed, document
from muniment.sinks._object_key import KeyTemplate
from muniment.state import StoredRecord
from muniment.tables import TableFormat

EARLIER = ".earlier-"
_NAME_BYTES = names.MAX_BYTES - len(EARLIER) - 8


@frozen
class Layout:
    """How objects are laid out.

    ``assets`` is the prefix of asset names, with a slash at its end; ``key`` is the template of names,
    empty for ``part-<number>-<run>`` and ``<title>-<digits>`` in the folder itself.
    """

    format: str
    mode: str
    compression: Compression
    assets: str = "assets/"
    key: str = ""

    @property
    def links(self) -> AssetLinks:
        """What gives the URL of an asset relative to an object; empty for an asset whose bytes are missing."""
        prefix = quote("../" * self.key.count("/") + self.assets)

        def link(asset: Asset) -> str:
            return prefix + names.asset_name(asset.sha256, asset.name, asset.mime_type) if asset.sha256 else ""

        return link


@frozen
class Entry:
    """One record, encoded.

    ``messages`` holds the first 4 bytes of the SHA-256 of each message id, ``updated_at`` is ISO
    8601 in UTC with microseconds, so that text compares as time does.  In a mirror ``piece`` is a
    whole object, ``sha256`` its digest and ``name`` its name.  Elsewhere ``name`` is what the layout's
    key comes to for it.  ``index`` is its place in the payload.
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
    index: int

    def message_set(self) -> frozenset[str]:
        """Return the message ids in the form of `StoredRecord.messages`."""
        digits = self.messages.hex()
        return frozenset(digits[i : i + 8] for i in range(0, len(digits), 8))

    def stored(self, plan_hash: str, location: str, run: str) -> StoredRecord:
        """Return what the target holds once this entry stands at ``location``."""
        return StoredRecord(self.key, self.source_hash, plan_hash, self.updated_at, location, self.message_set(), run)


@frozen
class Payload:
    """What `ObjectSink.encode` gives to `Writer.write`.

    A `TableFormat` encodes all records at once into ``batch``, and the entries' pieces are empty.
    """

    entries: tuple[Entry, ...]
    batch: Any = None

    def batch_of(self, entries: Sequence[Entry], form: Format) -> Any:
        """Return what a part takes for some of the entries: their pieces, or the format's own batch."""
        if not isinstance(form, TableFormat):
            return [e.piece for e in entries]
        return self.batch if len(entries) == len(self.entries) else form.select(self.batch, [e.index for e in entries])


def encode(records: Sequence[Record], form: Format, layout: Layout) -> Payload:
    """Return the entries of ``records``, in their order."""
    links = layout.links
    name_of = _namer(form, layout)
    if isinstance(form, TableFormat):
        entries = tuple(_entry(r, b"", name_of(r), i) for i, r in enumerate(records))
        return Payload(entries, form.encode_batch(records, links))
    if layout.mode != "mirror":
        return Payload(tuple(_entry(r, form.encode(r, links), name_of(r), i) for i, r in enumerate(records)))
    return Payload(
        tuple(
            _entry(
                r,
                compressed(document(form, form.encode(r, links)), layout.compression),
                name_of(r),
                i,
                is_object=True,
            )
            for i, r in enumerate(records)
        )
    )


def _namer(form: Format, layout: Layout) -> Callable[[Record], str]:
    if layout.key:
        template = KeyTemplate(layout.key)
        return lambda record: template.fill(record, layout.format)
    if layout.mode == "mirror":
        suffix = form.suffix + SUFFIXES[layout.compression]
        return lambda record: names.slug(record.conversation.title, record.key, suffix, max_bytes=_NAME_BYTES)
    return lambda record: ""


def _entry(record: Record, piece: bytes, name: str, index: int, *, is_object: bool = False) -> Entry:
    conversation = record.conversation
    sha256 = hashlib.sha256
    return Entry(
        conversation.key,
        record.source_hash,
        _iso(conversation.updated_at),
        b"".join([sha256(m.id.encode("utf-8", "surrogatepass")).digest()[:4] for m in conversation.messages]),
        piece,
        name,
        hashlib.sha256(piece).hexdigest() if is_object else "",
        tuple(a for a in conversation.assets if a.sha256),
        record.origin,
        index,
    )


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")
