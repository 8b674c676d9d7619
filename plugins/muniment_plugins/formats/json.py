"""All conversations in one JSON array, whole."""

from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from attrs import frozen

from muniment import AssetLinks, Format, Origin, Record
from muniment.canonical import record_in_pieces, record_to_json
from muniment_plugins.formats.cut import cut_array


@frozen(kw_only=True)
class JSONArray(Format):
    """A JSON array with one conversation per line.  Nothing is left out."""

    suffix: ClassVar[str] = ".json"
    media_type: ClassVar[str] = "application/json"
    reads_back: ClassVar[bool] = True

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        return record_to_json(record)

    def encode_in_pieces(self, record: Record, links: AssetLinks) -> Iterator[bytes]:
        yield from record_in_pieces(record)

    def header(self) -> bytes:
        return b"[\n"

    def separator(self) -> bytes:
        return b",\n"

    def footer(self) -> bytes:
        return b"\n]\n"

    def decode(self, stream: BinaryIO, origin: Origin) -> Iterator[Record]:
        """Yield the records, also of an array that another tool has laid out anew.

        Raises:
            RecordError: an element is not a record, or the array is cut off.
        """
        for piece in cut_array(stream):
            yield piece.decode(origin)
