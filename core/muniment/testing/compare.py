"""Are two records the same, and if not, where do they differ first?"""

from typing import Any

import msgspec

from muniment.canonical import loads
from muniment.model import Raw, Record

_SHOWN = 60


def difference(expected: Record, found: Record, *, raw: bool = True) -> str:
    """Return the first place where two records differ, with both values; empty where they do not.

    Numbers of two types differ, the order of a JSON object's keys does not.  Raw JSON is compared as
    values, and not at all without ``raw``.
    """
    one, other = msgspec.to_builtins(expected.conversation), msgspec.to_builtins(found.conversation)
    return _differ("conversation", one, other) or (_differ_raw(expected.raw, found.raw) if raw else "")


def _differ_raw(expected: Raw | None, found: Raw | None) -> str:
    if expected is None or found is None or expected == found:
        return "" if expected == found else _both("raw", expected and "raw JSON", found and "raw JSON")
    return _differ("raw.envelope", loads(expected.envelope), loads(found.envelope)) or _differ(
        "raw.messages", [loads(m) for m in expected.messages], [loads(m) for m in found.messages]
    )


def _differ(path: str, expected: Any, found: Any) -> str:
    # Not recursive in the depth of a tree of messages, which is flat; JSON nests less than Python recurses.
    if type(expected) is not type(found):
        return _both(path, expected, found)
    if isinstance(expected, dict):
        for key in expected.keys() | found.keys():
            if (key in expected) != (key in found):
                return _both(f"{path}[{key!a}]", expected.get(key, _ABSENT), found.get(key, _ABSENT))
        return next((d for k in expected if (d := _differ(f"{path}[{k!a}]", expected[k], found[k]))), "")
    if isinstance(expected, list):
        pairs = enumerate(zip(expected, found, strict=False))
        inner = next((d for i, (a, b) in pairs if (d := _differ(f"{path}[{i}]", a, b))), "")
        return inner or ("" if len(expected) == len(found) else _both(f"length of {path}", len(expected), len(found)))
    return "" if repr(expected) == repr(found) else _both(path, expected, found)


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()


def _both(path: str, expected: Any, found: Any) -> str:
    return f"{path}: expected {_short(expected)}, found {_short(found)}"


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]} ({len(text)} characters)"
