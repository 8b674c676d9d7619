"""A large record becomes the same rows, packed."""

import pytest
from msgspec.structs import replace

from muniment import Conversation, FilePart, Message, Origin, Raw, Record, TextPart, UnknownPart
from muniment.canonical import LARGE_BYTES
from muniment_plugins.sinks.sqlite.encode import decompress, encode


def make(count: int, *, title: str | None, text: str, empty_first: bool) -> Record:
    messages = tuple(
        Message(
            id=str(n),
            role="user",
            parent_id=str(n - 1) if n else None,
            parts=()
            if empty_first and n == 0
            else (TextPart(f"{text} {n}"), UnknownPart({"a": n}), FilePart("file"), TextPart("more")),
            metadata={"n": n} if n % 7 == 0 else None,
        )
        for n in range(count)
    )
    return Record(
        conversation=Conversation(id="c", source="test", title=title, messages=messages, current=str(count - 5)),
        origin=Origin("a", "p"),
        source_hash="0" * 64,
        raw=Raw(b"{}", tuple(b'{"n":%d}' % n for n in range(count))),
    )


@pytest.mark.parametrize("title", ["A title", None])
@pytest.mark.parametrize("text", ["text", "text \u6f22\u5b57", "text \ud800"])
@pytest.mark.parametrize("empty_first", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2500])
def test_its_rows_are_those_of_any_record(count, title, text, empty_first):
    """Also where a thousand of its messages end and the next begin."""
    small = make(count, title=title, text=text, empty_first=empty_first)
    large = replace(small, origin=Origin("a", "p", 0, LARGE_BYTES))

    expected, found = encode(small, indexed=True), encode(large, indexed=True)

    assert list(found.messages) == expected.messages
    assert list(found.parts) == expected.parts
    assert list(found.index) == expected.index
    assert found.conversation == expected.conversation
    assert decompress(found.record) == decompress(expected.record)
    assert len(found.messages) == count
