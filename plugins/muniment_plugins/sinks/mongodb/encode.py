"""How does a record become documents?  Pure CPU, in any process; BSON is made once and sent as it is."""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from muniment.canonical import to_json
from muniment.model import Asset, Origin, Record, visible_path
from muniment.record_blob import blob_of
from muniment_plugins.sinks.mongodb.keys import document_id, scrubbed, storable

# A document may have 16 MB: this much for the readable side, the rest for the record.
MAX_BODY_BYTES = 11 * 2**20
MAX_INLINE_BYTES = 4 * 2**20
_MESSAGES_BYTES = 8 * 2**20
_FIELD_BYTES = 2**20
_CUT_CHARACTERS = 2**16

_FREE = ("metadata", "usage", "feedback")
_FREE_PART = ("metadata", "arguments", "response", "value")
_TIMES = ("created_at", "updated_at")


class Document(Struct, frozen=True, gc=False):
    """One record as documents, each in BSON.

    ``body`` is the conversation without ``record`` and what only the run knows; ``further`` stand in
    a collection of their own: messages, one by one or as many as fit.  ``stored_hash`` is the SHA-256
    of ``record``.
    """

    key: str
    id: str
    origin: Origin
    source_hash: str
    body: bytes
    further: tuple[bytes, ...]
    assets: tuple[Asset, ...]
    record: bytes
    stored_hash: bytes


def encode(record: Record, *, documents: str) -> Document:
    """Return the documents of a record; ``documents`` is ``conversation`` or ``message``."""
    conversation = record.conversation
    line = to_json(conversation)
    blob = blob_of(line, record.raw)
    values = msgspec.to_builtins(conversation, builtin_types=(datetime,))
    messages = values.pop("messages", ())
    path = visible_path(conversation)
    for message in messages:
        _adapt_message(message, message["id"] in path)
    identity = document_id(record.key)
    head = _head(identity, values, len(messages), record.source_hash)
    if documents == "message":
        body = _fitting(head, MAX_BODY_BYTES)
        further = tuple(_message_documents(identity, conversation.source, messages, blob))
    else:
        head["messages"] = messages
        body, further = to_bson(head), ()
        if len(body) > MAX_BODY_BYTES:
            body, further = _split(head, identity, blob)
    return Document(
        record.key, identity, record.origin, record.source_hash, body, further, conversation.assets, blob,
        hashlib.sha256(blob).digest(),
    )  # fmt: skip


def to_bson(document: Mapping[str, Any]) -> bytes:
    """Return a document in BSON; what BSON cannot hold is shown as the nearest that it can."""
    import bson

    try:
        return bson.encode(document)
    except (UnicodeError, OverflowError, bson.errors.BSONError):
        return bson.encode(scrubbed(document))


def extended(body: bytes, more: Mapping[str, Any]) -> bytes:
    """Return a document in BSON with more fields behind its last one."""
    tail = to_bson(more)
    return b"".join((struct.pack("<i", len(body) + len(tail) - 5), memoryview(body)[4:-1], tail[4:]))


def id_of(document: bytes) -> Any:
    """Return the ``_id`` of a document in BSON, which is its first field and an object."""
    from bson.raw_bson import RawBSONDocument

    start = 4 + len(b"\x03_id\0")
    (length,) = struct.unpack_from("<i", document, start)
    return RawBSONDocument(document[start : start + length])


def record_fields(blob: bytes) -> dict[str, Any]:
    """Return how a document holds its record: inside, or by the digest of its bytes in ``records``."""
    return {"record": blob} if len(blob) <= MAX_INLINE_BYTES else {"record_sha256": hashlib.sha256(blob).hexdigest()}


def revision_of(blob: bytes) -> str:
    """Return 32 hex digits that tell one state of a conversation from another."""
    return hashlib.sha256(blob).hexdigest()[:32]


def _head(identity: str, values: dict[str, Any], message_count: int, source_hash: str) -> dict[str, Any]:
    assets, metadata = values.pop("assets", ()), values.pop("metadata", None)
    head = {"_id": identity, **values, "message_count": message_count, "source_hash": source_hash}
    _add_exact_times(head)
    if assets:
        head["assets"] = [a | {"metadata": storable(a["metadata"])} if "metadata" in a else a for a in assets]
    if metadata is not None:
        head["metadata"] = storable(metadata)
    return head


def _adapt_message(message: dict[str, Any], visible: bool) -> None:
    _add_exact_times(message)
    message["visible"] = visible
    for name in _FREE:
        if name in message:
            message[name] = storable(message[name])
    for part in message.get("parts", ()):
        if part["type"] == "text":
            if "metadata" in part:
                part["metadata"] = storable(part["metadata"])
        elif part["type"] == "blob":
            _adapt_blob(part)
        else:
            for name in _FREE_PART:
                if name in part:
                    part[name] = storable(part[name])
    for citation in message.get("citations", ()):
        if "metadata" in citation:
            citation["metadata"] = storable(citation["metadata"])


def _adapt_blob(part: dict[str, Any]) -> None:
    """Keep inline data as bytes: a third smaller, and no words for a text index."""
    content = part.pop("content")
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        part["text"] = content
    else:
        part["data"] = data


def _add_exact_times(document: dict[str, Any]) -> None:
    # A BSON date has milliseconds.
    for name in _TIMES:
        time = document.get(name)
        if time is not None and time.microsecond % 1000:
            document[f"{name}_exact"] = time.isoformat(timespec="microseconds")[:26] + "Z"


def _message_documents(
    identity: str, source: str, messages: Sequence[dict[str, Any]], blob: bytes
) -> Iterator[bytes]:  # fmt: skip
    revision = revision_of(blob)
    for position, message in enumerate(messages):
        yield _fitting(
            {
                "_id": {"conversation": identity, "message": document_id(message["id"])},
                "conversation": identity,
                "source": source,
                "position": position,
                "revision": revision,
                **message,
            },
            MAX_BODY_BYTES,
        )


def _split(head: dict[str, Any], identity: str, blob: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the conversation with as many of its messages as fit, and documents with the others."""
    revision = revision_of(blob)
    pages: list[list[dict[str, Any]]] = [[]]
    size = 0
    for message in head["messages"]:
        length = len(to_bson(message))
        if length > _MESSAGES_BYTES:
            message = _cut(message, _MESSAGES_BYTES)
            length = len(to_bson(message))
        if size + length > _MESSAGES_BYTES and pages[-1]:
            pages.append([])
            size = 0
        pages[-1].append(message)
        size += length + 16  # its number in the array
    head = _fit_fields({k: v for k, v in head.items() if k != "messages"}, _FIELD_BYTES)
    body = to_bson(head | {"messages": pages[0], "further_pages": len(pages) - 1})
    positions = [0]
    for page in pages:
        positions.append(positions[-1] + len(page))
    further = tuple(
        to_bson({
            "_id": {"conversation": identity, "page": number},
            "conversation": identity,
            "position": positions[number],
            "revision": revision,
            "messages": page,
        })
        for number, page in enumerate(pages[1:], 1)
    )  # fmt: skip
    return body, further


def _fitting(document: dict[str, Any], limit: int) -> bytes:
    data = to_bson(document)
    return data if len(data) <= limit else to_bson(_cut(document, limit))


def _cut(document: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return a document whose long texts are cut, marked as such; the record has them whole."""
    shorter: dict[str, Any] = _shortened(document) | {"cut": True}
    if len(to_bson(shorter)) > limit:
        shorter = _fit_fields(shorter, _FIELD_BYTES)
    return shorter


def _fit_fields(document: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return a document without the fields that are too large even with their texts cut."""
    kept: dict[str, Any] = {}
    for name, value in document.items():
        for candidate in (value, _shortened(value)):
            if len(to_bson({name: candidate})) <= limit:
                kept[name] = candidate
                break
        else:
            kept["cut"] = True
    return kept


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_CUT_CHARACTERS]
    if isinstance(value, bytes):
        return value[:_CUT_CHARACTERS]
    if isinstance(value, dict):
        return {k: _shortened(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(v) for v in value]
    return value
