"""Which bytes are the one JSON text of a value?  RFC 8785, the JSON Canonicalization Scheme.

By hand, because the packages that do it are slow for what manifests hold (a hundred thousand short
strings) or no longer kept up, and the standard library writes strings as the RFC says already.
"""

import math
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any

MAX_INTEGER = 2**53 - 1


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of what JSON can hold; mappings have text as keys.

    Raises:
        ValueError: an integer is beyond 53 bits, a number is not finite, a text has a lone surrogate,
            or the value is none of JSON.
    """
    return "".join(_pieces(value)).encode("utf-8")


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        mark = "{"
        for key in sorted(value, key=_utf16):
            yield f"{mark}{_scalar(key)}:"
            yield from _pieces(value[key])
            mark = ","
        yield "{}" if mark == "{" else "}"
    elif isinstance(value, list | tuple):
        # Rows of scalars are most of a manifest: one call for each of their cells costs too much.
        if value and not any(isinstance(v, list | tuple | dict) for v in value):
            yield f"[{','.join(map(_scalar, value))}]"
            return
        mark = "["
        for item in value:
            yield mark
            yield from _pieces(item)
            mark = ","
        yield "[]" if mark == "[" else "]"
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return str(encode_basestring(value))
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError(f"{value} has more digits than a JSON number keeps")
        return str(int(value))
    if isinstance(value, float):
        return _number(value)
    raise ValueError(f"a {type(value).__name__} is no JSON value")


def _number(value: float) -> str:
    """Return a number as ECMAScript writes it: Python has the same digits, but other exponents."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign, count = "-" if value < 0 else "", len(digits)
    if count <= point <= 21:
        return f"{sign}{digits}{'0' * (point - count)}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    first, rest = digits[0], f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{first}{rest}e{point - 1:+d}"


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise ValueError(f"a {type(key).__name__} is no name in JSON")
    return key.encode("utf-16-be", "surrogatepass")
