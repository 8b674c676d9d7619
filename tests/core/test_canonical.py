"""The JSON of a large record is made piece by piece, and no byte of it differs."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import Asset, Conversation, Message, Origin, Raw, Record, TextPart, canonical
from muniment.canonical import (
    is_large,
    json_in_pieces,
    record_from_json,
    record_in_pieces,
    record_to_json,
    source_hash,
    to_json,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=10)


@st.composite
def records(draw):
    count = draw(st.integers(0, 5)) * 50
    texts = draw(st.lists(ANY_TEXT, min_size=1, max_size=5))
    conversation = Conversation(
        id=draw(ANY_TEXT),
        source="test",
        title=draw(st.none() | ANY_TEXT),
        messages=tuple(Message(id=str(n), role="user", parts=(TextPart(texts[n % len(texts)]),)) for n in range(count)),
        assets=tuple(Asset(id=name) for name in draw(st.lists(ANY_TEXT, max_size=2))),
        metadata=draw(st.none() | st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2)),
    )
    raw = Raw(b'{"mapping":null}', (b'{"x": "\\ud800"}',) * count) if draw(st.booleans()) else None
    return Record(conversation=conversation, origin=Origin("a", "p"), source_hash="", raw=raw)


def chain(count: int, text: str = "word") -> Conversation:
    messages = tuple(Message(id=str(n), role="user", parts=(TextPart(text),)) for n in range(count))
    return Conversation(id="c", source="test", messages=messages)


class TestPieces:
    @given(records())
    def test_they_are_the_record(self, record):
        """With and without raw JSON, lone surrogates wherever they stand."""
        assert b"".join(record_in_pieces(record)) == record_to_json(record)

    @given(records())
    def test_they_are_the_conversation(self, record):
        assert b"".join(json_in_pieces(record.conversation)) == to_json(record.conversation)

    def test_none_is_large(self):
        pieces = list(json_in_pieces(chain(20_000)))

        assert max(map(len, pieces)) < 10_000


class TestFromJson:
    @pytest.mark.parametrize("content", [b"x", b"\\ud800"])
    @pytest.mark.parametrize("words", [b"private", b"it's private", b"private\\n'" * 100])
    def test_an_error_quotes_nothing(self, words, content):
        """An unknown kind of part is the conversation's own text, and of any length."""
        parts = b'[{"type":"text","content":"%s"},{"type":"%s"}]' % (content, words)
        data = b'{"id":"c","source":"s","messages":[{"id":"m","role":"user","parts":%s}]}' % parts

        with pytest.raises(msgspec.DecodeError) as caught:
            record_from_json(data, Origin("a", "p"))

        assert str(caught.value) == "Invalid value - at `$.messages[0].parts[1].type`"
        assert caught.value.__suppress_context__


class TestSourceHash:
    @pytest.mark.parametrize("text", ["word", "w\u00f6rd", "w\ud800rd"])
    def test_it_is_that_of_the_whole_json(self, text):
        """A large conversation has the hash that it always had."""
        conversation = chain(canonical.LARGE_MESSAGES + 1, text)

        assert source_hash(conversation) == hashlib.sha256(to_json(conversation)).hexdigest()


class TestIsLarge:
    @pytest.mark.parametrize(
        ("size", "messages", "expected"),
        [(0, 3, False), (canonical.LARGE_BYTES - 1, 3, False), (canonical.LARGE_BYTES, 3, True), (0, 10_000, True)],
    )
    def test_it_is_by_bytes_or_by_messages(self, size, messages, expected):
        record = Record(conversation=chain(messages), origin=Origin("a", "p", 7, 7 + size), source_hash="")

        assert is_large(record) is expected
