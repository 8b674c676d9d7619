"""Where does one conversation end and the next begin, in JSON that is still being inflated?

What is no JSON becomes a rejected byte range; cutting goes on at the next value that is a conversation.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from enum import Enum

import msgspec
from attrs import field, frozen

from muniment.canonical import loads
from muniment_plugins.sources.chatgpt_export.ends import LONE_SURROGATE, MAX_ODD_BYTES, Ends, MalformedError
from muniment_plugins.sources.chatgpt_export.window import Window

MAX_CONVERSATION_BYTES = 64 << 20
"""A larger value is rejected unless more is allowed: it would have to be held in memory whole."""

_HELD_BYTES = 64 << 10  # at the end of a range that was not cut yet: what may belong to its end
_LOOK_AHEAD_BYTES, _LOOK_AHEAD_VALUES = 1 << 20, 64
_DENSE_BYTES = 2 << 20  # from here on it matters how many values there are
# What looking for the next conversation may cost, so that time stays linear; some two seconds each.  Beyond it
# all that is left is one rejected range.
_DEEP_CANDIDATES = 1000  # each costs a thousand levels of nesting
_MAX_CANDIDATES, _MAX_LIKELY_CANDIDATES = 100_000, 300_000
_BYTES_PER_CANDIDATE = 200  # so many more are looked at in more data
_MAX_HEAD_BYTES = 16 << 20  # of what stands before the array

_COMMA, _OPEN, _CLOSE, _BRACE, _END_BRACE, _QUOTE = b',[]{}"'
_CANDIDATE = re.compile(rb",[ \t\r\n]*+(?=\{)")
_LIKELY_CANDIDATE = re.compile(
    rb",[ \t\r\n]*+(?=\{[ \t\r\n]*+"
    rb'"(?:title|(?:create|update)_time|(?:conversation_)?id|mapping|current_node|moderation_results)")'
)
_KEY = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)


class Shape(Enum):
    """What the JSON is at its top."""

    ARRAY = "array"  # [conversation, ...]
    WRAPPED = "wrapped"  # {"conversations": [conversation, ...], ...}
    SINGLE = "single"  # conversation


@frozen
class Piece:
    """A value of the array, or a range that holds none.

    ``data`` is ``bytes`` from ``start`` to ``end``; without it the range is rejected for ``reason``, and
    ``digest`` is its SHA-256.  Cutting can be taken up again at ``next``; where that is None only behind
    the piece that follows.
    """

    start: int
    end: int
    next: int | None
    data: bytes | None = field(default=None, repr=False)
    reason: str = ""
    digest: str = ""


class NotJSONError(Exception):
    """The data does not begin as an array or an object."""


def find_start(blocks: Iterable[bytes]) -> tuple[Shape, int]:
    """Return the shape, and the byte where the first value stands (or the bracket that closes the array).

    Raises:
        NotJSONError: neither an array nor an object begins here.
    """
    window = Window(blocks, 0)
    window.fill(3)
    at = window.skip_blanks(3 if window.buffer.startswith(b"\xef\xbb\xbf") else 0)
    mark = window.byte_at(at)
    if mark == _OPEN:
        return Shape.ARRAY, window.skip_blanks(at + 1)
    if mark == _BRACE:
        return _Cutter(window, Shape.SINGLE).find_array(at)
    raise NotJSONError


def split(
    blocks: Iterable[bytes], shape: Shape, at: int, *, resumed: bool = False, max_bytes: int | None = None
) -> Iterator[Piece]:
    """Cut an array into its values, in order and without gaps but for separators.

    Args:
        blocks: the data from byte ``at`` on, in any sizes.
        shape: what `find_start` said.
        at: where `find_start` said that the first value stands, or with ``resumed`` a `Piece.next`.
        resumed: ``at`` stands behind a comma.
        max_bytes: of a value; `MAX_CONVERSATION_BYTES` if None.
    """
    cutter = _Cutter(Window(blocks, at), shape, MAX_CONVERSATION_BYTES if max_bytes is None else max_bytes)
    return cutter.single(at) if shape is Shape.SINGLE else cutter.array(at, resumed)


def is_conversation(data: bytes) -> bool:
    """Tell whether ``data`` is an object with the keys of a conversation."""
    try:
        keys = _decode_keys(data)
    except RecursionError:
        return b'"mapping"' in data
    except (msgspec.DecodeError, UnicodeDecodeError):
        if not LONE_SURROGATE.search(data):
            return False
        if len(data) > MAX_ODD_BYTES:
            return b'"mapping"' in data
        try:
            value = loads(data)
        except msgspec.DecodeError:
            return False
        if not isinstance(value, dict):
            return False
        names = value.keys()
        return bool({"mapping", "current_node"} & names or names >= {"conversation_id", "title", "create_time"})
    unset = msgspec.UNSET
    if keys.mapping is not unset or keys.current_node is not unset:
        return True
    return unset not in (keys.conversation_id, keys.title, keys.create_time)


class _Keys(msgspec.Struct):
    mapping: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    current_node: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    conversation_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    title: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    create_time: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_keys = msgspec.json.Decoder(_Keys).decode


class _Cutter:
    """Cuts one array."""

    __slots__ = ("candidates", "ends", "shape", "window")

    def __init__(self, window: Window, shape: Shape, max_bytes: int = MAX_CONVERSATION_BYTES) -> None:
        self.window = window
        self.shape = shape
        self.ends = Ends(window, max_bytes)
        self.candidates = 0  # places that were looked at while recovering

    # --- the three shapes

    def find_array(self, start: int) -> tuple[Shape, int]:
        """Tell whether the object at ``start`` is a wrapper, and where its array begins."""
        window = self.window
        at = window.skip_blanks(start + 1, keep=True)
        while window.byte_at(at) == _QUOTE and at - start < _MAX_HEAD_BYTES:
            window.fill(_LOOK_AHEAD_BYTES - (window.end - at))
            key = _KEY.match(window.buffer, at - window.base)
            if key is None:
                break
            at = window.base + key.end()
            if key[1] == b"conversations" and window.byte_at(at) == _OPEN:
                return Shape.WRAPPED, window.skip_blanks(at + 1)
            if key[1] in (b"mapping", b"current_node", b"conversation_id"):
                break
            try:
                separator = self.ends.separator(at)
            except MalformedError:
                break
            if window.byte_at(separator) != _COMMA:
                break
            at = window.skip_blanks(separator + 1, keep=True)
        return Shape.SINGLE, start

    def single(self, start: int) -> Iterator[Piece]:
        window = self.window
        try:
            separator = self.ends.separator(start)
        except MalformedError as error:
            yield self._rest(start, error)
            return
        end = window.trim(start, separator)
        whole = window.byte_at(separator) == -1
        yield Piece(start, end, window.end if whole else None, *self._value(start, end))
        if not whole:
            yield self._rest(separator, MalformedError("data behind the end of the JSON"))

    def array(self, at: int, resumed: bool) -> Iterator[Piece]:
        window = self.window
        at = window.skip_blanks(at)
        if not resumed and window.byte_at(at) == _CLOSE and self._closes(at):
            return
        if resumed and window.byte_at(at) == -1:
            return
        while True:
            window.drop(at)
            start = at
            try:
                separator = self.ends.separator(start)
            except MalformedError as error:
                piece = self._rejected(start, error)
                yield piece
                at = piece.next or window.end
                if at >= window.end and window.ended:
                    return
                continue
            mark = window.byte_at(separator)
            end = window.trim(start, separator)
            data, reason, digest = self._value(start, end)
            if mark == _COMMA:
                window.drop(separator)
                at = window.skip_blanks(separator + 1)
                yield Piece(start, end, at, data, reason, digest)
                continue
            if mark == _CLOSE and self._closes(separator):
                yield Piece(start, end, self._exhaust(), data, reason, digest)
                return
            # A value that is no conversation may have swallowed the bracket of the array, and conversations.
            kept = data is None or is_conversation(data)
            if kept:
                yield Piece(start, end, None, data, reason, digest)
            if kept and mark == -1:
                yield self._empty(window.end, "the file ends inside the array")
                return
            stray = MalformedError("something else than a comma or the end of the array follows", cut_off=mark == -1)
            piece = self._rejected(separator if kept else start, stray, at_start=kept)
            yield piece
            at = piece.next or window.end
            if at >= window.end and window.ended:
                return

    def _value(self, start: int, end: int) -> tuple[bytes | None, str, str]:
        """Return a value's bytes, or why it is rejected and its digest: as a `Piece` has them."""
        window = self.window
        if end - start < _DENSE_BYTES or not window.is_dense(start, end):
            return window.cut(start, end), "", ""
        digest = hashlib.sha256()
        window.feed(digest, start, end)
        return None, "it holds more values than any conversation of its size", digest.hexdigest()

    # --- where the array ends

    def _closes(self, bracket: int) -> bool:
        """Tell whether the ``]`` at ``bracket`` ends the array, rather than being one too many."""
        window = self.window
        at = window.skip_blanks(bracket + 1, keep=True)
        mark = window.byte_at(at)
        if self.shape is Shape.WRAPPED:
            if mark == _COMMA:
                mark = window.byte_at(window.skip_blanks(at + 1, keep=True))
                return mark == _QUOTE
            return mark in (_END_BRACE, -1)
        return mark == -1

    def _exhaust(self) -> int:
        """Take the data to its end, so that whoever inflates it checks its sum; return that end."""
        window = self.window
        while not window.ended:
            window.drop(window.end)
            window.fill(1)
        return window.end

    # --- what is no value

    def _empty(self, at: int, reason: str) -> Piece:
        return Piece(at, at, at, None, reason, hashlib.sha256().hexdigest())

    def _rejected(self, start: int, error: MalformedError, *, at_start: bool = False) -> Piece:
        """Return the range from ``start`` to the next conversation; its ``next`` is that conversation.

        ``at_start``: that may stand at ``start``, where only the comma before it is missing.
        """
        window = self.window
        digest = hashlib.sha256()
        hashed = at = start
        self.ends.recovering = True
        try:
            if at_start and window.byte_at(start) == _BRACE and self._is_next(start):
                return self._empty(start, error.reason)
            while True:
                more = window.end // _BYTES_PER_CANDIDATE
                if self.candidates > _MAX_LIKELY_CANDIDATES + more:
                    break
                few = self.ends.scans < _DEEP_CANDIDATES + more // 1000 and self.candidates < _MAX_CANDIDATES + more
                pattern = _CANDIDATE if few else _LIKELY_CANDIDATE
                match = pattern.search(window.buffer, at - window.base)
                if match is None:
                    if window.ended:
                        break
                    at = max(at, window.end - _HELD_BYTES)
                    if at > hashed:
                        window.feed(digest, hashed, at)
                        window.drop(at)
                        hashed = at
                    window.fill(1)
                    continue
                comma, at = window.base + match.start(), window.base + match.end()
                self.candidates += 1
                if self._is_next(at):
                    end = max(window.trim(hashed, comma), hashed)
                    window.feed(digest, hashed, end)
                    return Piece(start, end, at, None, error.reason, digest.hexdigest())
        finally:
            self.ends.recovering = False
        hashed = self._drain(digest, hashed)
        end = self._end_of_rest(hashed, error)
        window.feed(digest, hashed, end)
        return Piece(start, end, window.end, None, error.reason, digest.hexdigest())

    def _rest(self, start: int, error: MalformedError) -> Piece:
        """Return all that is left as one rejected range."""
        window = self.window
        digest = hashlib.sha256()
        hashed = self._drain(digest, start)
        end = window.trim(hashed, window.end)
        window.feed(digest, hashed, end)
        return Piece(start, end, window.end, None, error.reason, digest.hexdigest())

    def _drain(self, digest: "hashlib._Hash", hashed: int) -> int:
        """Take the data to its end, all but the last of it into ``digest``; return where that begins."""
        window = self.window
        while not window.ended:
            upto = max(hashed, window.end - _HELD_BYTES)
            window.feed(digest, hashed, upto)
            window.drop(upto)
            hashed = upto
            window.fill(1)
        return hashed

    def _end_of_rest(self, hashed: int, error: MalformedError) -> int:
        """Return the end of a rejected range behind which no conversation came: before the brackets that
        end the data, unless they belong to a value that the data cuts off."""
        window = self.window
        end = window.trim(hashed, window.end)
        if error.cut_off:
            return end
        for bracket in (_END_BRACE, _CLOSE) if self.shape is Shape.WRAPPED else (_CLOSE,):
            if end > hashed and window.buffer[end - 1 - window.base] == bracket:
                end = window.trim(hashed, end - 1)
        return end

    def _is_next(self, start: int) -> bool:
        """Tell whether a conversation of this array, and not one inside something else, starts here."""
        try:
            separator = self.ends.separator(start)
        except MalformedError:
            return False
        window = self.window
        if not is_conversation(window.cut(start, separator)):
            return False
        return not self._is_nested(separator)

    def _is_nested(self, at: int) -> bool:
        """Follow the values behind ``at`` to the end of their array: is it the array of the file?"""
        window = self.window
        limit = at + _LOOK_AHEAD_BYTES
        for _ in range(_LOOK_AHEAD_VALUES):
            mark = window.byte_at(at)
            if mark == _CLOSE:
                return not self._closes(at) and self._goes_on_around(at)
            if mark != _COMMA:
                return False
            at = window.skip_blanks(at + 1, keep=True)
            if at > limit or window.byte_at(at) != _BRACE:
                return False
            try:
                separator = self.ends.separator(at)
            except MalformedError:
                return False
            if not is_conversation(window.cut(at, separator)):
                return False
            at = separator
        return False

    def _goes_on_around(self, bracket: int) -> bool:
        """Tell whether what follows a ``]`` goes on with an object or array around it."""
        window = self.window
        at = window.skip_blanks(bracket + 1, keep=True)
        if window.byte_at(at) == _COMMA:
            return window.byte_at(window.skip_blanks(at + 1, keep=True)) == _QUOTE
        return window.byte_at(at) in (_END_BRACE, _CLOSE)
