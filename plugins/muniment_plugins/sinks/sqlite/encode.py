"""How does a record become rows?  Pure CPU, in any process."""

import hashlib
import sys
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any, get_args

from msgspec import Struct

from muniment.canonical import is_large, json_in_pieces, record_in_pieces, to_json, with_raw
from muniment.model import (
    Asset,
    Conversation,
    FilePart,
    Message,
    Origin,
    Part,
    Record,
    TextPart,
    part_text,
    visible_path,
)
from muniment.packed import PackedRows, RowPacker
from muniment_plugins.sinks.sqlite.text import index_text, scrub

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Row = tuple[Any, ...]

_MESSAGES_TOGETHER = 1000  # of a large record

# Level 1: the blob holds text twice (canonical and raw); the second time costs a long match, at any level.
_COMPRESSION_LEVEL = 1


# One for the process: making its tables anew for each conversation would cost a sixth of the compression.
_compressor = zstd.ZstdCompressor(_COMPRESSION_LEVEL)
_TAGS = {kind: kind.__struct_config__.tag for kind in get_args(Part)}


class Rows(Struct, frozen=True, gc=False):
    """One record as rows.  Messages and index entries name their message by its position.

    Only an encrypted archive has a ``head``.
    """

    key: str
    origin: Origin
    source_hash: str
    conversation: Row
    messages: list[Row] | PackedRows
    parts: list[Row] | PackedRows
    index: list[Row] | PackedRows
    assets: tuple[Asset, ...]
    record: bytes
    stored_hash: bytes
    head: bytes | None = None


def encode(record: Record, *, indexed: bool) -> Rows:
    """Return the rows of a record; without index entries unless ``indexed``."""
    if is_large(record):
        return _encode_large(record, indexed=indexed)
    c = record.conversation
    line = to_json(c)
    conversation = _conversation_row(record)
    messages = _message_rows(c.messages, visible_path(c))
    parts = _part_rows(c.messages)
    index = _index_rows(c.title, parts) if indexed and messages else []
    # Our JSON holds this escape only for a lone surrogate, or in a text about it: most skip the scrubbing.
    if b"\\ud" in line:
        conversation, *_ = _scrub([conversation])
        messages, parts, index = _scrub(messages), _scrub(parts), _scrub(index)
    blob = _compress(with_raw(line, record.raw))
    return Rows(
        record.key, record.origin, record.source_hash, conversation, messages, parts, index, c.assets, blob,
        hashlib.sha256(blob).digest(),
    )  # fmt: skip


def _encode_large(record: Record, *, indexed: bool) -> Rows:
    """Do what `encode` does, a thousand messages at a time: all rows together take three times their JSON."""
    c = record.conversation
    scrubbed = any(b"\\ud" in piece for piece in json_in_pieces(c))
    path = visible_path(c)
    messages, parts, index = RowPacker(), RowPacker(), RowPacker()
    for first in range(0, len(c.messages), _MESSAGES_TOGETHER):
        some = c.messages[first : first + _MESSAGES_TOGETHER]
        some_parts = _part_rows(some, first)
        for packer, rows in (
            (messages, _message_rows(some, path, first)),
            (parts, some_parts),
            (index, _index_rows(None if first else c.title, some_parts) if indexed else []),
        ):
            packer.add(_scrub(rows) if scrubbed else rows)
    conversation = _conversation_row(record)
    if scrubbed:
        conversation, *_ = _scrub([conversation])
    # One of its own: an error in the middle leaves the other one as it was.
    compressor = zstd.ZstdCompressor(_COMPRESSION_LEVEL)
    blob = b"".join([*map(compressor.compress, record_in_pieces(record)), compressor.flush()])
    return Rows(
        record.key, record.origin, record.source_hash, conversation, messages.packed(), parts.packed(),
        index.packed(), c.assets, blob, hashlib.sha256(blob).digest(),
    )  # fmt: skip


def index_rows(conversation: Conversation) -> list[Row]:
    """Return the index entries that `encode` makes: what the index is to forget when a record is replaced."""
    rows = _index_rows(conversation.title, _part_rows(conversation.messages)) if conversation.messages else []
    return _scrub(rows) if b"\\ud" in to_json(conversation) else rows


def _conversation_row(record: Record) -> Row:
    c = record.conversation
    return (
        c.source, c.id, c.account, c.title, time_text(c.created_at), time_text(c.updated_at), c.model, c.current,
        len(c.messages), _json(c.metadata), record.source_hash,
    )  # fmt: skip


def _message_rows(messages: Sequence[Message], path: Container[str], first: int = 0) -> list[Row]:
    """Return the rows of messages; ``first`` is the position of the first of them."""
    return [
        (
            position, m.id, m.parent_id, m.role, m.author, m.recipient, time_text(m.created_at), m.model, m.hidden,
            m.id in path, m.status, _extra(m) if m.metadata or m.usage or m.feedback else None,
        )
        for position, m in enumerate(messages, first)
    ]  # fmt: skip


def _part_rows(messages: Sequence[Message], first: int = 0) -> list[Row]:
    rows: list[Row] = []
    for position, message in enumerate(messages, first):
        for number, part in enumerate(message.parts):
            if type(part) is TextPart:
                rows.append((position, number, "text", part.kind, part.content, None))
            else:
                file_id = part.file_id if isinstance(part, FilePart) else None
                kind = getattr(part, "kind", "")
                rows.append((position, number, _TAGS[type(part)], kind, part_text(part), file_id))
    return rows


def _index_rows(title: str | None, parts: list[Row]) -> list[Row]:
    """Return (position, title, text) of each message that has words; the title stands with the first message."""
    texts: dict[int, str] = {}
    for position, _, _, _, text, _ in parts:
        if text:
            texts[position] = f"{texts[position]}\n{text}" if position in texts else text
    rows: list[Row] = [(p, "", t if t.isascii() else index_text(t)) for p, t in texts.items()]
    if title:
        title = index_text(title)
        if 0 in texts:
            rows[0] = (0, title, rows[0][2])
        else:
            rows.insert(0, (0, title, ""))
    return rows


def _compress(line: bytes) -> bytes:
    return _compressor.compress(line, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress(blob: bytes) -> bytes:
    """Return the JSON line of a record that `encode` has compressed."""
    return zstd.decompress(blob)


def time_text(time: datetime | None) -> str | None:
    """Return a UTC time as sortable text, ``2026-01-02T03:04:05.678901Z``."""
    return None if time is None else time.isoformat(timespec="microseconds")[:26] + "Z"


def _extra(message: Message) -> str | None:
    """Return as JSON what a message has beyond its columns."""
    names = ("metadata", "usage", "feedback")
    return _json({n: v for n in names if (v := getattr(message, n))})


def _json(value: Any) -> str | None:
    return to_json(value).decode("utf-8") if value else None


def _scrub(rows: list[Row]) -> list[Row]:
    return [tuple(scrub(v) if isinstance(v, str) else v for v in row) for row in rows]
