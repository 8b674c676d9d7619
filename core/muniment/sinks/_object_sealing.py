"""How are records written that are sealed each under a key of its own, and where are these keys?"""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from muniment.components import Format
from muniment.crypto import SUFFIX
from muniment.crypto.frames import FRAMES_TYPE, KEYS, KEYS_TYPE, FrameWriter, encode_keys, new_key
from muniment.objects import ByteStream, Compression, ObjectStream, compressed, compressing
from muniment.sinks._object_payload import ID_DIGITS
from muniment.sinks.cover import Cover
from muniment.storage import Staged

if TYPE_CHECKING:
    from muniment.packed import PackedBytes


def keys_of_part(name: str) -> str:
    """Return where the keys of a part's records lie."""
    return KEYS + name


def keys_of_record(record: str) -> str:
    """Return where the key of a record lies that is an object of its own; ``record`` is its pseudonym."""
    return f"{KEYS}{record[:ID_DIGITS]}{SUFFIX}"


class SealedPart:
    """A part whose records are sealed one by one; ``keys`` opens them, by what they are called."""

    held = 0

    def __init__(self, stream: ObjectStream, form: Format, compression: Compression, name: str) -> None:
        self.keys: dict[str, bytes] = {}
        self.name = keys_of_part(name)
        self._stream = stream
        self._frames = FrameWriter(stream, self.name)
        self._form = form
        self._compression: Compression = compression
        # Written even if it is empty: without any record the whole is still something to decompress.
        self._frames.text(compressed(form.header(), compression))
        if separator := form.separator():
            self._frames.between(compressed(separator, compression))

    def add(self, pieces: "Iterable[tuple[str, bytes | PackedBytes]]") -> None:
        """Add records, each with what it is called."""
        for record, piece in pieces:
            key = self.keys.setdefault(record, new_key())
            stream = compressing(self._compression, threaded=False)(self._frames.record(record, key))
            for some in (piece,) if isinstance(piece, bytes) else piece:
                stream.write(some)
            stream.close()

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        if footer := self._form.footer():
            self._frames.text(compressed(footer, self._compression))
        self._stream.close()


def sealed_object(piece: bytes, record: str, key: bytes, cover: Cover) -> bytes:
    """Return an object that holds one whole document, which ``key`` opens."""
    buffer = _Buffer()
    stream: ByteStream = FrameWriter(buffer, keys_of_record(record)).record(record, key)
    stream.write(piece)
    stream.close()
    return cover.sealed(buffer.getvalue(), FRAMES_TYPE)


def write_keys(staged: Staged, name: str, keys: dict[str, bytes], cover: Cover) -> tuple[ObjectStream, dict[str, Any]]:
    """Write the object of keys ``name``; return it with what a manifest says of it."""
    stream = ObjectStream(staged)
    try:
        stream.write(cover.sealed(encode_keys(name, keys), KEYS_TYPE))
        stream.close()
    except BaseException:
        stream.discard()
        raise
    return stream, {"name": name, "size": stream.size, "sha256": stream.sha256, "records": []}


class _Buffer(io.BytesIO):
    def close(self) -> None:
        """Stay readable."""
