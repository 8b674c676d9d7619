"""How does a value become canonical JSON, come back, and get its hash?

`msgspec` does the work; text that holds lone surrogates, which it refuses, goes through the
standard library, which escapes them (``\\ud83d``).  So every string that JSON can name survives.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from muniment.model import JSON, Asset, Conversation, Origin, Raw, Record

LARGE_BYTES = 4 * 2**20
"""From here on a copy of a conversation's JSON is worth avoiding."""
LARGE_MESSAGES = 10_000

_MESSAGES_TOGETHER = 100
# What msgspec repeats of an unknown `type`, however long: it is the conversation's own text.
_QUOTED = re.compile(r""" (['\"]).*\1""", re.DOTALL)
_encoder = msgspec.json.Encoder()
_conversation_decoder = msgspec.json.Decoder(Conversation)


class _Tail(msgspec.Struct, omit_defaults=True):
    """The fields of a conversation behind its messages."""

    assets: tuple[Asset, ...] = ()
    metadata: dict[str, JSON] | None = None


class _Line(msgspec.Struct):
    """Only the raw part of a line of our JSON."""

    raw: "_RawLine | None" = None


class _RawLine(msgspec.Struct):
    conversation: msgspec.Raw
    messages: list[msgspec.Raw]


_line_decoder = msgspec.json.Decoder(_Line)


def to_json(value: Any) -> bytes:
    """Return ``value`` as compact UTF-8 JSON; lone surrogates become escapes."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _to_ascii(value)


def _to_ascii(value: Any) -> bytes:
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def loads(data: bytes, make_object: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> Any:
    """Parse JSON with the standard library, strictly: no NaN, no Infinity, lone surrogates kept.

    ``make_object`` gets the pairs of each object, also where a key stands twice; `dict` if None.

    Raises:
        msgspec.DecodeError: the bytes are not JSON; the message has the reason, never the text.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=make_object)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise msgspec.DecodeError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None


def source_hash(conversation: Conversation) -> str:
    """Return the SHA-256 of the canonical conversation, 64 hex digits."""
    if len(conversation.messages) < LARGE_MESSAGES:
        return hashlib.sha256(to_json(conversation)).hexdigest()
    digest = hashlib.sha256()
    for piece in json_in_pieces(conversation):
        digest.update(piece)
    return digest.hexdigest()


def record_to_json(record: Record) -> bytes:
    """Return a record as one line: the conversation's fields, then ``raw`` where it was kept."""
    return with_raw(to_json(record.conversation), record.raw)


def with_raw(line: bytes, raw: Raw | None) -> bytes:
    """Return a conversation's canonical JSON with its raw JSON behind the last field."""
    if raw is None:
        return line
    if len(line) >= LARGE_BYTES:
        return b"".join([memoryview(line)[:-1], *_raw_in_pieces(raw), b"}"])
    return b'%s,"raw":{"conversation":%s,"messages":[%s]}}' % (line[:-1], raw.envelope, b",".join(raw.messages))


def is_large(record: Record) -> bool:
    """Tell whether the JSON of a record is better made piece by piece than whole."""
    return record.origin.end - record.origin.start >= LARGE_BYTES or len(record.conversation.messages) >= LARGE_MESSAGES


def record_in_pieces(record: Record) -> Iterator[bytes]:
    """Yield what `record_to_json` returns, a hundred messages at a time."""
    yield from _fields_in_pieces(record.conversation)
    if record.raw is not None:
        yield from _raw_in_pieces(record.raw)
    yield b"}"


def json_in_pieces(conversation: Conversation) -> Iterator[bytes]:
    """Yield what `to_json` returns, a hundred messages at a time: no piece ends within one."""
    yield from _fields_in_pieces(conversation)
    yield b"}"


def _fields_in_pieces(conversation: Conversation) -> Iterator[bytes]:
    """Yield the JSON of a conversation but for the bracket at its end."""
    # One lone surrogate anywhere makes it all ASCII, so that has to be known before the first piece.
    try:
        for _ in _pieces(conversation, _encoder.encode):
            pass
    except UnicodeEncodeError:
        yield from _pieces(conversation, _to_ascii)
    else:
        yield from _pieces(conversation, _encoder.encode)


def _pieces(conversation: Conversation, encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    messages = conversation.messages
    yield encode(msgspec.structs.replace(conversation, messages=(), assets=(), metadata=None))[:-1]
    mark = b',"messages":['
    for first in range(0, len(messages), _MESSAGES_TOGETHER):
        yield mark + encode(messages[first : first + _MESSAGES_TOGETHER])[1:-1]
        mark = b","
    if messages:
        yield b"]"
    tail = encode(_Tail(conversation.assets, conversation.metadata))
    if tail != b"{}":
        yield b"," + tail[1:-1]


def _raw_in_pieces(raw: Raw) -> Iterator[bytes]:
    yield b',"raw":{"conversation":%s,"messages":[' % raw.envelope
    for first in range(0, len(raw.messages), _MESSAGES_TOGETHER):
        some = b",".join(raw.messages[first : first + _MESSAGES_TOGETHER])
        yield b"," + some if first else some
    yield b"]}"


def record_from_json(data: bytes, origin: Origin) -> Record:
    """Return the record that `record_to_json` wrote.

    Raises:
        msgspec.DecodeError: the bytes are not such a line; the message says where, and quotes nothing of them.
    """
    try:
        conversation = _conversation_decoder.decode(data)
        line = _line_decoder.decode(data)
        raw = None if line.raw is None else Raw(bytes(line.raw.conversation), tuple(map(bytes, line.raw.messages)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = loads(data)
        try:
            conversation = msgspec.convert(value, type=Conversation)
        except UnicodeEncodeError:
            raise msgspec.DecodeError("a lone surrogate stands where none can") from None
        except msgspec.ValidationError as error:
            raise msgspec.DecodeError(_QUOTED.sub("", str(error))) from None
        kept = value.get("raw")
        try:
            raw = None if kept is None else Raw(to_json(kept["conversation"]), tuple(map(to_json, kept["messages"])))
        except (KeyError, TypeError):
            raise msgspec.DecodeError("its `raw` is not what we write") from None
    return Record(conversation=conversation, origin=origin, source_hash=source_hash(conversation), raw=raw)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is not JSON")
