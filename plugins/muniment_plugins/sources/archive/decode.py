"""How do the bytes of stored versions become one record?"""

from collections.abc import Iterator

from attrs import frozen

from muniment import Chunk, Origin, Record, RecordError, Rejected
from muniment.merge import merge_records
from muniment_plugins.formats.cut import Piece


@frozen
class Stored:
    """The versions of one conversation, oldest first, each with the label of its file."""

    versions: tuple[tuple[str, Piece], ...]


@frozen
class Row:
    """A conversation of a database, packed."""

    number: int
    label: str
    record: bytes


def decode(chunk: Chunk) -> Iterator[Record | Rejected]:
    """Yield a record for each `Stored` or `Row` of a chunk."""
    for item in chunk.data:
        if isinstance(item, Row):
            yield _from_row(item, chunk.partition.id)
        else:
            yield from _from_versions(item, chunk.partition.id)


def _from_row(row: Row, partition: str) -> Record | Rejected:
    import msgspec

    from muniment.canonical import record_from_json
    from muniment_plugins.sinks.sqlite.encode import decompress

    origin = Origin(row.label, partition, row.number, row.number)
    try:
        return record_from_json(decompress(row.record), origin)
    except msgspec.DecodeError as error:
        return Rejected(origin, "decode", str(error))
    except Exception as error:  # noqa: BLE001 - whatever a decompressor makes of damaged bytes
        return Rejected(origin, "decode", f"the stored record is damaged ({type(error).__name__})")


def _from_versions(stored: Stored, partition: str) -> Iterator[Record | Rejected]:
    merged: Record | None = None
    for label, piece in stored.versions:
        whole = Origin(label, partition)
        try:
            record = piece.decode(whole)
        except RecordError as error:
            yield Rejected(piece.origin(whole, failed=True), "decode", error.reason)
            continue
        merged = record if merged is None else merge_records(merged, record)
    if merged is not None:
        yield merged
