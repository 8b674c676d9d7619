"""How do bytes become encrypted while they are written, and plain while they are read, at any place?"""

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from muniment.crypto.chunks import CHUNK_BYTES, CUT_OFF, PREFIX_BYTES, SEALED_BYTES, ChunkCipher, last_chunk
from muniment.crypto.header import read_fully
from muniment.errors import DamagedError, FatalError
from muniment.objects import ByteStream

# 64 KiB: pieces that stay in the cache; with 1 MiB at once, fresh memory costs more than the encryption.
_CHUNKS_WRITTEN_AT_ONCE = 4
_CHUNKS_READ_AT_ONCE = 16


class EncryptingStream:
    """Encrypts what is written to it; the end of the message is written by `close`.

    ``begin`` is called before the first byte is written: it returns what stands before the message,
    and the message's cipher.  After an error, and in a forked child, the stream refuses to go on.
    """

    def __init__(self, below: ByteStream, begin: Callable[[], tuple[bytes, ChunkCipher]]) -> None:
        self._below = below
        self._begin = begin
        self._cipher: ChunkCipher | None = None
        self._next = 0
        self._held = bytearray()
        self._process = os.getpid()
        self._usable = True

    def write(self, data: bytes) -> None:
        self._check_usable()
        view = memoryview(data).cast("B")
        try:
            if self._held:
                missing = CHUNK_BYTES - len(self._held)
                self._held += view[:missing]
                view = view[missing:]
                if len(self._held) < CHUNK_BYTES:
                    return
                self._seal(memoryview(bytes(self._held)))
                self._held.clear()
            whole = len(view) - len(view) % CHUNK_BYTES
            step = _CHUNKS_WRITTEN_AT_ONCE * CHUNK_BYTES
            for start in range(0, whole, step):
                self._seal(view[start : min(start + step, whole)])
            self._held += view[whole:]
        except BaseException:
            self._usable = False
            raise

    def close(self) -> None:
        """End the message and close what lies below."""
        if self._usable and self._next < 0:
            return
        self._check_usable()
        self._usable = False
        self._seal(memoryview(bytes(self._held)), last=True)
        self._held.clear()
        self._below.close()
        self._next, self._usable = -1, True

    def _seal(self, chunks: memoryview, *, last: bool = False) -> None:
        """Write whole chunks, or the last one, which may be empty."""
        pieces: list[bytes] = []
        cipher = self._cipher
        if cipher is None:
            before, cipher = self._begin()
            self._cipher = cipher
            pieces += [before, cipher.prefix]
        first = self._next
        count = 1 if last else len(chunks) // CHUNK_BYTES
        # Counted before anything is written: a number is never used twice.
        self._next += count
        for i in range(count):
            pieces.append(cipher.seal(first + i, chunks[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]))
        self._below.write(b"".join(pieces))

    def _check_usable(self) -> None:
        if self._process != os.getpid():
            # Parent and child would encrypt different text under the same key and nonce.
            raise FatalError("an encrypted object is written by one process; the other begins its own")
        if not self._usable or self._next < 0:
            raise FatalError("an encrypted object was not written to its end; run the same command again to resume")


class DecryptingStream(io.RawIOBase):
    """Reads a message whose prefix ``stream`` stands behind; seeks where ``stream`` does.

    Nothing is handed out before its chunk was verified, and no read says that the message ends
    before its last chunk was.  After an error every read fails.  `close` closes ``stream``.

    Raises:
        DamagedError: from reads and seeks: a chunk is not what was written, or the end is missing.
    """

    def __init__(self, stream: BinaryIO, cipher: ChunkCipher) -> None:
        self._stream = stream
        self._cipher = cipher
        self._seekable = stream.seekable() if hasattr(stream, "seekable") else False
        self._start = stream.tell() if self._seekable else 0
        self._position = 0
        self._chunk = 0  # where the stream below stands
        self._plain = b""
        self._plain_start = 0
        self._size: int | None = None
        self._failure: DamagedError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if not self._seekable:
            raise io.UnsupportedOperation("seek")
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._find_size()
        if offset < 0:
            raise ValueError("negative seek position")
        self._position = offset
        return offset

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer).cast("B")
        if not target:
            return 0
        if not self._holds_position() and not self._load(len(target)):
            return 0
        start = self._position - self._plain_start
        count = min(len(target), len(self._plain) - start)
        target[:count] = memoryview(self._plain)[start : start + count]
        self._position += count
        return count

    def readall(self) -> bytes:
        pieces = []
        while data := self.read(_CHUNKS_READ_AT_ONCE * CHUNK_BYTES):
            pieces.append(data)
        return b"".join(pieces)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._plain = b""
            self._stream.close()

    def _holds_position(self) -> bool:
        return 0 <= self._position - self._plain_start < len(self._plain)

    def _load(self, size: int) -> bool:
        """Hold the verified text at the position; False where the message ends before it."""
        if self._failure is not None:
            raise self._failure
        index, within = divmod(self._position, CHUNK_BYTES)
        if self._size is not None and self._position >= self._size:
            return False
        count = min((within + size - 1) // CHUNK_BYTES + 1, _CHUNKS_READ_AT_ONCE)
        try:
            if not self._read_chunks(index, count):
                if not (index and self._seekable):
                    raise DamagedError(CUT_OFF)
                # Behind the end: there is one only if the last chunk says so.
                self._find_size()
        except DamagedError as error:
            self._failure = error
            raise
        return self._holds_position()

    def _find_size(self) -> int:
        """Return the length of the message: the last chunk, verified in its place, says it."""
        if self._failure is not None:
            raise self._failure
        if self._size is None:
            end = self._stream.seek(0, os.SEEK_END)
            self._chunk = -1
            try:
                self._read_chunks(last_chunk(end - self._start + PREFIX_BYTES), 1)
                if self._size is None:
                    raise DamagedError(CUT_OFF)
            except DamagedError as error:
                self._failure = error
                raise
        return self._size

    def _read_chunks(self, index: int, count: int) -> bool:
        """Verify and hold up to ``count`` chunks from ``index`` on; False where the stream has nothing.

        Where a later one is damaged, those before it are held, and the next read fails.
        """
        if self._chunk != index:
            self._stream.seek(self._start + index * SEALED_BYTES)
        sealed = memoryview(read_fully(self._stream, count * SEALED_BYTES))
        self._chunk = index + count if len(sealed) == count * SEALED_BYTES else -1
        if not sealed:
            return False
        plain: list[bytes] = []
        try:
            for i in range(min(count, len(sealed) // SEALED_BYTES + 1)):
                plain.append(self._cipher.open(index + i, sealed[i * SEALED_BYTES : (i + 1) * SEALED_BYTES]))
        except DamagedError as error:
            if not plain:
                raise
            self._failure = error
        else:
            if len(sealed) < count * SEALED_BYTES:
                self._size = (index + len(plain) - 1) * CHUNK_BYTES + len(plain[-1])
        self._plain, self._plain_start = b"".join(plain), index * CHUNK_BYTES
        return True
