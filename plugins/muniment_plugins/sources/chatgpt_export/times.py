"""When was it?  A time of an export, in any of the forms that were seen."""

from datetime import UTC, datetime

from muniment.model import JSON

_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""From this magnitude on a number counts nano-, micro- or milliseconds: as seconds it lies beyond the year 5138."""


def read_time(value: JSON) -> datetime | None:
    """Return the UTC time that ``value`` means, or None where it cannot be read.

    Numbers are seconds since 1970 (or milli-, micro-, nanoseconds, by their size), also as text; other
    text is ISO 8601, in UTC where it names no zone.
    """
    kind = type(value)
    try:
        if kind is float or kind is int:
            return _from_number(value)
        if kind is str:
            return _from_text(value.strip())
    except (ValueError, OverflowError, OSError):
        pass
    return None


def unread_times(**values: JSON) -> dict[str, JSON]:
    """Return those of the ``values`` that are there and that `read_time` cannot read."""
    return {name: v for name, v in values.items() if v is not None and v != "" and read_time(v) is None}


def _from_number(number: float) -> datetime:
    size = abs(number)
    if size >= 1e11:
        for limit, unit in _UNITS:
            if size >= limit:
                number = number / unit
                break
    return datetime.fromtimestamp(number, UTC)


def _from_text(text: str) -> datetime:
    try:
        number = float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return _from_number(number)
