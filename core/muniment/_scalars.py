"""How does a scalar of parsed YAML become a value of one type?  Strictly: nothing is coerced.

Every function takes the value and the type, and raises `Misfit`.
"""

import difflib
import enum
import json
import re
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import frozen

from muniment.options import is_union, type_choices, type_phrase
from muniment.secrets import Secret

OptionPath = tuple[str | int, ...]


class Reference(str):
    """Text that a reference (``${env:PORT}``) stood for.

    It may become a number or a truth value where an option wants one, if the reference was the
    ``whole`` scalar; and no message repeats it.
    """

    __slots__ = ("whole",)
    whole: bool

    def __new__(cls, text: str, whole: bool) -> "Reference":
        self = super().__new__(cls, text)
        self.whole = whole
        return self


@frozen
class Issue:
    """``always``: said even where a reference in the value failed, which is said too.  ``hides``: the
    value may be a secret, so that its line is not shown."""

    kind: Literal["unknown", "missing", "wrong"]
    text: str = ""
    path: OptionPath = ()
    names: tuple[str, ...] = ()
    always: bool = False
    hides: bool = False

    def below(self, key: str | int) -> "Issue":
        return attrs.evolve(self, path=(key, *self.path))


class Misfit(Exception):  # noqa: N818 - `structure` turns it into problems
    """A value does not fit its type, or values inside it do not."""

    def __init__(self, *issues: Issue) -> None:
        self.issues = issues


def wrong(text: str) -> Misfit:
    return Misfit(Issue("wrong", text))


def scalar(value: Any, kind: Any) -> Any:
    """Structure a class of `SCALARS`, or one that derives from it, such as a StrEnum."""
    if is_choice(kind):
        return choice(value, kind)
    return next(hook for base, hook in SCALARS.items() if base is not Any and issubclass(kind, base))(value, kind)


def is_choice(kind: Any) -> bool:
    return bool(type_choices(kind)) and not is_union(kind)


def is_pattern(kind: Any) -> bool:
    return re.Pattern in (kind, typing.get_origin(kind))


def _found(value: Any) -> str:
    """Return what ``value`` is, for "must be ..., not ..."."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a mapping")


def mismatch(value: Any, kind: Any, more: str = "") -> Misfit:
    if isinstance(value, Secret):
        return wrong("takes no secret; write the value, or `${env:NAME}`")
    if isinstance(value, Reference):
        return wrong(f"must be {type_phrase(kind)}; what its reference gives is not")
    return wrong(f"must be {type_phrase(kind)}, not {_found(value)}{more}")


def _text(value: Any, kind: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise mismatch(value, kind, "; put it in quotes" if isinstance(value, int | float) else "")


_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def _is_number_text(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, Reference) and value.whole and form.fullmatch(value) is not None


def _whole_number(value: Any, kind: Any) -> int:
    if type(value) is int:
        return value
    if _is_number_text(value, _WHOLE_NUMBER):
        return int(value)
    raise mismatch(value, kind)


def _number(value: Any, kind: Any) -> float:
    if type(value) in (int, float) or _is_number_text(value, _NUMBER):
        return float(value)
    raise mismatch(value, kind)


def _truth(value: Any, kind: Any) -> bool:
    if type(value) is bool:
        return value
    if isinstance(value, Reference) and value.whole and value in _TRUTH:
        return _TRUTH[value]
    raise mismatch(value, kind)


def _secret(value: Any, kind: Any) -> Secret:
    """Take what stands for a secret; a text here may be one, so no message repeats it."""
    if isinstance(value, Secret):
        return value
    instead = "a reference to `env`, whose value may be shown" if isinstance(value, Reference) else "the value itself"
    text = f"must name a secret: write `${{secret:env:NAME}}` or `${{secret:file:PATH}}`, not {instead}"
    raise Misfit(Issue("wrong", text, always=True, hides=True))


def _path(value: Any, kind: Any) -> Path:
    if isinstance(value, str):
        return Path(value)
    raise mismatch(value, kind)


def _datetime(value: Any, kind: Any) -> datetime:
    """Read ISO 8601; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise mismatch(value, kind, " such as `2025-01-31T18:00:00Z`") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(value: Any, kind: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise mismatch(value, kind, " such as `2025-01-31`") from None


def _anything(value: Any, kind: Any) -> Any:
    """Copy parsed YAML; references become plain text."""
    if isinstance(value, Secret):
        raise mismatch(value, kind)
    if isinstance(value, Mapping):
        return {str(k): _anything(v, None) for k, v in value.items()}
    if isinstance(value, list):
        return [_anything(v, None) for v in value]
    return str(value) if isinstance(value, str) else value


SCALARS: dict[Any, Callable[[Any, Any], Any]] = {
    str: _text,
    bool: _truth,
    int: _whole_number,
    float: _number,
    Path: _path,
    datetime: _datetime,
    date: _date,
    Secret: _secret,
    Any: _anything,
    object: _anything,
}


def pattern(value: Any, kind: Any) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise mismatch(value, kind)
    try:
        return re.compile(str(value))
    except re.error as error:
        raise wrong(f"is not a regular expression: {error}") from None


def choice(value: Any, kind: Any) -> Any:
    values = typing.get_args(kind) or tuple(kind)
    for candidate in values:
        plain = candidate.value if isinstance(candidate, enum.Enum) else candidate
        if plain == value and (type(plain) is type(value) or isinstance(value, str)):
            return candidate
    if isinstance(value, Reference) or not isinstance(value, str | int | float):
        raise mismatch(value, kind)
    match = difflib.get_close_matches(str(value), type_choices(kind), n=1)
    hint = f"; did you mean `{match[0]}`?" if match else ""
    raise wrong(f"must be {type_phrase(kind)}, not `{json.dumps(value).strip(chr(34))}`{hint}")
