"""Where does a JSON value end, in data that is still being inflated?

`msgspec` skips a JSON value in C; asked to decode more than one value it names the byte where the second
starts, and that is the end of the first.  Two kinds of values it refuses although they are sound: lone
surrogates (``"\\ud83d"``) and deep nesting.  For those, and should a later version word its error
differently, brackets and strings are followed by a regular expression instead.
"""

import re

import msgspec

from muniment.canonical import loads
from muniment_plugins.sources.chatgpt_export.window import Window

MAX_ODD_BYTES = 16 << 20
"""Of JSON that only Python's parser takes, which makes up to ten times its size of it."""

_MAX_OTHER_BYTES = 1 << 20  # of a value that is no object, so no conversation
_LONGEST_TOKEN = 32
_MAX_DEPTH, _MAX_CANDIDATE_DEPTH = 200_000, 2000  # nothing decodes a hundredth of the first
_MAX_BRACKETS = 4_000_000  # followed in search of the next conversation, so that time stays linear: two seconds

_OPEN, _BRACE, _QUOTE, _BACKSLASH = b'[{"\\'
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_MALFORMED_AT = re.compile(r"\(byte (\d+)\)")
LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|[c-fC-F](?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]))"
)
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL)
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^"{}\[\], \t\r\n]++', re.DOTALL)

_skip = msgspec.json.Decoder(msgspec.Raw).decode


class MalformedError(Exception):
    """No JSON value ends here.  ``cut_off``: because the data does."""

    def __init__(self, reason: str, *, cut_off: bool = False) -> None:
        self.reason = reason
        self.cut_off = cut_off
        super().__init__(reason)


class Ends:
    """Finds the ends of the values in a window.

    ``recovering`` says that a conversation is searched for in what is no JSON: then ``brackets`` counts those
    that were followed.  ``scans`` is how often they were followed at all.
    """

    __slots__ = ("brackets", "max_bytes", "recovering", "scans", "window")

    def __init__(self, window: Window, max_bytes: int) -> None:
        self.window = window
        self.max_bytes = max_bytes
        self.recovering = False
        self.scans = self.brackets = 0

    def separator(self, start: int) -> int:
        """Return the place of the first byte behind the value at ``start`` that is not blank.

        Raises:
            MalformedError: no value stands there, or it does not end.
        """
        window = self.window
        first = window.byte_at(start)
        if first == -1:
            raise MalformedError("the file ends where a conversation should begin", cut_off=True)
        again = False
        searched = start
        while True:
            message = self._skip_value(start)
            held = window.end - start
            if message is None:
                if window.ended:
                    return window.end
                if first == _BRACE:
                    # It is whole, and only blanks were seen behind it.
                    return window.skip_blanks(window.trim(start, window.end), keep=True)
            elif not message:
                if not _ERROR_NAMES_END:
                    return self._follow_brackets(start)
                return self._follow_brackets(start, check=False)
            elif match := _TRAILING.search(message):
                if _ERROR_NAMES_END:
                    return start + int(match[1]) - 1
                return self._follow_brackets(start)
            elif "truncated" in message:
                if again or window.ended:
                    if self._has_lone_surrogate(searched, window.end):
                        return self._follow_brackets(start)
                    searched = max(start, window.end - _LONGEST_TOKEN)
                if window.ended:
                    raise MalformedError("the file ends inside the conversation", cut_off=True)
            else:
                match = _MALFORMED_AT.search(message)
                at = start + int(match[1]) if match else window.end
                # A number that the window cuts (`1.`) is malformed to msgspec, not truncated.
                if window.ended or at + _LONGEST_TOKEN < window.end:
                    if self._has_lone_surrogate(start, at + _LONGEST_TOKEN):
                        return self._follow_brackets(start)
                    raise MalformedError(f"not JSON at byte {at}")
            self._grow(first, held, 1 if not again else held)
            again = True

    def _skip_value(self, start: int) -> str | None:
        """Return what msgspec says about the value at ``start``; nothing where it is nested too deeply;
        None if it ends where the window does."""
        with memoryview(self.window.buffer) as view, view[start - self.window.base :] as rest:
            try:
                _skip(rest)
            except RecursionError:
                return ""
            except msgspec.DecodeError as error:
                return str(error)
        return None

    def _has_lone_surrogate(self, start: int, end: int) -> bool:
        base, buffer = self.window.base, self.window.buffer
        found = LONE_SURROGATE.finditer(buffer, start - base, end - base)
        return any(not _is_escaped(buffer, match.start()) for match in found)

    def _grow(self, first: int, held: int, amount: int) -> None:
        most = self.max_bytes if first == _BRACE else _MAX_OTHER_BYTES
        if held > most:
            raise MalformedError(f"does not end within {most >> 20} MiB")
        self.window.fill(min(amount, most + 1 - held))

    def _follow_brackets(self, start: int, *, check: bool = True) -> int:
        """Do what `separator` does, by brackets and strings alone; parse the value to ``check`` it."""
        window = self.window
        self.scans += 1
        end = self._bracket_end(start)
        if check and end - start <= MAX_ODD_BYTES:
            try:
                loads(window.cut(start, end))
            except msgspec.DecodeError:
                raise MalformedError("not JSON") from None
        return window.skip_blanks(end, keep=True)

    def _bracket_end(self, start: int) -> int:
        window = self.window
        first = window.byte_at(start)
        if first not in (_BRACE, _OPEN):
            return self._scalar_end(start, first)
        at, depth = start, 0
        while not (self.recovering and self.brackets > _MAX_BRACKETS + window.end):
            offset = at - window.base
            match = _TO_BRACKET.match(window.buffer, offset)
            offset = match.end() if match else offset
            if offset >= len(window.buffer) or window.buffer[offset] == _QUOTE:
                if window.ended:
                    raise MalformedError("the file ends inside the conversation", cut_off=True)
                held = window.end - start
                self._grow(first, held, held)
                continue
            depth += 1 if window.buffer[offset] in (_BRACE, _OPEN) else -1
            if depth > (_MAX_CANDIDATE_DEPTH if self.recovering else _MAX_DEPTH):
                raise MalformedError("nested too deeply")
            self.brackets += self.recovering
            at = window.base + offset + 1
            if depth == 0:
                return at
        raise MalformedError("not JSON")

    def _scalar_end(self, start: int, first: int) -> int:
        window = self.window
        while True:
            match = _SCALAR.match(window.buffer, start - window.base)
            if match is not None and (match.end() < len(window.buffer) or window.ended):
                return window.base + match.end()
            if window.ended:
                raise MalformedError("not JSON")
            held = window.end - start
            self._grow(first, held, held)


def _is_escaped(data: bytearray, at: int) -> bool:
    """Tell whether a backslash stands behind an odd number of others, so that it begins no escape."""
    before = at
    while before and data[before - 1] == _BACKSLASH:
        before -= 1
    return (at - before) % 2 == 1


def _error_names_end() -> bool:
    """Tell whether msgspec's error still names the byte behind the first of two values."""
    for data, offset in ((b'{"a":[1,"]"]} , 2', 14), (b"1,", 1), (b'"\\"",', 4)):
        try:
            _skip(data)
        except msgspec.DecodeError as error:
            match = _TRAILING.search(str(error))
            if match is None or int(match[1]) - 1 != offset:
                return False
        else:
            return False
    return True


_ERROR_NAMES_END = _error_names_end()
