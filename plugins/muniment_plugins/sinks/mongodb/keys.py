"""How does JSON that MongoDB refuses become a document that it takes?

The names in objects are escaped so that `unescape_key` gives them back exactly, and a query can name
them in one piece.  Values that BSON lacks are shown as the nearest one that it has; the exact record
stands beside them, compressed (see ``docs/formats/mongodb.md``).
"""

import hashlib
import re
from typing import Any

from muniment.canonical import to_json
from muniment.model import JSON

LEAD = "\u241b"  # the symbol for escape: hardly a name holds it
MAX_DEPTH = 80  # the server takes 180 levels; ours stand some levels deep themselves
MAX_ID_BYTES = 512

_DIGEST = "sha256:"
_STAND_INS = {".": "\uff0e", "\0": "\u2400"}  # the fullwidth stop and the symbol for null
_DOLLAR = "\uff04"
_AWKWARD = re.compile(f"[.\\0{LEAD}{_DOLLAR}{''.join(_STAND_INS.values())}\ud800-\udfff]|^\\$")
_ESCAPED = re.compile(f"{LEAD}(d[89a-f][0-9a-f]{{2}}|.)|[{''.join(_STAND_INS.values())}]|^{_DOLLAR}", re.DOTALL)
_ORIGINALS = {stand_in: c for c, stand_in in _STAND_INS.items()} | {_DOLLAR: "$"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_DECIMAL_DIGITS = 34


def document_id(key: str) -> str:
    """Return the ``_id`` of what has this key: the key, or a digest where it is long or no Unicode text."""
    if not is_digest(key) and len(key) <= MAX_ID_BYTES:
        try:
            if len(key.encode()) <= MAX_ID_BYTES:
                return key
        except UnicodeEncodeError:
            pass
    return _DIGEST + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def is_digest(identity: str) -> bool:
    """Say whether `document_id` has made a digest."""
    return identity.startswith(_DIGEST)


def escape_key(key: str) -> str:
    """Return the name in a document for a name in JSON: any two differ where the names do."""
    return _AWKWARD.sub(_escape, key) if key else LEAD


def unescape_key(name: str) -> str:
    """Return the name in JSON that `escape_key` was given."""
    return "" if name == LEAD else _ESCAPED.sub(_unescape, name)


def storable(value: JSON) -> JSON:
    """Return a JSON value with the names in its objects escaped: itself, where none needs it.

    What is nested deeper than the server takes stands as JSON text.
    """
    return value if _is_storable(value, MAX_DEPTH) else _escaped(value, MAX_DEPTH)


def scrubbed(value: Any) -> Any:
    """Return a document whose values BSON takes: no lone surrogates, no integers beyond 64 bits."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {k: scrubbed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(v) for v in value]
    if isinstance(value, int) and not _LOWEST <= value <= _HIGHEST:
        return _large(value)
    return value


def _escape(match: re.Match[str]) -> str:
    c = match[0]
    if c == "$":
        return _DOLLAR
    if "\ud800" <= c <= "\udfff":
        return f"{LEAD}{ord(c):04x}"
    return _STAND_INS.get(c) or LEAD + c


def _unescape(match: re.Match[str]) -> str:
    inner = match[1]
    if inner is None:
        return _ORIGINALS[match[0]]
    return inner if len(inner) == 1 else chr(int(inner, 16))


def _is_storable(value: JSON, room: int) -> bool:
    if not room:
        return False
    if isinstance(value, dict):
        for key, inner in value.items():
            if not key or not key.isascii() or "." in key or key[0] == "$" or "\0" in key:
                return False
            if isinstance(inner, dict | list | tuple) and not _is_storable(inner, room - 1):
                return False
        return True
    if isinstance(value, list | tuple):
        return all(_is_storable(v, room - 1) for v in value if isinstance(v, dict | list | tuple))
    return True


def _escaped(value: JSON, room: int) -> JSON:
    if not isinstance(value, dict | list | tuple):
        return value
    if not room:
        return to_json(value).decode()
    if isinstance(value, dict):
        return {escape_key(k): _escaped(v, room - 1) for k, v in value.items()}
    return [_escaped(v, room - 1) for v in value]


def _large(value: int) -> Any:
    from bson.decimal128 import Decimal128

    text = str(value)
    return Decimal128(text) if len(text.lstrip("-")) <= _DECIMAL_DIGITS else text
