"""What does a worker make of records for an object sink?  Entries that the writer can skip one by one."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from attrs import evolve, frozen

from muniment import names
from muniment.canonical import is_large
from muniment.components import AssetLinks, Format
from muniment.crypto.envelope import SUFFIX
from muniment.model import Asset, Origin, Record
from muniment.objects import SUFFIXES, Compression, compressed, document
from muniment.packed import PackedBytes
from muniment.sinks._object_key import KeyTemplate
from muniment.state import StoredRecord
from muniment.tables import TableFormat

EARLIER = ".earlier-"
ID = "{id}"
"""What stands in an entry's name for a pseudonym, which only the writer has the key to make."""
ID_DIGITS = 32
"""How many hex digits of the pseudonym that are."""
_NAME_BYTES = names.MAX_BYTES - len(EARLIER) - 8


@frozen
class Layout:
    """How objects are laid out.

    ``assets`` is the prefix of asset names, with a slash at its end; ``key`` is the template of names,
    empty for ``part-<number>-<run>`` and ``<title>-<digits>`` in the folder itself.  With ``encrypted``
    names end in ``.enc`` and tell nothing of a conversation but its source and date.
    """

    format: str
    mode: str
    compression: Compression
    assets: str = "assets/"
    key: str = ""
    encrypted: bool = False

    @property
    def ending(self) -> str:
        """What names end in behind the format's suffix."""
        return SUFFIXES[self.compression] + (SUFFIX if self.encrypted else "")

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
    key comes to for it.  The piece of a large record is ``packed`` instead.  ``index`` is its place in
    the payload.  ``true_name`` is what the object of an encrypted mirror would be called in a plain one.
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
    true_name: str = ""
    packed: PackedBytes | None = None

    @property
    def body(self) -> bytes | PackedBytes:
        """What a part takes of this entry."""
        return self.piece if self.packed is None else self.packed

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
            return [e.body for e in entries]
        return self.batch if len(entries) == len(self.entries) else form.select(self.batch, [e.index for e in entries])


def encode(records: Sequence[Record], form: Format, layout: Layout) -> Payload:
    """Return the entries of ``records``, in their order."""
    links = layout.links
    name_of = _namer(form, layout)
    if isinstance(form, TableFormat):
        entries = tuple(_entry(r, b"", name_of(r), i) for i, r in enumerate(records))
        return Payload(entries, form.encode_batch(records, links))
    if layout.mode != "mirror":
        return Payload(tuple(_piece_entry(r, form, links, name_of(r), i) for i, r in enumerate(records)))
    true_name_of = _true_namer(form, layout)
    return Payload(
        tuple(
            _entry(
                r,
                compressed(document(form, form.encode(r, links)), layout.compression),
                name_of(r),
                i,
                is_object=True,
                true_name=true_name_of(r),
            )
            for i, r in enumerate(records)
        )
    )


def _namer(form: Format, layout: Layout) -> Callable[[Record], str]:
    if layout.encrypted and layout.mode == "mirror":
        hidden = KeyTemplate(layout.key or f"{ID}{form.suffix}{layout.ending}")
        return lambda record: hidden.fill(record, layout.format, but=ID)
    if layout.key:
        template = KeyTemplate(layout.key)
        return lambda record: template.fill(record, layout.format)
    if layout.mode == "mirror":
        suffix = form.suffix + SUFFIXES[layout.compression]
        return lambda record: names.slug(record.conversation.title, record.key, suffix, max_bytes=_NAME_BYTES)
    return lambda record: ""


def _true_namer(form: Format, layout: Layout) -> Callable[[Record], str]:
    """Return what gives the name that a conversation has where names may tell its title."""
    if not layout.encrypted:
        return lambda record: ""
    suffix = form.suffix + SUFFIXES[layout.compression]
    folder = KeyTemplate(layout.key.rpartition("/")[0])

    def name(record: Record) -> str:
        slug = names.slug(record.conversation.title, record.key, suffix, max_bytes=_NAME_BYTES)
        return f"{folder.fill(record, layout.format)}/{slug}" if folder.text else slug

    return name


def _piece_entry(record: Record, form: Format, links: AssetLinks, name: str, index: int) -> Entry:
    if is_large(record):
        packed = PackedBytes.of(form.encode_in_pieces(record, links))
        return evolve(_entry(record, b"", name, index), packed=packed)
    return _entry(record, form.encode(record, links), name, index)


def _entry(
    record: Record, piece: bytes, name: str, index: int, *, is_object: bool = False, true_name: str = ""
) -> Entry:
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
        true_name,
    )


def bare_entry(record: Record) -> Entry:
    """Return an entry without its piece: enough to compare it with what is stored."""
    return _entry(record, b"", "", 0)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")
