"""How do the records of a file come back?"""

import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from muniment import Origin, Record, RecordError
from muniment.canonical import record_from_json
from muniment_plugins.formats.parquet.record import decompress

_SPOOL_BYTES = 8 * 2**20
_ROWS = 16


def records(stream: BinaryIO, origin: Origin) -> Iterator[Record]:
    """Yield the records of a file of the table ``conversations``.

    Raises:
        RecordError: it is another file.
    """
    if stream.seekable():
        yield from _records(stream, origin)
        return
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        shutil.copyfileobj(stream, spool, 1 << 20)
        spool.seek(0)
        yield from _records(spool, origin)  # type: ignore[arg-type]


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
