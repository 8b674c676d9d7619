"""How is each record of an object sealed under a key of its own, which can be destroyed alone?

An object of frames is encrypted as a whole like any other; what comes out of it are frames: the names
of its keys, the texts round its records, and each record in pieces that only its key opens.  The keys
lie in an object of their own below `KEYS`.
"""

import base64
import io
import json
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from attrs import define, field

from muniment.crypto.chunks import KEY_BYTES, open_message, seal_message
from muniment.crypto.envelope import decrypt_bytes
from muniment.crypto.header import read_fully
from muniment.crypto.keyring import Keyring
from muniment.errors import DamagedError
from muniment.objects import ByteStream

KEYS = ".muniment/keys/"
"""Where the keys of records lie, each object of them beside the one whose records it opens."""
FRAMES_TYPE = "application/vnd.muniment.frames"
KEYS_TYPE = "application/vnd.muniment.keys"

_PIECE_BYTES = 2**20
_LABEL = b"muniment/v1/frame\0"
_HEAD = struct.Struct(">cI")
_ID_BYTES = 32
_NAME, _BETWEEN, _TEXT, _RECORD, _MORE = b"k", b"b", b"t", b"r", b"m"
_MAX_BYTES = 2**26


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def encode_keys(name: str, keys: Mapping[str, bytes]) -> bytes:
    """Return the object ``name`` of keys, by what the records are called (64 hex digits)."""
    texts = {record: base64.b64encode(key).decode("ascii") for record, key in sorted(keys.items())}
    return json.dumps({"keys": texts, "name": name, "version": 1}, separators=(",", ":")).encode("ascii")


def decode_keys(name: str, data: bytes) -> dict[str, bytes]:
    """Return what `encode_keys` was given.

    Raises:
        DamagedError: it is something else, or of another name.
    """
    try:
        value = json.loads(data)
        keys = {record: base64.b64decode(text, validate=True) for record, text in value["keys"].items()}
        if value["version"] == 1 and value["name"] == name and all(len(key) == KEY_BYTES for key in keys.values()):
            return keys
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise DamagedError(f"`{name}` holds no keys of its records, or those of another object; restore it from a copy")


@define(eq=False)
class KeyObjects:
    """The keys of records, read as they are needed.  ``noted`` are those of objects that nobody can open yet."""

    open: Callable[[str], BinaryIO]
    keyring: Keyring
    noted: dict[str, dict[str, bytes]] = field(factory=dict)
    _last: tuple[str, dict[str, bytes]] = ("", {})

    def of(self, name: str) -> dict[str, bytes]:
        """Return the keys of an object.

        Raises:
            DamagedError: it is missing, or not what was written.
        """
        if name in self.noted:
            return self.noted[name]
        if self._last[0] != name:
            self._last = name, self.read(name)
        return self._last[1]

    def read(self, name: str) -> dict[str, bytes]:
        if not name.startswith(KEYS):
            raise DamagedError("the encrypted data names no keys of its records")
        try:
            with self.open(name) as stream:
                data = stream.read()
        except (FileNotFoundError, ValueError):
            raise DamagedError(f"`{name}` is missing, whose keys open the records; restore it from a copy") from None
        return decode_keys(name, decrypt_bytes(data, self.keyring))


class FrameWriter:
    """Writes the frames of an object whose keys are to be found at ``name``."""

    def __init__(self, below: ByteStream, name: str) -> None:
        self._below = below
        self._context = _LABEL + name.encode("utf-8", "surrogatepass") + b"\0"
        self._count = 0
        self._write(_NAME, name.encode("utf-8", "surrogatepass"))

    def text(self, data: bytes) -> None:
        """Add what stands there whether records can be read or not."""
        self._write(_TEXT, data)

    def between(self, data: bytes) -> None:
        """Say what stands between two records from here on."""
        self._write(_BETWEEN, data)

    def record(self, record: str, key: bytes) -> "ByteStream":
        """Return what takes the bytes of the next record; the next thing is written when it was closed."""
        return _RecordStream(self, bytes.fromhex(record), key)

    def sealed(self, kind: bytes, record: bytes, key: bytes, data: bytes) -> None:
        self._write(kind, record + seal_message(key, _place(self._context, record, self._count, kind), data))

    def _write(self, kind: bytes, data: bytes) -> None:
        self._count += 1
        self._below.write(_HEAD.pack(kind, len(data)) + data)


class _RecordStream:
    def __init__(self, writer: FrameWriter, record: bytes, key: bytes) -> None:
        self._writer = writer
        self._record = record
        self._key = key
        self._kind = _RECORD
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= _PIECE_BYTES:
            self._seal(bytes(self._held[:_PIECE_BYTES]))
            del self._held[:_PIECE_BYTES]

    def close(self) -> None:
        self._seal(bytes(self._held))

    def _seal(self, data: bytes) -> None:
        self._writer.sealed(self._kind, self._record, self._key, data)
        self._kind = _MORE


class JoinedStream(io.RawIOBase):
    """What the frames of ``stream`` come to, without the records whose keys are destroyed.  `seek` reads again.

    Raises:
        DamagedError: from reads: a frame is not what was written there, or the keys are missing.
    """

    def __init__(self, stream: BinaryIO, keys: KeyObjects) -> None:
        self._stream = stream
        self._keys = keys
        self._begin()

    def _begin(self) -> None:
        self._position = self._count = 0
        self._plain = memoryview(b"")
        self._context = self._between = b""
        self._opening: Mapping[str, bytes] = {}
        self._has_record = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            raise io.UnsupportedOperation("seek from the end")
        if offset < self._position:
            self._stream.seek(0)
            self._begin()
        while self._position < offset and self.read(min(offset - self._position, _PIECE_BYTES)):
            pass
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        while target and not self._plain:
            if not (head := read_fully(self._stream, _HEAD.size)):
                return 0
            if len(head) != _HEAD.size:
                raise _cut()
            self._take(*_HEAD.unpack(head))
        count = min(len(target), len(self._plain))
        target[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.close()

    def _take(self, kind: bytes, size: int) -> None:
        self._count += 1
        if size > _MAX_BYTES:
            raise _cut()
        data = read_fully(self._stream, size)
        if len(data) != size:
            raise _cut()
        if kind == _NAME:
            self._context = _LABEL + data + b"\0"
            self._opening = self._keys.of(data.decode("utf-8", "surrogatepass"))
        elif kind == _BETWEEN:
            self._between = data
        elif kind == _TEXT:
            self._plain = memoryview(data)
        elif kind in (_RECORD, _MORE):
            self._open(kind, data[:_ID_BYTES], data[_ID_BYTES:])
        else:
            raise _cut()

    def _open(self, kind: bytes, record: bytes, sealed: bytes) -> None:
        key = self._opening.get(record.hex())
        if key is None:
            return
        plain = open_message(key, _place(self._context, record, self._count - 1, kind), sealed)
        if plain is None:
            raise DamagedError("an encrypted record is damaged, or stands in the wrong place; restore it from a copy")
        if kind == _RECORD and self._has_record:
            plain = self._between + plain
        self._has_record = True
        self._plain = memoryview(plain)


def joined(stream: BinaryIO, keys: KeyObjects) -> BinaryIO:
    """Return what the frames of a decrypted object come to; it closes with ``stream``."""
    made: Any = io.BufferedReader(JoinedStream(stream, keys), 2**18)
    return made  # type: ignore[no-any-return]


def _place(context: bytes, record: bytes, count: int, kind: bytes) -> bytes:
    return context + record + struct.pack(">Qc", count, kind)


def _cut() -> DamagedError:
    return DamagedError("the frames of the encrypted data are damaged; restore it from a copy")
