"""How do the records of a file come back?"""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from muniment import Origin, Record, RecordError
from muniment.canonical import record_from_json
from muniment.crypto.spool import SealedSpool
from muniment.record_blob import decompress

_MEMORY_BYTES = 8 * 2**20
_PIECE_BYTES = 2**20
_ROWS = 16


def records(stream: BinaryIO, origin: Origin) -> Iterator[Record]:
    """Yield the records of a file of the table ``conversations``.

    Raises:
        RecordError: it is another file.
    """
    if stream.seekable():
        yield from _records(stream, origin)
        return
    beginning = bytearray()
    while len(beginning) < _MEMORY_BYTES and (piece := stream.read(_PIECE_BYTES)):
        beginning += piece
    if len(beginning) < _MEMORY_BYTES:
        yield from _records(io.BytesIO(beginning), origin)
        return
    # What was decrypted on the way here is not to be readable on the disk.
    with io.BufferedReader(SealedSpool(cast(BinaryIO, _Behind(bytes(beginning), stream)))) as spool:
        del beginning
        yield from _records(cast(BinaryIO, spool), origin)


class _Behind:
    """A stream behind what was read of it already."""

    def __init__(self, beginning: bytes, stream: BinaryIO) -> None:
        self._beginning = beginning
        self._stream = stream

    def read(self, size: int) -> bytes:
        beginning, self._beginning = self._beginning, b""
        return beginning or self._stream.read(size)


def _records(stream: BinaryIO, origin: Origin) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise RecordError("it is no Parquet file, or is cut off") from error
    if "record" not in file.schema_arrow.names:
        raise RecordError("it has no column `record`; only the table `conversations` can be read back")
    row = 0
    for batch in file.iter_batches(_ROWS, columns=["record"]):
        for value in batch.column(0):
            where = Origin(origin.label, origin.partition, row, row + 1)
            yield record_from_json(decompress(value.as_py()), where)
            row += 1
