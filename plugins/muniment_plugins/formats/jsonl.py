"""One conversation per line, whole: the format to keep, and to read back."""

from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from attrs import frozen

from muniment import AssetLinks, Format, Origin, Record
from muniment.canonical import record_in_pieces, record_to_json
from muniment_plugins.formats.cut import cut_lines


@frozen(kw_only=True)
class JSONLines(Format):
    """JSON Lines: each line is one conversation with its raw JSON.  Nothing is left out."""

    suffix: ClassVar[str] = ".jsonl"
    media_type: ClassVar[str] = "application/jsonl"
    reads_back: ClassVar[bool] = True

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        return record_to_json(record) + b"\n"

    def encode_in_pieces(self, record: Record, links: AssetLinks) -> Iterator[bytes]:
        yield from record_in_pieces(record)
        yield b"\n"

    def decode(self, stream: BinaryIO, origin: Origin) -> Iterator[Record]:
        """Yield the records, line by line.

        Raises:
            RecordError: a line is not a record; the message names its bytes.
        """
        for piece in cut_lines(stream):
            yield piece.decode(origin)
