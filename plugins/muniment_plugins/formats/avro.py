"""Conversations as Avro: typed for the tools that read it, and whole for us to read back."""

import io
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, BinaryIO, ClassVar, Literal, get_args

from attrs import frozen

from muniment import (
    Asset,
    AssetLinks,
    FilePart,
    Format,
    Message,
    Origin,
    Part,
    Record,
    RecordError,
    option,
    part_text,
    visible_path,
)
from muniment.canonical import record_from_json, record_to_json
from muniment_plugins.formats.transcript import scrubbed

_TIME = ["null", {"type": "long", "logicalType": "timestamp-micros"}]
_TEXT = ["null", "string"]

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Conversation",
    "namespace": "muniment.v1",
    "fields": [
        {"name": "source", "type": "string"},
        {"name": "id", "type": "string"},
        {"name": "account", "type": _TEXT},
        {"name": "title", "type": _TEXT},
        {"name": "created_at", "type": _TIME},
        {"name": "updated_at", "type": _TIME},
        {"name": "model", "type": _TEXT},
        {"name": "current", "type": _TEXT},
        {
            "name": "messages",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Message",
                    "fields": [
                        {"name": "id", "type": "string"},
                        {"name": "parent_id", "type": _TEXT},
                        {"name": "role", "type": "string"},
                        {"name": "author", "type": _TEXT},
                        {"name": "recipient", "type": _TEXT},
                        {"name": "created_at", "type": _TIME},
                        {"name": "model", "type": _TEXT},
                        {"name": "hidden", "type": "boolean"},
                        {"name": "visible", "type": "boolean"},
                        {
                            "name": "parts",
                            "type": {
                                "type": "array",
                                "items": {
                                    "type": "record",
                                    "name": "Part",
                                    "fields": [
                                        {"name": "type", "type": "string"},
                                        {"name": "kind", "type": "string"},
                                        {"name": "text", "type": "string"},
                                        {"name": "file_id", "type": _TEXT},
                                    ],
                                },
                            },
                        },
                    ],
                },
            },
        },
        {
            "name": "assets",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Asset",
                    "fields": [
                        {"name": "id", "type": "string"},
                        {"name": "name", "type": "string"},
                        {"name": "mime_type", "type": "string"},
                        {"name": "size", "type": ["null", "long"]},
                        {"name": "sha256", "type": _TEXT},
                        {"name": "missing", "type": _TEXT},
                        {"name": "path", "type": "string"},
                    ],
                },
            },
        },
        {"name": "record", "type": "bytes"},
    ],
}
"""``record`` is the line that the format ``jsonl`` writes; the other fields say the same for other tools."""

# Blocks of one part are encoded in several processes, so they cannot agree on a random marker.
_SYNC = sha256(b"muniment.v1.Conversation").digest()[:16]
_TAGS = {kind: kind.__struct_config__.tag for kind in get_args(Part)}


@frozen(kw_only=True)
class Avro(Format):
    """An Avro object container file with its schema; each conversation is a block.

    Needs ``muniment[avro]``.
    """

    suffix: ClassVar[str] = ".avro"
    media_type: ClassVar[str] = "application/avro"
    reads_back: ClassVar[bool] = True

    codec: Literal["null", "deflate"] = option("How Avro itself compresses each block.", default="deflate")

    def check(self) -> Iterable[str]:
        if find_spec("fastavro") is None:
            yield "format `avro` needs fastavro: pip install 'muniment[avro]'"

    def header(self) -> bytes:
        return _header(self.codec)

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        from fastavro import writer

        stream = io.BytesIO()
        writer(stream, _schema(), [_values(record, links)], codec=self.codec, sync_marker=_SYNC)
        return stream.getvalue()[len(_header(self.codec)) :]

    def decode(self, stream: BinaryIO, origin: Origin) -> Iterator[Record]:
        """Yield the records, block by block.

        Raises:
            RecordError: the file is damaged, or another program's.
        """
        from fastavro import reader

        try:
            for values in reader(stream):
                if not isinstance(values, dict) or not isinstance(values.get("record"), bytes):
                    raise RecordError("an Avro file of another program: it has no `record`")
                yield record_from_json(values["record"], origin)
        except (ValueError, EOFError, IndexError, KeyError, TypeError) as error:
            raise RecordError(f"a damaged Avro file ({type(error).__name__})") from error


@cache
def _schema() -> Any:
    from fastavro import parse_schema

    return parse_schema(SCHEMA)


@cache
def _header(codec: str) -> bytes:
    from fastavro import writer

    stream = io.BytesIO()
    writer(stream, _schema(), [], codec=codec, sync_marker=_SYNC)
    return stream.getvalue()


def _values(record: Record, links: AssetLinks) -> dict[str, Any]:
    c = record.conversation
    path = visible_path(c)
    return {
        "source": scrubbed(c.source),
        "id": scrubbed(c.id),
        "account": _scrubbed(c.account),
        "title": _scrubbed(c.title),
        "created_at": c.created_at,
        "updated_at": c.updated_at,
        "model": _scrubbed(c.model),
        "current": _scrubbed(c.current),
        "messages": [_message(m, visible=m.id in path) for m in c.messages],
        "assets": [_asset(a, links(a)) for a in c.assets],
        "record": record_to_json(record),
    }


def _message(message: Message, *, visible: bool) -> dict[str, Any]:
    return {
        "id": scrubbed(message.id),
        "parent_id": _scrubbed(message.parent_id),
        "role": scrubbed(message.role),
        "author": _scrubbed(message.author),
        "recipient": _scrubbed(message.recipient),
        "created_at": message.created_at,
        "model": _scrubbed(message.model),
        "hidden": message.hidden,
        "visible": visible,
        "parts": [
            {
                "type": _TAGS[type(part)],
                "kind": scrubbed(getattr(part, "kind", "")),
                "text": scrubbed(part_text(part)),
                "file_id": scrubbed(part.file_id) if isinstance(part, FilePart) else None,
            }
            for part in message.parts
        ],
    }


def _asset(asset: Asset, path: str) -> dict[str, Any]:
    return {
        "id": scrubbed(asset.id),
        "name": scrubbed(asset.name),
        "mime_type": scrubbed(asset.mime_type),
        "size": asset.size,
        "sha256": asset.sha256,
        "missing": _scrubbed(asset.missing),
        "path": path,
    }


def _scrubbed(text: str | None) -> str | None:
    return None if text is None else scrubbed(text)
