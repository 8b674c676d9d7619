"""Which records are there?  A hypothesis strategy; `hypothesis` is needed only by who draws from it."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from muniment.model import (
    JSON,
    Citation,
    Conversation,
    Link,
    Message,
    Part,
    ReasoningPart,
    Record,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UnknownPart,
    UriPart,
)
from muniment.testing.records import record_of


@st.composite
def any_record(draw: st.DrawFn, loses: frozenset[str]) -> Record:
    """Draw a record: a tree of up to six messages, with any text and any JSON."""
    text = _text(loses)
    json = _json(text, loses)
    ids = draw(st.lists(text.filter(bool), max_size=6, unique=True))
    messages = []
    for i, id_ in enumerate(ids):
        parent = draw(st.none() | st.sampled_from(ids[:i])) if i else None
        messages.append(_draw_message(draw, id_, parent, text, json, loses))
    conversation = Conversation(
        id=draw(st.sampled_from(["c0", "c1", "c2", "C1", "c 3", "ü"])),
        source="test",
        account=draw(st.none() | text),
        title=draw(st.none() | text),
        created_at=draw(st.none() | _times(loses)),
        updated_at=draw(st.none() | _times(loses)),
        current=draw(st.none() | st.sampled_from(ids)) if ids else None,
        messages=tuple(messages),
        metadata=draw(st.none() | json),
    )
    return record_of(conversation, raw=draw(st.booleans()))


def _draw_message(
    draw: st.DrawFn, id_: str, parent: str | None, text: Any, json: Any, loses: frozenset[str]
) -> Message:
    citation = st.builds(Citation, text, text, links=st.tuples() | st.tuples(st.builds(Link, text, text)))
    return Message(
        id=id_,
        role=draw(st.sampled_from(["user", "assistant", "tool", "system"])),
        parent_id=parent,
        parts=tuple(draw(st.lists(_part(text, json), max_size=3))),
        author=draw(st.none() | text),
        created_at=draw(st.none() | _times(loses)),
        updated_at=draw(st.none() | _times(loses)),
        hidden=draw(st.booleans()),
        usage=draw(st.none() | json),
        citations=tuple(draw(st.lists(citation, max_size=2))),
        metadata=draw(st.none() | json),
    )


def _part(text: Any, json: Any) -> "st.SearchStrategy[Part]":
    return st.one_of(
        st.builds(TextPart, text, text, text, metadata=st.none() | json),
        st.builds(ReasoningPart, text, text),
        st.builds(ToolCallPart, text, json | text, st.none() | text),
        st.builds(ToolCallResponsePart, json | text, text, st.none() | text),
        st.builds(UriPart, text),
        st.builds(UnknownPart, json, text),
    )


def _text(loses: frozenset[str]) -> "st.SearchStrategy[str]":
    nul = "\0" if "nul" in loses else ""
    # What UTF-8 can hold is all but the lone surrogates.
    codec = "utf-8" if "lone_surrogates" in loses else None
    return st.text(st.characters(codec=codec, exclude_characters=nul), max_size=12)


def _json(text: "st.SearchStrategy[str]", loses: frozenset[str]) -> "st.SearchStrategy[dict[str, JSON]]":
    integers = st.integers(-(2**53), 2**53) if "numbers" in loses else st.integers()
    floats = st.floats(-1e6, 1e6, width=32) if "numbers" in loses else st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | integers | floats | text
    value = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
    return st.dictionaries(text, value, max_size=3)


def _times(loses: frozenset[str]) -> "st.SearchStrategy[datetime]":
    # Without a zone, as hypothesis wants the bounds; every drawn time is UTC.
    first, last = ("1600-01-01", "2200-01-01") if "times" in loses else ("0001-01-01", "9999-12-31T23:59:59.999999")
    return st.datetimes(datetime.fromisoformat(first), datetime.fromisoformat(last), timezones=st.just(UTC))
