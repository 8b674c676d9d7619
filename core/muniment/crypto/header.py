"""What stands before encrypted bytes, and which headers are refused?

A header is ``magic | length (4 bytes, big endian) | canonical JSON | HMAC-SHA-256``.  Its ``fixed``
part never changes and is bound to the body; its ``slots``, one for each key that opens it, can be
replaced by whoever holds one of these keys.
"""

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

from attrs import field, frozen

from muniment.crypto.chunks import expand
from muniment.errors import DamagedError

MAGIC = b"\x8fmun\r\n\x1a\x01"
"""Not text, mangled by a transfer that takes it for text; the last byte is the version of the container."""
MAX_HEADER_BYTES = 64 * 2**10
MAX_SLOTS = 16
MAC_BYTES = 32
WRAPPED_BYTES = 104
"""Bytes of a wrapped key: salt, commitment, 32 bytes, tag."""

_VERSION = 1
_MAX_DEPTH = 5
_LABEL = b"muniment/v1/header"
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_HEX = re.compile(r"[0-9a-f]+")


@frozen
class Fixed:
    """What a header says for good, readable by everyone: nothing private belongs here.

    ``file`` is random, 32 hex digits; ``content_type`` is of the decrypted bytes; ``about`` are facts
    that a reader may leave aside.
    """

    content_type: str = "application/octet-stream"
    about: Mapping[str, str] = field(factory=dict)
    file: str = field(factory=lambda: os.urandom(16).hex())

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON, which binds slots and body to it."""
        return hashlib.sha256(canonical(self.as_json())).digest()

    def as_json(self) -> dict[str, Any]:
        return {
            "about": dict(self.about),
            "content_type": self.content_type,
            "file": self.file,
            "version": _VERSION,
        }


@frozen
class Slot:
    """The file's key, wrapped for one key.  ``kid`` names that key without giving it away."""

    alg: str
    kid: str
    params: Mapping[str, Any] = field(factory=dict)
    wrapped: bytes = b""

    def as_json(self, *, with_wrapped: bool = True) -> dict[str, Any]:
        value: dict[str, Any] = {"alg": self.alg, "kid": self.kid, "params": dict(self.params)}
        if with_wrapped:
            value["wrapped"] = base64.b64encode(self.wrapped).decode()
        return value


@frozen
class Header:
    """A header as it stands in a file; only `verify` says whether a holder of a key wrote it."""

    fixed: Fixed
    slots: tuple[Slot, ...]
    data: bytes = b""
    mac: bytes = b""

    @property
    def size(self) -> int:
        """Bytes before the body."""
        return len(MAGIC) + 4 + len(self.data) + MAC_BYTES

    def verify(self, dek: bytes) -> None:
        """Return if this header was written by someone who knew ``dek``.

        Raises:
            DamagedError: it was not, or was changed since.
        """
        if not hmac.compare_digest(_mac(dek, self.data), self.mac):
            raise DamagedError("the header of the encrypted data was changed; restore it from a copy")


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def encode(fixed: Fixed, slots: tuple[Slot, ...], dek: bytes) -> bytes:
    """Return the bytes of a header: all that stands before the body."""
    data = canonical({"fixed": fixed.as_json(), "slots": [s.as_json() for s in slots]})
    # What would not be read is not written.
    _parse(data)
    return _framed(data, _mac(dek, data))


def as_bytes(header: Header) -> bytes:
    """Return a header as it was read."""
    return _framed(header.data, header.mac)


def read(stream: BinaryIO) -> Header:
    """Read a header; the stream then stands at the body.

    Raises:
        DamagedError: there is none, or it is not one that muniment writes.
    """
    start = read_fully(stream, len(MAGIC) + 4)
    if start[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise DamagedError("this is not encrypted by muniment")
    if start[: len(MAGIC)] != MAGIC[: len(start)]:
        raise DamagedError(f"the encrypted data is of version {start[len(MAGIC) - 1]}; a newer muniment may read it")
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if length > MAX_HEADER_BYTES:
        raise _refused("it is too long")
    data = read_fully(stream, length)
    mac = read_fully(stream, MAC_BYTES)
    if len(start) < len(MAGIC) + 4 or len(data) < length or len(mac) < MAC_BYTES:
        raise _refused("it is cut off")
    fixed, slots = _parse(data)
    return Header(fixed, slots, data, mac)


def is_encrypted(start: bytes) -> bool:
    """Whether the first eight bytes of an object say that it is encrypted, in whatever version."""
    return start[: len(MAGIC) - 1] == MAGIC[:-1]


def read_fully(stream: BinaryIO, size: int) -> bytes:
    """Return ``size`` bytes, or all that are left."""
    data = stream.read(size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and (data := stream.read(missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def _framed(data: bytes, mac: bytes) -> bytes:
    return b"".join([MAGIC, len(data).to_bytes(4, "big"), data, mac])


def _mac(dek: bytes, data: bytes) -> bytes:
    key = expand(dek, _LABEL)
    return hmac.digest(key, MAGIC + len(data).to_bytes(4, "big") + data, "sha256")


def _refused(why: str) -> DamagedError:
    return DamagedError(f"the header of the encrypted data is refused: {why}")


# --- what a header may hold: exactly this ---------------------------------------------------------


def _parse(data: bytes) -> tuple[Fixed, tuple[Slot, ...]]:
    """Return what a header's JSON says.

    Raises:
        DamagedError: it is not canonical, or holds anything that this version does not know.
    """
    if len(data) > MAX_HEADER_BYTES:
        raise _refused("it is too long")
    if _depth(data) > _MAX_DEPTH:
        raise _refused("it is nested too deeply")
    try:
        value = json.loads(data)
        same = canonical(value) == data
    except (ValueError, RecursionError):
        raise _refused("it is not JSON") from None
    if not same:
        raise _refused("it is not canonical JSON")
    whole = _fields(value, "fixed", "slots")
    fixed = _fields(whole["fixed"], "about", "content_type", "file", "version")
    if type(fixed["version"]) is not int or fixed["version"] != _VERSION:
        raise _refused("its version is not known")
    about = fixed["about"]
    if not isinstance(about, dict) or not all(isinstance(v, str) for v in about.values()):
        raise _refused("a field has the wrong type")
    content_type, file = _text(fixed["content_type"]), _hex(fixed["file"], 32)
    slots = whole["slots"]
    if not isinstance(slots, list) or not 0 < len(slots) <= MAX_SLOTS:
        raise _refused(f"it must name 1 to {MAX_SLOTS} keys")
    found = tuple(_slot(s) for s in slots)
    if len({s.kid for s in found}) < len(found):
        raise _refused("it names a key twice")
    if sum(_work(s.params) for s in found if s.alg == "argon2id") > 2 * _MOST_WORK:
        raise _refused("what its passphrases cost to try is out of bounds")
    return Fixed(content_type, about, file), found


def _slot(value: Any) -> Slot:
    slot = _fields(value, "alg", "kid", "params", "wrapped")
    alg, kid, params = _text(slot["alg"]), _hex(slot["kid"], 16), slot["params"]
    if not isinstance(params, dict):
        raise _refused("a field has the wrong type")
    if alg == "raw":
        _fields(params)
    elif alg == "argon2id":
        _check_cost(_fields(params, "lanes", "memory_kib", "passes", "salt"))
    elif alg == "service":
        for text in _fields(params, "blob", "key", "service").values():
            _text(text)
        decode_base64(params["blob"])
    wrapped = decode_base64(slot["wrapped"])
    if len(wrapped) != WRAPPED_BYTES:
        raise _refused("a wrapped key has the wrong length")
    return Slot(alg, kid, params, wrapped)


# A header is a stranger's text: what it may cost to try a passphrase has a floor, below which a thief
# could guess too fast, and a ceiling, above which opening a file would stop the machine.
_MEMORY_KIB = range(19 * 2**10, 2**20 + 1)
_PASSES = range(1, 17)
_LANES = range(1, 17)
_LEAST_WORK = 38 * 2**10  # KiB times passes: 19 MiB, 2 passes
_MOST_WORK = 4 * 2**20  # 1 GiB, 4 passes


def _check_cost(params: Mapping[str, Any]) -> None:
    memory, passes, lanes = params["memory_kib"], params["passes"], params["lanes"]
    if not all(type(n) is int for n in (memory, passes, lanes)):
        raise _refused("a field has the wrong type")
    within = memory in _MEMORY_KIB and passes in _PASSES and lanes in _LANES
    if not within or not _LEAST_WORK <= _work(params) <= _MOST_WORK:
        raise _refused("what a passphrase costs to try is out of bounds")
    if not 16 <= len(decode_base64(params["salt"])) <= 64:
        raise _refused("a salt has the wrong length")


def _work(params: Mapping[str, Any]) -> int:
    work: int = params["memory_kib"] * params["passes"]
    return work


def decode_base64(value: Any) -> bytes:
    """Decode base64 that has one form only.

    Raises:
        DamagedError: it is not.
    """
    try:
        data = base64.b64decode(_text(value), validate=True)
    except ValueError:
        raise _refused("a field is not base64") from None
    if base64.b64encode(data).decode() != value:
        raise _refused("a field is not base64")
    return data


def _fields(value: Any, *names: str) -> Mapping[str, Any]:
    """Return a mapping that has exactly ``names``: every field is critical."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise _refused("a field is missing or unknown")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refused("a field has the wrong type")
    return value


def _hex(value: Any, digits: int) -> str:
    if not isinstance(value, str) or len(value) != digits or not _HEX.fullmatch(value):
        raise _refused("a field has the wrong type")
    return value


def _depth(data: bytes) -> int:
    """Return how deep brackets are nested, without a parser that a deep text could break."""
    depth = deepest = 0
    for character in _STRINGS.sub(b"", data):
        if character in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in b"]}":
            depth -= 1
    return deepest
