"""How does a record become rows?  Pure CPU, in any process."""

import sys
from datetime import datetime
from typing import Any

from msgspec import Struct

from muniment.canonical import to_json, with_raw
from muniment.model import Asset, FilePart, Message, Origin, Record, part_text, visible_path
from muniment_plugins.sinks.sqlite.text import index_text, scrub

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Row = tuple[Any, ...]

# Level 1: the blob holds text twice (canonical and raw); the second time costs a long match, at any level.
_COMPRESSION_LEVEL = 1


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


def encode(record: Record, *, indexed: bool) -> Rows:
    """Return the rows of a record; without index entries unless ``indexed``."""
    c = record.conversation
    line = to_json(c)
    # Our JSON holds this escape only for a lone surrogate, or in a text about it: most skip the scrubbing.
    clean = scrub if b"\\ud" in line else _same
    title = None if c.title is None else clean(c.title)
    conversation = (
        clean(c.source), clean(c.id), _opt(c.account, clean), title, time_text(c.created_at),
        time_text(c.updated_at), _opt(c.model, clean), _opt(c.current, clean), len(c.messages), _json(c.metadata),
        record.source_hash,
    )  # fmt: skip
    path = visible_path(c)
    messages: list[Row] = []
    parts: list[Row] = []
    index: list[Row] = []
    for position, m in enumerate(c.messages):
        messages.append((
            position, clean(m.id), _opt(m.parent_id, clean), clean(m.role), _opt(m.author, clean),
            _opt(m.recipient, clean), time_text(m.created_at), _opt(m.model, clean), m.hidden, m.id in path,
            _opt(m.status, clean), _extra(m),
        ))  # fmt: skip
        texts = []
        for number, part in enumerate(m.parts):
            text = clean(part_text(part))
            if text:
                texts.append(text)
            parts.append((
                position, number, part.__struct_config__.tag, clean(getattr(part, "kind", "")), text,
                clean(part.file_id) if type(part) is FilePart else None,
            ))  # fmt: skip
        if indexed and (texts or (title and position == 0)):
            text = texts[0] if len(texts) == 1 else "\n".join(texts)
            index.append((position, index_text(title) if title and position == 0 else "", index_text(text)))
    return Rows(
        record.key, record.origin, record.source_hash, conversation, messages, parts, index, c.assets,
        zstd.compress(with_raw(line, record.raw), _COMPRESSION_LEVEL),
    )  # fmt: skip


def decompress(blob: bytes) -> bytes:
    """Return the JSON line of a record that `encode` has compressed."""
    return zstd.decompress(blob)


def time_text(time: datetime | None) -> str | None:
    """Return a UTC time as sortable text, ``2026-01-02T03:04:05.678901Z``."""
    return None if time is None else time.isoformat(timespec="microseconds")[:26] + "Z"


def _extra(message: Message) -> str | None:
    """Return as JSON what a message has beyond its columns."""
    if not (
        message.citations or message.metadata or message.usage or message.feedback or message.channel
        or message.updated_at
    ):  # fmt: skip
        return None
    names = ("citations", "metadata", "usage", "feedback", "channel", "updated_at")
    return _json({n: v for n in names if (v := getattr(message, n))})


def _json(value: Any) -> str | None:
    return to_json(value).decode("utf-8") if value else None


def _opt(text: str | None, clean: Any) -> str | None:
    return None if text is None else clean(text)


def _same(text: str) -> str:
    return text
