"""How is an object named?  By a template whose values stay inside their folder.

``{part}`` and ``{table}`` are filled in where a part is begun; all else comes from the conversation.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC

from attrs import frozen

from muniment import names
from muniment.model import Record

UNDATED = "undated"
"""What stands for the date of a conversation that has none."""
UNKNOWN = "unknown"
"""What stands for an empty source or account."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_MAX_SEGMENT_BYTES = 200
_TITLE_BYTES = 80
_FORMAT_BYTES = 20
_RESERVED = (".muniment", "assets")


@frozen
class _Value:
    """What a placeholder gives, and how many bytes it has at most."""

    of: Callable[[Record, str], str]
    max_bytes: int


def _date(form: str) -> Callable[[Record, str], str]:
    def text(record: Record, _: str) -> str:
        created_at = record.conversation.created_at
        return UNDATED if created_at is None else form.format(created_at.astimezone(UTC))

    return text


_VALUES: dict[str, _Value] = {
    "source": _Value(lambda r, _: names.confined(r.conversation.source or UNKNOWN, 60), 60),
    "account": _Value(lambda r, _: names.confined(r.conversation.account or UNKNOWN, 80), 80),
    "year": _Value(_date("{0.year:04}"), 7),
    "month": _Value(_date("{0.month:02}"), 7),
    "day": _Value(_date("{0.day:02}"), 7),
    "year_month": _Value(_date("{0.year:04}-{0.month:02}"), 7),
    "format": _Value(lambda _, name: names.confined(name, _FORMAT_BYTES), _FORMAT_BYTES),
}
_MIRROR_VALUES: dict[str, _Value] = {
    "title": _Value(lambda r, _: names.clean(r.conversation.title or "", _TITLE_BYTES), _TITLE_BYTES),
    "id": _Value(lambda r, _: names.digits(r.key), 12),
}
_LATER = {"part": 64, "table": 40}
_TELLING = ("title", "account")
_PSEUDONYM_BYTES = 32


@frozen
class KeyTemplate:
    """A template that `problems` has nothing to say about."""

    text: str

    @property
    def depth(self) -> int:
        """How many folders an object stands in."""
        return self.text.count("/")

    def prefixes(self, tables: Sequence[str] = ()) -> tuple[str, ...]:
        """Return what the names of all objects begin with, one of these."""
        expanded = [self.text.replace("{table}", t) for t in tables] or [self.text]
        return tuple(dict.fromkeys(text.partition("{")[0] for text in expanded))

    def fill(self, record: Record, format_name: str, *, but: str = "") -> str:
        """Return the name of a record's object; ``{part}``, ``{table}`` and ``but`` are left in it."""

        def value(found: "re.Match[str]") -> str:
            if found[0] == but:
                return but
            known = _VALUES.get(found[1]) or _MIRROR_VALUES.get(found[1])
            return known.of(record, format_name) if known else found[0]

        return _PLACEHOLDER.sub(value, self.text)


def problems(
    text: str, *, mode: str, ending: str, tables: Sequence[str] = (), encrypted: bool = False
) -> Iterator[str]:
    """Yield what is wrong with a template, one sentence each.  ``ending`` is what names must end in."""
    known = {**{n: v.max_bytes for n, v in _VALUES.items()}}
    known |= {n: v.max_bytes for n, v in _MIRROR_VALUES.items()} if mode == "mirror" else {"part": _LATER["part"]}
    if tables:
        known["table"] = _LATER["table"]
    if encrypted and "id" in known:
        known["id"] = _PSEUDONYM_BYTES
    found = _PLACEHOLDER.findall(text)
    for name in dict.fromkeys(found):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{{{close[0]}}}`?" if close else "known are " + _listed(known)
            yield f"`key` has an unknown placeholder `{{{name}}}`; {hint}"
    if any(name not in known for name in found):
        return
    if encrypted and (telling := next((n for n in found if n in _TELLING), None)):
        yield f"`key` must not hold `{{{telling}}}` with `encryption`: names are not encrypted"
    if set(_PLACEHOLDER.sub("", text)) & {"{", "}"}:
        yield "`key` has a brace that belongs to no placeholder"
        return
    yield from _wrong_place(text, found, mode, ending, tables)
    yield from _wrong_path(text, known)


def _wrong_place(text: str, found: list[str], mode: str, ending: str, tables: Sequence[str]) -> Iterator[str]:
    if mode == "mirror":
        if not re.search(r"(^|[-/])\{id\}" + re.escape(ending) + "$", text):
            yield f"`key` must end in `{{id}}{ending}` behind a `/` or `-`, which keeps conversations apart"
    elif "part" not in found:
        yield "`key` must hold `{part}`, which keeps the parts apart"
    elif not text.endswith(ending):
        yield f"`key` must end in `{ending}`, as the format and the compression do"
    if len(tables) > 1 and "table" not in found:
        yield "`key` must hold `{table}`, which keeps the tables apart: " + ", ".join(f"`{t}`" for t in tables)
    if mode == "append" and text.startswith("{") and not text.startswith("{table}"):
        yield "`key` must begin with a literal prefix, such as `chats/`"


def _wrong_path(text: str, known: dict[str, int]) -> Iterator[str]:
    filled = _PLACEHOLDER.sub("x", text)
    segments = filled.split("/")
    if any(s in ("", ".", "..") for s in segments) or set(filled) & {"\0", "\\"}:
        yield "`key` must be a relative path with `/` between its pieces, none of them empty, `.` or `..`"
    elif segments[0] in _RESERVED or segments[0].startswith("."):
        yield f"`key` must not stand in `{segments[0]}`, which belongs to muniment; choose another folder"
    longest = max(
        len(_PLACEHOLDER.sub("", s).encode()) + sum(known[n] for n in _PLACEHOLDER.findall(s)) for s in text.split("/")
    )
    if longest > _MAX_SEGMENT_BYTES:
        yield f"a piece of `key` could have {longest} bytes between two `/`; at most {_MAX_SEGMENT_BYTES} are safe"


def _listed(known: dict[str, int]) -> str:
    return ", ".join(f"`{{{name}}}`" for name in known)
