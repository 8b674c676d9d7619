"""How does what one large record becomes wait in memory?  Compressed, and given out piece by piece."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from attrs import frozen

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 1
_OUT_BYTES = 2**20
_ROWS_TOGETHER = 1000

_encode_rows = msgspec.msgpack.Encoder().encode
_decode_rows = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode

Row = tuple[Any, ...]


@frozen
class PackedBytes:
    """Bytes that are never whole: iterating gives them in pieces of at most a megabyte, ``len`` their number."""

    blocks: tuple[bytes, ...]
    size: int

    @classmethod
    def of(cls, pieces: Iterable[bytes | memoryview]) -> "PackedBytes":
        compressor = zstd.ZstdCompressor(_LEVEL)
        blocks: list[bytes] = []
        size = 0
        for piece in pieces:
            size += len(piece)
            if block := compressor.compress(piece):
                blocks.append(block)
        blocks.append(compressor.flush())
        return cls(tuple(blocks), size)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        decompressor = zstd.ZstdDecompressor()
        for block in self.blocks:
            data = decompressor.decompress(block, _OUT_BYTES)
            while data:
                yield data
                if decompressor.needs_input or decompressor.eof:
                    break
                data = decompressor.decompress(b"", _OUT_BYTES)


@frozen
class PackedRows:
    """Rows of JSON scalars that are never all there: iterating makes them anew, as tuples."""

    blocks: tuple[bytes, ...]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Row]:
        for block in self.blocks:
            yield from _decode_rows(zstd.decompress(block))


class RowPacker:
    """Takes rows as they are made, and holds few of them as they are."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._held: list[Row] = []
        self._count = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Take some rows, not more than one likes to hold."""
        self._held += rows
        if len(self._held) >= _ROWS_TOGETHER:
            self._pack()

    def packed(self) -> PackedRows:
        """Return all that was taken."""
        self._pack()
        return PackedRows(tuple(self._blocks), self._count)

    def _pack(self) -> None:
        if self._held:
            self._blocks.append(zstd.compress(_encode_rows(self._held), _LEVEL))
            self._count += len(self._held)
            self._held = []
