"""How do bytes wait on the disk, to be read in any order, without being readable there?

They are encrypted with a key that only this object holds, and that is gone with it.  They are not
authenticated: the file has no name, and only this process reads it.
"""

import io
import os
import shutil
import tempfile
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

_BLOCK_BYTES = 16
_COPY_BYTES = 2**20


class SealedSpool(io.RawIOBase):
    """The bytes of a stream, in a temporary file that holds ciphertext; read-only.  Not thread-safe."""

    def __init__(self, stream: BinaryIO) -> None:
        self._key = os.urandom(32)
        self._at = 0
        self._file = tempfile.TemporaryFile(prefix="muniment-")  # noqa: SIM115 - closed with this
        try:
            shutil.copyfileobj(stream, _Sealing(self._file, self._cipher(0)), _COPY_BYTES)
            self._size = self._file.tell()
        except BaseException:
            self._file.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        self._file.seek(self._at)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = self._cipher(self._at).update(data)
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _cipher(self, at: int) -> CipherContext:
        """Return what turns bytes from ``at`` on into the others, either way."""
        # Each place is written once, so no part of the key stream is used twice.
        block, inside = divmod(at, _BLOCK_BYTES)
        cipher = Cipher(AES(self._key), CTR(block.to_bytes(_BLOCK_BYTES, "big"))).encryptor()
        cipher.update(bytes(inside))
        return cipher


class _Sealing:
    def __init__(self, file: BinaryIO, cipher: CipherContext) -> None:
        self._file = file
        self._cipher = cipher

    def write(self, data: bytes) -> int:
        return self._file.write(self._cipher.update(data))
