"""How does a whole record stand in a row?  As its JSON line, a zstd frame of its own."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Level 1: a record holds text twice (canonical and raw); the second time costs a long match, at any level.
_LEVEL = 1

# One for the process: making its tables anew for each record would cost a sixth of the compression.
_compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.compression_level: _LEVEL})


def compress(line: bytes) -> bytes:
    """Return a record's JSON as a frame."""
    return _compressor.compress(line, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress(frame: bytes) -> bytes:
    """Return what `compress` was given.

    Raises:
        ZstdError: the bytes are damaged.
    """
    return zstd.decompress(frame)
