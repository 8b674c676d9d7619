"""Tables of conversations and of messages, for DuckDB, Spark, pandas and everything that reads Parquet."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, ClassVar, Literal

from attrs import field, frozen

from muniment import AssetLinks, Origin, Record, TableFormat, TablePart, option
from muniment.objects import ByteStream

TableName = Literal["conversations", "messages"]


def _in_order(names: Sequence[TableName]) -> tuple[TableName, ...]:
    return tuple(name for name in ("conversations", "messages") if name in names) or tuple(names)


@frozen(kw_only=True)
class Parquet(TableFormat):
    """Apache Parquet: a row per conversation with the whole record, and a row per message.

    Partitioned as Hive does it, by source and by the month in which a conversation began.  Columns
    hold U+FFFD where the source has a lone surrogate; the record keeps the original.
    """

    suffix: ClassVar[str] = ".parquet"
    media_type: ClassVar[str] = "application/vnd.apache.parquet"
    default_key: ClassVar[str] = "{table}/source={source}/month={year_month}/{part}"

    tables: tuple[TableName, ...] = option(
        "Which tables are made; `conversations` is what can be read back.",
        default=("conversations", "messages"),
        converter=_in_order,
    )
    raw: bool = option("Keep the raw JSON of the source in the record.", default=True)

    @property
    def reads_back(self) -> bool:  # type: ignore[override]
        return "conversations" in self.tables

    @property
    def table_names(self) -> tuple[str, ...]:
        return self.tables

    def check(self) -> Iterable[str]:
        if not self.tables:
            yield "`tables` must name `conversations`, `messages` or both"
        if importlib.util.find_spec("pyarrow") is None:
            yield "format `parquet` needs pyarrow: pip install 'muniment[parquet]'"

    def encode_batch(self, records: Sequence[Record], links: AssetLinks) -> "Rows":
        from muniment_plugins.formats.parquet.rows import encode

        made, ends = encode(records, links, self.tables, raw=self.raw)
        return Rows(made, ends)

    def select(self, batch: "Rows", records: Sequence[int]) -> "Rows":
        import pyarrow as pa

        chosen: dict[str, Any] = {}
        ends: list[int] = []
        places: list[int] = []
        for index in records:
            places += range(batch.ends[index - 1] if index else 0, batch.ends[index])
            ends.append(len(places))
        for name, rows in batch.tables.items():
            chosen[name] = rows.take(pa.array(places if name == "messages" else records, pa.int64()))
        return Rows(chosen, ends)

    def join(self, batches: "Sequence[Rows]") -> "Rows":
        import pyarrow as pa

        if len(batches) == 1:
            return batches[0]
        ends: list[int] = []
        for batch in batches:
            start = ends[-1] if ends else 0
            ends += [start + end for end in batch.ends]
        # Table by table, so that not everything is there twice.
        return Rows({name: pa.concat_batches([b.tables.pop(name) for b in batches]) for name in self.tables}, ends)

    def size_of(self, batch: "Rows") -> int:
        return sum(rows.nbytes for rows in batch.tables.values())

    def begin(self, streams: Mapping[str, ByteStream]) -> TablePart:
        from muniment_plugins.formats.parquet.write import ParquetPart

        return ParquetPart(streams)

    def decode(self, stream: BinaryIO, origin: Origin) -> Iterator[Record]:
        from muniment_plugins.formats.parquet.read import records

        return records(stream, origin)


@frozen
class Rows:
    """Records as rows: an Arrow record batch for each table; ``ends`` is where each record's messages end."""

    tables: dict[str, Any] = field()
    ends: list[int] = field()
