"""What does a condition such as ``model starts with gpt and messages > 2`` mean?"""

import operator
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from muniment import Conversation

Condition = Callable[[Conversation], bool]

_AND = re.compile(r"""\s+and\s+(?=(?:[^"]*"[^"]*")*[^"]*$)""")
_WORDS = re.compile(r"(\w+)\s+(.*)", re.DOTALL)


def parse(text: str) -> Condition:
    """Return the function that says whether a conversation fulfils ``text``.

    Conditions are joined by ``and``; each is a field, an operator and a value (in double quotes
    where it holds ``and``).  Text is compared without regard to case.

    Raises:
        ValueError: it is no condition; the message says what is.
    """
    conditions = [_condition(part.strip()) for part in _AND.split(text.strip())]
    return lambda conversation: all(c(conversation) for c in conditions)


def parse_time(text: str) -> datetime:
    """Return the time that ISO 8601 text means; without a zone it is UTC.

    Raises:
        ValueError: it is something else.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{text}` is no date such as `2025-01-31` or `2025-01-31T18:00:00Z`") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def models_of(conversation: Conversation) -> set[str]:
    """Return the models that a conversation names, its own and those of its messages."""
    return {m for m in (conversation.model, *(x.model for x in conversation.messages)) if m}


def _condition(text: str) -> Condition:
    words = _WORDS.fullmatch(text)
    if words is None:
        raise ValueError(f"`{text}` is no condition; write one such as `model starts with gpt`")
    field, rest = words.groups()
    if field not in _FIELDS:
        raise ValueError(f"there is no field `{field}`; use {_listed(_FIELDS)}")
    get, operators, convert = _FIELDS[field]
    for name in sorted(operators, key=len, reverse=True):
        after = rest[len(name) :]
        if rest.startswith(name) and (not after[:1].isalpha() or not name[-1].isalpha()):
            value = convert(_unquoted(after.strip()))
            return operators[name](get, value)
    raise ValueError(f"`{text}`: after `{field}` must stand {_listed(operators)}")


def _unquoted(value: str) -> str:
    if not value:
        raise ValueError("a value is missing at the end")
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# --- operators: each makes a condition from what gets the field's values, and the value ---------


def _any_text(test: Callable[[str, str], bool]) -> Callable[..., Condition]:
    def make(get: Callable[[Conversation], Iterable[str]], value: str) -> Condition:
        wanted = value.casefold()
        return lambda conversation: any(test(text.casefold(), wanted) for text in get(conversation))

    return make


def _not_equal(get: Callable[[Conversation], Iterable[str]], value: str) -> Condition:
    wanted = value.casefold()
    return lambda conversation: all(text.casefold() != wanted for text in get(conversation))


def _matches(get: Callable[[Conversation], Iterable[str]], value: str) -> Condition:
    try:
        pattern = re.compile(value, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"`{value}` is not a regular expression: {error}") from None
    return lambda conversation: any(pattern.search(text) for text in get(conversation))


def _compares(test: Callable[[Any, Any], bool]) -> Callable[..., Condition]:
    """Make an operator of numbers or times; what has none fulfils nothing."""

    def make(get: Callable[[Conversation], Any], value: Any) -> Condition:
        def holds(conversation: Conversation) -> bool:
            found = get(conversation)
            return found is not None and test(found, value)

        return holds

    return make


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"`{text}` is no whole number") from None


_TEXT: dict[str, Callable[..., Condition]] = {
    "is": _any_text(operator.eq),
    "is not": _not_equal,
    "contains": _any_text(operator.contains),
    "starts with": _any_text(str.startswith),
    "ends with": _any_text(str.endswith),
    "matches": _matches,
}
_TIME = {"before": _compares(operator.lt), "after": _compares(operator.ge)}
_COUNT = {
    "is": _compares(operator.eq),
    "<": _compares(operator.lt),
    "<=": _compares(operator.le),
    ">": _compares(operator.gt),
    ">=": _compares(operator.ge),
}
_FIELDS: dict[str, tuple[Callable[[Conversation], Any], dict[str, Callable[..., Condition]], Callable[[str], Any]]] = {
    "title": (lambda c: (c.title or "",), _TEXT, str),
    "model": (models_of, _TEXT, str),
    "source": (lambda c: (c.source,), _TEXT, str),
    "account": (lambda c: (c.account or "",), _TEXT, str),
    "id": (lambda c: (c.id,), _TEXT, str),
    "created": (lambda c: c.created_at, _TIME, parse_time),
    "updated": (lambda c: c.updated_at, _TIME, parse_time),
    "messages": (lambda c: len(c.messages), _COUNT, _number),
}
