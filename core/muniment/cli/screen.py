"""How does something reach a person's terminal?  Harmless, aligned, and never in the way of a pipe."""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click

# Control characters (an escape sequence can rewrite a terminal), marks that turn the direction of
# text (they can make a line read as something else), line separators, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)

_MOST_CHARACTERS = 8  # in a terminal cell, on average


def clean(text: str) -> str:
    """Return ``text`` without what could change more of a terminal than the place where it stands."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n"))


def line(text: str) -> str:
    """Return ``text`` clean and on one line."""
    return " ".join(clean(text).split())


def out(text: str = "") -> None:
    """Print to standard output.  Styles must have been added after `clean`."""
    _print(text, sys.stdout)


def note(text: str) -> None:
    """Print to standard error."""
    _print(text, sys.stderr)


def error(text: str) -> None:
    """Print ``error: <text>`` to standard error."""
    note(f"{click.style('error:', fg='red', bold=True)} {clean(text)}")


def out_json(value: Any) -> None:
    """Print a JSON value; what `clean` would remove is escaped instead."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    out(_UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", text))


def columns(rows: Iterable[Sequence[str]], *, indent: str = "  ", right: Sequence[int] = ()) -> list[str]:
    """Return lines whose cells stand in columns; ``right`` are the columns set flush right."""
    table = [[line(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = []
        for place, (cell, wide) in enumerate(zip(row, widths, strict=True)):
            blank = " " * (wide - width(cell))
            cells.append(blank + cell if place in right else cell + blank)
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines


def width(text: str) -> int:
    """Return how many terminal cells ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, cells: int) -> str:
    """Return the beginning of ``text`` that fits in ``cells``, with an ellipsis where some is left out."""
    # Marks that take no cell of their own could go on for ever.
    most = cells * _MOST_CHARACTERS
    if len(text) <= most and width(text) <= cells:
        return text
    used = 0
    for place, character in enumerate(text[: most + 1]):
        used += width(character)
        if used >= cells or place == most:
            return f"{text[:place].rstrip()}…"
    return f"{text[:most].rstrip()}…"


def terminal_width() -> int:
    """Return the cells of a line: of the terminal, at most 120; 100 where there is none."""
    import shutil

    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def drop_unwritable_output() -> None:
    """Flush; where the reader of a pipe has gone, make the interpreter's own last flush harmless."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _print(text: str, stream: TextIO) -> None:
    try:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        click.echo(text, file=stream, color=False if os.environ.get("NO_COLOR") else None)
    except BrokenPipeError:
        # `| head` has seen enough; the exit code still tells how the command ended.
        _discard(stream)


def _discard(stream: TextIO) -> None:
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)
