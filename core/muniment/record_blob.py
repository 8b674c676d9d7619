"""How does one value hold a record whole and exact?  Canonical JSON with the raw JSON, a zstd frame of its own."""

import sys

import msgspec

from muniment.canonical import record_from_json, with_raw
from muniment.model import Origin, Raw, Record

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Level 1: the blob holds text twice (canonical and raw); the second time costs a long match, at any level.
_LEVEL = 1
# One for the process: making its tables anew for each record would cost a sixth of the compression.
_compressor = zstd.ZstdCompressor(_LEVEL)


class DamagedBlobError(ValueError):
    """The bytes of a stored record are not what `blob_of` has made."""


def blob_of(line: bytes, raw: Raw | None) -> bytes:
    """Return the blob of a record: ``line`` is the canonical JSON of its conversation."""
    return compress(with_raw(line, raw))


def compress(line: bytes) -> bytes:
    """Return a record's JSON as a zstd frame of its own."""
    return _compressor.compress(line, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress(blob: bytes) -> bytes:
    """Return what `compress` was given.

    Raises:
        DamagedBlobError: the bytes are damaged.
    """
    try:
        return zstd.decompress(blob)
    except (zstd.ZstdError, EOFError) as error:
        raise DamagedBlobError from error


def record_from_blob(blob: bytes, origin: Origin) -> Record:
    """Return the record of a blob.

    Raises:
        DamagedBlobError: the bytes are not such a record.
    """
    try:
        return record_from_json(decompress(blob), origin)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedBlobError from error
