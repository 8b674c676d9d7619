"""How is a stream of our JSON cut into records, one at a time, in bounded memory?"""

import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec
from attrs import frozen

from muniment import Origin, Record, RecordError
from muniment.canonical import record_from_json

_WINDOW = 1 << 18
_BLANK = b" \t\r\n"
# The last alternative is a string whose end is not in the window yet.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"|[\[\]{}]|"', re.DOTALL)

_OPENING, _CLOSING = (b"{", b"["), (b"}", b"]")


@frozen
class Piece:
    """The JSON of one record, and where it stood: byte offsets in the inflated stream."""

    start: int
    end: int
    data: bytes

    def origin(self, whole: Origin, *, failed: bool = False) -> Origin:
        """Return where this piece of ``whole`` is, with its digest if something went wrong there."""
        digest = hashlib.sha256(self.data).hexdigest() if failed else ""
        return Origin(whole.label, whole.partition, self.start, self.end, digest)

    def decode(self, whole: Origin) -> Record:
        """Return the record.

        Raises:
            RecordError: these bytes are not one; the message has the byte range, never the text.
        """
        try:
            return record_from_json(self.data, self.origin(whole))
        except msgspec.DecodeError as error:
            raise RecordError(f"{whole.label}: bytes {self.start} to {self.end}: {error}") from error


def cut_lines(stream: BinaryIO) -> Iterator[Piece]:
    """Yield what stands on each line that is not blank."""
    start = 0
    for line in iter(stream.readline, b""):
        data = line.strip(_BLANK)
        if data:
            yield Piece(start, start + len(line), data)
        start += len(line)


def cut_array(stream: BinaryIO) -> Iterator[Piece]:
    """Yield the elements of a JSON array, or of JSON values in a row; any layout.

    Where every element has a line to itself, as we write it, a broken one spoils no other.

    Raises:
        RecordError: the stream ends in the middle of the array (after what could be cut).
    """
    head = stream.readline(3)
    if head == b"[\n":
        following = stream.readline(2)
        if following == b'{"':
            return _cut_our_lines(stream, len(head), following)
        head += following
    return _cut_values(stream, head)


def _cut_our_lines(stream: BinaryIO, start: int, head: bytes) -> Iterator[Piece]:
    closed = False
    for line in iter(stream.readline, b""):
        end = start + len(head) + len(line)
        data = (head + line).rstrip(_BLANK)
        closed = data == b"]"
        if not closed and data:
            yield Piece(start, end, data.removesuffix(b","))
        start, head = end, b""
    if not closed:
        raise RecordError(f"the JSON array is cut off at byte {start}")


def _cut_values(stream: BinaryIO, buffer: bytes) -> Iterator[Piece]:
    offset = position = depth = edge = 0  # `edge`: where the last element, or the opening bracket, ended
    base = begin = -1  # of the depth that elements stand in; of where the open element starts
    window = _WINDOW
    more = True
    while more:
        read = stream.read(window)
        more = bool(read)
        buffer += read
        before = position
        for token in _TOKEN.finditer(buffer, position):
            sign = token[0]
            if sign == b'"':
                position = token.start()
                break
            position = token.end()
            if sign in _OPENING:
                if base < 0:
                    base = 1 if sign == b"[" else 0
                if begin < 0 and depth <= base:
                    yield from _between(buffer, edge, token.start(), offset)
                    begin, edge = (token.start(), edge) if depth == base else (-1, position)
                depth += 1
            elif sign in _CLOSING:
                if depth == 0:
                    raise RecordError(f"the JSON has a bracket too many at byte {offset + token.start()}")
                depth -= 1
                if depth == base and begin >= 0:
                    yield Piece(offset + begin, offset + position, buffer[begin:position])
                    begin, edge = -1, position
                elif begin < 0:
                    yield from _between(buffer, edge, token.start(), offset)
                    edge = position
        # A long string is scanned again with every window, so the windows grow.
        window = window * 2 if position == before else _WINDOW
        keep = edge if begin < 0 else begin
        buffer, offset, position, edge = buffer[keep:], offset + keep, position - keep, 0
        begin = min(begin, 0)
    if depth:
        raise RecordError(f"the JSON is cut off at byte {offset + len(buffer)}")
    yield from _between(buffer, edge, len(buffer), offset)


def _between(buffer: bytes, start: int, end: int, offset: int) -> Iterator[Piece]:
    """Yield what stands between two elements and is no comma: it is no record, but nothing gets lost."""
    data = buffer[start:end].strip(_BLANK + b",")
    if data:
        yield Piece(offset + start, offset + end, data)
