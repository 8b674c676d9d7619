"""Which part of the data is held while it streams by?"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import hashlib

MAX_BLANK_BYTES = 16 << 20
"""So many blanks are skipped while what stands before them has to be kept."""

_BLANK = b" \t\r\n"
_TRIMMED_BYTES = 64  # looked at together; mostly one is enough
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BLANK = re.compile(rb"[^ \t\r\n]")


class Window:
    """The part of the data that is held.  All places are absolute: bytes from the start of the data."""

    __slots__ = ("base", "blocks", "buffer", "ended")

    def __init__(self, blocks: Iterable[bytes], base: int) -> None:
        self.blocks = iter(blocks)
        self.buffer = bytearray()
        self.base = base
        self.ended = False

    @property
    def end(self) -> int:
        return self.base + len(self.buffer)

    def fill(self, amount: int) -> None:
        """Hold at least ``amount`` bytes more, or all that is left."""
        while amount > 0 and not self.ended:
            block = next(self.blocks, None)
            if block is None:
                self.ended = True
            else:
                self.buffer += block
                amount -= len(block)

    def drop(self, upto: int) -> None:
        if upto > self.base:
            del self.buffer[: upto - self.base]
            self.base = upto

    def byte_at(self, at: int) -> int:
        """Return the byte at ``at``, or -1 behind the end of the data."""
        while at >= self.end:
            if self.ended:
                return -1
            self.fill(1)
        return self.buffer[at - self.base]

    def skip_blanks(self, at: int, *, keep: bool = False) -> int:
        """Return the place of the first byte from ``at`` on that is not blank, or the end of the data.

        Without ``keep`` everything before it may be dropped; with it the search ends after
        `MAX_BLANK_BYTES`, at a blank.
        """
        start = at
        while True:
            match = _NO_BLANK.search(self.buffer, at - self.base)
            if match is not None:
                return self.base + match.start()
            at = max(at, self.end)
            if self.ended or (keep and at - start > MAX_BLANK_BYTES):
                return at
            if not keep:
                self.drop(at)
            self.fill(1)

    def trim(self, start: int, end: int) -> int:
        """Return where the blanks before ``end`` begin, but not less than ``start``."""
        low, at = start - self.base, end - self.base
        while at > low:
            first = max(low, at - _TRIMMED_BYTES)
            kept = len(self.buffer[first:at].rstrip(_BLANK))
            if kept:
                return self.base + first + kept
            at = first
        return self.base + at

    def feed(self, digest: "hashlib._Hash", start: int, end: int) -> None:
        """Add bytes to a digest, without a copy of them."""
        with memoryview(self.buffer) as view, view[start - self.base : end - self.base] as part:
            digest.update(part)

    def is_dense(self, start: int, end: int) -> bool:
        """Tell whether JSON has more values than one for five bytes: it is built of empty ones, each of which
        takes thirty times its bytes when it is decoded."""
        low, high = start - self.base, end - self.base
        most = (high - low) // 5
        signs = self._signs(low, high)
        if signs <= most:
            return False
        # What was said may well hold such signs.
        return signs - sum(self._signs(*m.span()) for m in _STRING.finditer(self.buffer, low, high)) > most

    def _signs(self, start: int, end: int) -> int:
        return sum(self.buffer.count(sign, start, end) for sign in (b",", b"[", b"{"))

    def cut(self, start: int, end: int) -> bytes:
        with memoryview(self.buffer) as view:
            return bytes(view[start - self.base : end - self.base])
