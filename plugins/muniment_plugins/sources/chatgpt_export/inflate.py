"""How are a zip member's bytes inflated, checked and kept within bounds?

`isal` inflates three times as fast as zlib; where it is not installed zlib does the same.
"""

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from muniment import InputError

try:
    from isal import igzip_lib, isal_zlib

    _zlib: Any = isal_zlib
    _errors: Any = (isal_zlib.error, igzip_lib.IsalError, zlib.error)
except ImportError:
    _zlib = zlib
    _errors = (zlib.error,)

crc32 = _zlib.crc32

STORED, DEFLATED = 0, 8

BLOCK_BYTES = 1 << 20
"""No block that `inflate` yields is larger."""

_INPUT_BYTES = 256 << 10


def inflate(file: BinaryIO, packed: int, method: int, size: int, crc: int, what: str) -> Iterator[bytes]:
    """Yield the content of a zip member in blocks of at most `BLOCK_BYTES`; close ``file`` at the end.

    Args:
        file: stands at the first byte of the member's data.
        packed: bytes of data in the zip.
        method: `STORED` or `DEFLATED`.
        size: what the directory promises; more is never yielded, whatever the data inflates to.
        crc: CRC-32 of the content; known to be right only when the last block was taken.
        what: names member and zip in messages.

    Raises:
        InputError: the data ends early, cannot be inflated, or has another size or CRC.
    """
    checked = total = 0
    with file:
        try:
            for block in _raw(file, packed, what) if method == STORED else _inflated(file, packed, what):
                total += len(block)
                if total > size:
                    raise InputError(f"{what} holds more than the {size} bytes that the zip's directory names; "
                                     "it was tampered with: download it again")  # fmt: skip
                checked = crc32(block, checked)
                yield block
        except _errors:
            raise InputError(f"{what} is damaged behind byte {total}: download it again") from None
    if total != size or checked != crc:
        raise InputError(f"{what} is damaged (its checksum does not match): download it again")


def _raw(file: BinaryIO, left: int, what: str) -> Iterator[bytes]:
    while left:
        block = file.read(min(left, BLOCK_BYTES))
        if not block:
            raise InputError(f"{what} is cut off: download it again")
        left -= len(block)
        yield block


def _inflated(file: BinaryIO, left: int, what: str) -> Iterator[bytes]:
    inflater = _zlib.decompressobj(-15)
    while left and not inflater.eof:
        data = file.read(min(left, _INPUT_BYTES))
        if not data:
            raise InputError(f"{what} is cut off: download it again")
        left -= len(data)
        while data:
            block = inflater.decompress(data, BLOCK_BYTES)
            if block:
                yield block
            data = inflater.unconsumed_tail
    # What the inflater still holds after its input has ended comes in capped steps, too.
    while not inflater.eof:
        block = inflater.decompress(b"", BLOCK_BYTES)
        if not block:
            raise InputError(f"{what} is cut off: download it again")
        yield block
    if left or inflater.unused_data:
        raise InputError(f"{what} has something behind its end, so the zip was tampered with: download it again")
