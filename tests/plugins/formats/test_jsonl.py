"""JSON Lines lose nothing and come back."""

import io
import json
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from muniment import Conversation, Message, Origin, Raw, Record, RecordError, TextPart, UnknownPart
from muniment.canonical import source_hash
from muniment_plugins.formats.jsonl import JSONLines

ORIGIN = Origin("part.jsonl", "p")
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def records(draw):
    count = draw(st.integers(0, 4))
    conversation = Conversation(
        id=draw(ANY_TEXT),
        source="test",
        title=draw(st.none() | ANY_TEXT),
        messages=tuple(
            Message(
                id=str(n),
                role=draw(ANY_TEXT),
                parent_id=str(n - 1) if n else None,
                parts=(TextPart(draw(ANY_TEXT)), UnknownPart(draw(JSON_VALUES))),
                created_at=draw(st.none() | st.datetimes(timezones=st.just(UTC))),
            )
            for n in range(count)
        ),
    )
    raw = Raw(b'{"x": "\\ud800", "n": 1.50}', (b"null",) * count) if draw(st.booleans()) else None
    return Record(conversation=conversation, origin=ORIGIN, source_hash=source_hash(conversation), raw=raw)


def encode(*records):
    return b"".join(JSONLines().encode(r, lambda _: "") for r in records)


def decode(data):
    return [replace(r, origin=ORIGIN) for r in JSONLines().decode(io.BytesIO(data), ORIGIN)]


class TestPieces:
    @given(records())
    def test_they_are_the_line(self, record):
        assert b"".join(JSONLines().encode_in_pieces(record, lambda _: "")) == encode(record)


class TestJSONLines:
    @given(st.lists(records(), max_size=3))
    def test_round_trip(self, several):
        """What is decoded is what was encoded, lone surrogates and NUL included."""
        expected = [(r.conversation, r.source_hash, r.raw is None) for r in several]

        assert [(r.conversation, r.source_hash, r.raw is None) for r in decode(encode(*several))] == expected

    def test_keeps_everything(self, full):
        """Every part, branch, field and the raw JSON come back, byte for byte."""
        assert decode(encode(full)) == [replace(full, origin=ORIGIN)]

    def test_is_one_line_of_json(self, full):
        data = encode(full)

        assert data.count(b"\n") == 1
        assert json.loads(data)["title"] == "Cats"

    def test_says_where_each_record_stood(self, full, make_record):
        """A record's origin is its bytes in the stream."""
        other = make_record(id="c2")

        first, second = JSONLines().decode(io.BytesIO(encode(full, other)), ORIGIN)

        assert (first.origin.start, first.origin.end) == (0, len(encode(full)))
        assert (second.origin.start, second.origin.end) == (len(encode(full)), len(encode(full, other)))

    def test_takes_blank_lines_and_no_newline_at_the_end(self, full):
        data = b"\n \r\n" + encode(full).rstrip()

        assert [r.key for r in decode(data)] == ["chatgpt:c1"]

    def test_a_broken_line_names_its_bytes(self, full):
        """The message has the place and the reason, and nothing of the text."""
        good = encode(full)
        data = good + b'{"id": "secret"\n' + good

        with pytest.raises(RecordError, match=rf"^part.jsonl: bytes {len(good)} to {len(good) + 16}: ") as caught:
            decode(data)

        assert "secret" not in str(caught.value)

    def test_naughty_strings(self, make_record, naughty):
        several = [make_record(Message(id="m", role="user", parts=(TextPart(s),)), id=s, title=s) for s in naughty]

        assert [r.conversation for r in decode(encode(*several))] == [r.conversation for r in several]
