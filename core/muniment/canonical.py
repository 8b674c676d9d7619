"""How does a value become canonical JSON, come back, and get its hash?

`msgspec` does the work; text that holds lone surrogates, which it refuses, goes through the
standard library, which escapes them (``\\ud83d``).  So every string that JSON can name survives.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from muniment.model import Conversation, Origin, Raw, Record

LARGE_BYTES = 4 * 2**20
"""From here on a copy of a conversation's JSON is worth avoiding."""

_MESSAGES_TOGETHER = 1000
_encoder = msgspec.json.Encoder()
_conversation_decoder = msgspec.json.Decoder(Conversation)


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
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def loads(data: bytes) -> Any:
    """Parse JSON with the standard library, strictly: no NaN, no Infinity, lone surrogates kept.

    Raises:
        msgspec.DecodeError: the bytes are not JSON; the message has the reason, never the text.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
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
    return hashlib.sha256(to_json(conversation)).hexdigest()


def record_to_json(record: Record) -> bytes:
    """Return a record as one line: the conversation's fields, then ``raw`` where it was kept."""
    return with_raw(to_json(record.conversation), record.raw)


def with_raw(line: bytes, raw: Raw | None) -> bytes:
    """Return a conversation's canonical JSON with its raw JSON behind the last field."""
    if raw is None:
        return line
    if len(line) >= LARGE_BYTES:
        return b"".join(with_raw_in_pieces(line, raw))
    return b'%s,"raw":{"conversation":%s,"messages":[%s]}}' % (line[:-1], raw.envelope, b",".join(raw.messages))


def with_raw_in_pieces(line: bytes, raw: Raw) -> Iterator[bytes | memoryview]:
    """Yield what `with_raw` returns: whole, a large one would be in memory three times."""
    yield memoryview(line)[:-1]
    yield b',"raw":{"conversation":%s,"messages":[' % raw.envelope
    for first in range(0, len(raw.messages), _MESSAGES_TOGETHER):
        some = b",".join(raw.messages[first : first + _MESSAGES_TOGETHER])
        yield b"," + some if first else some
    yield b"]}}"


def record_from_json(data: bytes, origin: Origin) -> Record:
    """Return the record that `record_to_json` wrote.

    Raises:
        msgspec.DecodeError: the bytes are not such a line.
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
        kept = value.get("raw")
        try:
            raw = None if kept is None else Raw(to_json(kept["conversation"]), tuple(map(to_json, kept["messages"])))
        except (KeyError, TypeError):
            raise msgspec.DecodeError("its `raw` is not what we write") from None
    return Record(conversation=conversation, origin=origin, source_hash=source_hash(conversation), raw=raw)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is not JSON")
