"""How are batches of rows written as Parquet files, in bounded memory?"""

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from muniment import TablePart
from muniment.objects import ByteStream
from muniment_plugins.formats.parquet.schema import LOW_CARDINALITY, WITHOUT_STATISTICS, codecs, schemas

_ROW_GROUP_BYTES = 16 * 2**20
_ZSTD_LEVEL = 3
_WRITE_BYTES = 1 << 18


class ParquetPart(TablePart):
    """A file per table; rows wait until they are a row group."""

    def __init__(self, streams: Mapping[str, ByteStream]) -> None:
        self._files = {table: _File(table, _Buffered(stream)) for table, stream in streams.items()}

    @property
    def held(self) -> int:
        return sum(f.waiting_bytes for f in self._files.values())

    def add(self, batch: Any) -> None:
        for table, file in self._files.items():
            file.add(batch.tables[table])

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


@define(eq=False)
class _File:
    table: str
    stream: "_Buffered"
    waiting: list[Any] = field(factory=list)
    waiting_bytes: int = 0
    writer: Any = None

    def add(self, rows: Any) -> None:
        if rows.num_rows:
            self.waiting.append(rows)
            self.waiting_bytes += rows.nbytes
            if self.waiting_bytes >= _ROW_GROUP_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what waits as a row group."""
        import pyarrow as pa

        if self.waiting:
            rows = pa.Table.from_batches(self.waiting)
            self.waiting, self.waiting_bytes = [], 0
            self._opened().write_table(rows, row_group_size=rows.num_rows)

    def close(self) -> None:
        self.flush()
        self._opened().close()
        self.stream.flush()

    def _opened(self) -> Any:
        import pyarrow.parquet as pq

        if self.writer is None:
            schema = schemas()[self.table]
            self.writer = pq.ParquetWriter(
                self.stream,
                schema,
                compression=codecs(self.table),
                compression_level={name: _ZSTD_LEVEL for name, codec in codecs(self.table).items() if codec == "zstd"},
                use_dictionary=LOW_CARDINALITY[self.table],
                write_statistics=[name for name in schema.names if name not in WITHOUT_STATISTICS],
                write_page_checksum=True,
            )
        return self.writer


class _Buffered:
    """A file object to Parquet's writer, whose many small writes are put together."""

    closed = False

    def __init__(self, below: ByteStream) -> None:
        self._below = below
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._at = 0

    def write(self, data: bytes) -> int:
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._at += len(data)
        if self._pending_bytes >= _WRITE_BYTES:
            self.flush()
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        data, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        if data:
            self._below.write(data)

    def close(self) -> None:
        """The stream is closed by who gave it."""
