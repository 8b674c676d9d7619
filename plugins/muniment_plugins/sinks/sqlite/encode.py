"""How does a record become rows?  Pure CPU, in any process."""

import hashlib
import sys
from datetime import datetime
from typing import Any, get_args

from msgspec import Struct

from muniment.canonical import LARGE_BYTES, to_json, with_raw, with_raw_in_pieces
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
from muniment_plugins.sinks.sqlite.text import index_text, scrub

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Row = tuple[Any, ...]

# Level 1: the blob holds text twice (canonical and raw); the second time costs a long match, at any level.
_COMPRESSION_LEVEL = 1


# One for the process: making its tables anew for each conversation would cost a sixth of the compression.
_compressor = zstd.ZstdCompressor(_COMPRESSION_LEVEL)
_TAGS = {kind: kind.__struct_config__.tag for kind in get_args(Part)}


class Rows(Struct, frozen=True, gc=False):
    """One record as rows.  Messages and index entries name their message by its position."""

    key: str
    origin: Origin
    source_hash: str
    conversation: Row
    messages: list[Row]
    parts: list[Row]
    index: list[Row]
    assets: tuple[Asset, ...]
    record: bytes
    stored_hash: bytes


def encode(record: Record, *, indexed: bool) -> Rows:
    """Return the rows of a record; without index entries unless ``indexed``."""
    c = record.conversation
    line = to_json(c)
    conversation = (
        c.source, c.id, c.account, c.title, time_text(c.created_at), time_text(c.updated_at), c.model, c.current,
        len(c.messages), _json(c.metadata), record.source_hash,
    )  # fmt: skip
    path = visible_path(c)
    messages: list[Row] = [
        (
            position, m.id, m.parent_id, m.role, m.author, m.recipient, time_text(m.created_at), m.model, m.hidden,
            m.id in path, m.status, _extra(m) if m.metadata or m.usage or m.feedback else None,
        )
        for position, m in enumerate(c.messages)
    ]  # fmt: skip
    parts = _part_rows(c)
    index = _index_rows(c, parts) if indexed else []
    # Our JSON holds this escape only for a lone surrogate, or in a text about it: most skip the scrubbing.
    if b"\\ud" in line:
        conversation, *_ = _scrub([conversation])
        messages, parts, index = _scrub(messages), _scrub(parts), _scrub(index)
    if record.raw is None or len(line) < LARGE_BYTES:
        blob = _compress(with_raw(line, record.raw))
    else:
        pieces = [_compressor.compress(p) for p in with_raw_in_pieces(line, record.raw)]
        blob = b"".join([*pieces, _compress(b"")])
    return Rows(
        record.key, record.origin, record.source_hash, conversation, messages, parts, index, c.assets, blob,
        hashlib.sha256(blob).digest(),
    )  # fmt: skip


def index_rows(conversation: Conversation) -> list[Row]:
    """Return the index entries that `encode` makes: what the index is to forget when a record is replaced."""
    rows = _index_rows(conversation, _part_rows(conversation))
    return _scrub(rows) if b"\\ud" in to_json(conversation) else rows


def _part_rows(conversation: Conversation) -> list[Row]:
    rows: list[Row] = []
    for position, message in enumerate(conversation.messages):
        for number, part in enumerate(message.parts):
            if type(part) is TextPart:
                rows.append((position, number, "text", part.kind, part.content, None))
            else:
                file_id = part.file_id if isinstance(part, FilePart) else None
                kind = getattr(part, "kind", "")
                rows.append((position, number, _TAGS[type(part)], kind, part_text(part), file_id))
    return rows


def _index_rows(conversation: Conversation, parts: list[Row]) -> list[Row]:
    """Return (position, title, text) of each message that has words; the title stands with the first message."""
    texts: dict[int, str] = {}
    for position, _, _, _, text, _ in parts:
        if text:
            texts[position] = f"{texts[position]}\n{text}" if position in texts else text
    rows: list[Row] = [(p, "", t if t.isascii() else index_text(t)) for p, t in texts.items()]
    if conversation.title and conversation.messages:
        title = index_text(conversation.title)
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
