"""A large conversation is decoded in another way, to the same record."""

import json
import pickle
from typing import Any

import pytest

from muniment import RecordError
from muniment_plugins.sources.chatgpt_export import shapes


def chain(node: Any, count: int = 30) -> list[dict[str, Any]]:
    return [
        node(f"m{n}", f"text {n}", f"m{n - 1}" if n else None, ("user", "assistant")[n % 2], create_time=1.5 + n)
        for n in range(count)
    ]


def branches(node: Any) -> list[dict[str, Any]]:
    """Return nodes whose children stand before them, an orphan and a circle."""
    return [
        node("m3", "c", "m1"), node("m2", "b", "m1"), node("m1", "a"), node("m5", "e", "lost"),
        node("m6", "f", "m7"), node("m7", "g", "m6"), {"id": "m8", "parent": "m3", "message": None},
        node("m9", "last", "m8"), node("m4", {"content_type": "new", "x": 1}, "m3"),
    ]  # fmt: skip


@pytest.fixture
def decode_large(decode: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Decodes a conversation as if it were large."""

    def run(conversation: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(shapes, "LARGE_BYTES", 0)
            return decode(conversation)

    return run


@pytest.mark.parametrize("make", [chain, branches])
@pytest.mark.parametrize(
    "write",
    [json.dumps, lambda v: json.dumps(v, indent=1), lambda v: json.dumps(v, ensure_ascii=False)],
    ids=["compact", "indented", "utf-8"],
)
class TestLargeConversations:
    def test_the_record_is_that_of_any_conversation(self, make, write, node, talk, decode, decode_large):
        """Order, messages, raw JSON and hash; indented or not, ASCII or not."""
        data = write(talk(*make(node), title="caf\u00e9 \u6f22", current_node="m3")).encode()

        expected, found = decode(data), decode_large(data)

        assert found.conversation == expected.conversation
        assert found.source_hash == expected.source_hash
        assert found.findings == expected.findings
        assert found.raw == expected.raw
        assert expected.raw == found.raw
        assert tuple(found.raw.messages) == expected.raw.messages


class TestRawOfALargeConversation:
    def test_each_message_is_made_when_it_is_asked_for(self, node, talk, decode_large):
        raw = decode_large(talk(*chain(node))).raw.messages

        assert json.loads(raw[3])["id"] == "m3"
        assert [json.loads(m)["id"] for m in raw[1:3]] == ["m1", "m2"]
        assert len(raw) == 30
        assert raw != tuple(raw)[1:]

    def test_it_travels_to_another_process(self, node, talk, decode_large):
        record = decode_large(talk(*chain(node)))

        assert pickle.loads(pickle.dumps(record)) == record

    def test_words_that_many_messages_have_are_there_once(self, node, talk, decode_large):
        roles = {id(m.role) for m in decode_large(talk(*chain(node))).conversation.messages}

        assert len(roles) == 2


class TestText:
    def test_what_is_no_utf_8_is_named_by_its_byte(self, node, talk, decode):
        """Wherever it stands: also behind a character that two pieces share."""
        data = json.dumps(talk(node("m1", "@")), ensure_ascii=False).encode()
        text = "\u00e9".encode() * (shapes._DECODED_BYTES) + b"x\xff"
        at = data.index(b"@") + len(text) - 1

        with pytest.raises(RecordError, match=f"^not JSON: not UTF-8 at byte {at}$"):
            decode(data.replace(b"@", text))

    def test_a_character_may_be_cut_by_no_piece(self, node, talk, decode):
        text = "x" + "\u6f22" * shapes._DECODED_BYTES
        data = json.dumps(talk(node("m1", text)), ensure_ascii=False).encode()

        (message,) = decode(data).conversation.messages

        assert message.parts[0].content == text
