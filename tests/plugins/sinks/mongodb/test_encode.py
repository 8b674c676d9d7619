"""Records become documents that people can query."""

from datetime import UTC, datetime

import bson
import pytest

from muniment import Asset, BlobPart, FilePart, Message, TextPart, ToolCallPart
from muniment.record_blob import record_from_blob
from muniment.testing import make_record
from muniment_plugins.sinks.mongodb.encode import (
    MAX_BODY_BYTES,
    encode,
    extended,
    id_of,
)

MEGABYTE = 2**20
TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CODEC = bson.CodecOptions(tz_aware=True)


def messages(*texts):
    return tuple(Message(id=f"m{i}", role="user", parts=(TextPart(t),)) for i, t in enumerate(texts))


def documents_of(record, documents="conversation"):
    encoded = encode(record, documents=documents)
    return bson.decode(encoded.body, CODEC), [bson.decode(f, CODEC) for f in encoded.further]


class TestConversation:
    def test_is_one_readable_document(self):
        """Fields and messages under their own names, times as dates with the exact text beside them."""
        body, further = documents_of(make_record("c1", ["Hello"], model="gpt"))

        assert body.pop("source_hash")
        assert body == {
            "_id": "test:c1",
            "id": "c1",
            "source": "test",
            "title": "A talk",
            "model": "gpt",
            "created_at": TIME.replace(microsecond=678000),
            "created_at_exact": "2026-01-02T03:04:05.678901Z",
            "updated_at": TIME.replace(microsecond=678000),
            "updated_at_exact": "2026-01-02T03:04:05.678901Z",
            "message_count": 1,
            "messages": [
                {
                    "id": "m0",
                    "role": "user",
                    "parts": [{"type": "text", "content": "Hello"}],
                    "created_at": TIME.replace(microsecond=678000),
                    "created_at_exact": "2026-01-02T03:04:05.678901Z",
                    "visible": True,
                }
            ],
        }
        assert further == []

    def test_escapes_names_everywhere(self):
        """Metadata, arguments and assets hold what strangers wrote."""
        bad = {"a.b": {"$c": 1}}
        message = Message(
            id="m", role="tool", parts=(ToolCallPart(name="t", arguments=bad), TextPart("x", metadata=bad)),
            metadata=bad, usage=bad,
        )  # fmt: skip
        record = make_record(messages=(message,), metadata=bad, assets=(Asset(id="f", metadata=bad),))

        body, _ = documents_of(record)

        good = {"a\uff0eb": {"\uff04c": 1}}
        found = body["messages"][0]
        assert [body["metadata"], body["assets"][0]["metadata"], found["metadata"], found["usage"]] == [good] * 4
        assert [found["parts"][0]["arguments"], found["parts"][1]["metadata"]] == [good, good]

    def test_keeps_inline_data_as_bytes(self):
        """Base64 would be words for a text index."""
        record = make_record(messages=(Message(id="m", role="user", parts=(BlobPart("aGk="), BlobPart("no base64"))),))

        parts = documents_of(record)[0]["messages"][0]["parts"]

        assert parts == [{"type": "blob", "data": b"hi"}, {"type": "blob", "text": "no base64"}]

    @pytest.mark.parametrize("text", ["a\ud800", "nul\0nul"])
    def test_takes_any_text(self, text):
        """Lone surrogates show as U+FFFD; the record is exact."""
        record = make_record(id=text, texts=[text], title=text, raw=False)
        encoded = encode(record, documents="conversation")

        assert bson.decode(encoded.body)["title"] == text.replace("\ud800", "\ufffd")
        assert record_from_blob(encoded.record, record.origin) == record


class TestMessages:
    def test_are_documents_of_their_own(self):
        """Each names its conversation and its place in it; the conversation is small."""
        body, further = documents_of(make_record("c1", ["Hello", "Hi"]), "message")

        assert "messages" not in body and body["message_count"] == 2
        assert [f["_id"] for f in further] == [{"conversation": "test:c1", "message": m} for m in ("m0", "m1")]
        assert [(f["conversation"], f["source"], f["position"]) for f in further] == [
            ("test:c1", "test", 0),
            ("test:c1", "test", 1),
        ]
        assert further[1]["parts"] == [{"type": "text", "content": "Hi"}]

    def test_id_is_read_from_the_bytes(self):
        """Without decoding the rest."""
        encoded = encode(make_record("c1", ["Hello"]), documents="message")

        assert dict(id_of(encoded.further[0])) == {"conversation": "test:c1", "message": "m0"}


class TestLarge:
    @pytest.mark.parametrize("documents", ["conversation", "message"])
    def test_messages_are_spread_over_documents_that_fit(self, documents):
        """All messages are there, in order, none in two places."""
        record = make_record(messages=messages(*("x" * MEGABYTE for _ in range(20))))
        encoded = encode(record, documents=documents)
        body, further = documents_of(record, documents)

        found = body.get("messages", [])
        for document in further:
            found += document.get("messages", [document])
        assert [m["id"] for m in found] == [f"m{i}" for i in range(20)]
        assert all(m["parts"][0]["content"] == "x" * MEGABYTE for m in found)
        assert all(len(d) <= MAX_BODY_BYTES for d in (encoded.body, *encoded.further))

    @pytest.mark.parametrize("documents", ["conversation", "message"])
    def test_a_message_that_fits_nowhere_is_cut_and_says_so(self, documents):
        """What a query sees is its beginning; the record has all of it."""
        record = make_record(messages=messages("before", "x" * (20 * MEGABYTE), "behind"), raw=False)
        encoded = encode(record, documents=documents)
        body, further = documents_of(record, documents)

        found = body.get("messages", further)
        assert [m.get("cut", False) for m in found] == [False, True, False]
        assert found[1]["parts"][0]["content"] == "x" * 65536
        assert record_from_blob(encoded.record, record.origin) == record

    def test_fields_that_fit_nowhere_are_left_out(self):
        """Also many small ones: a document fits, whatever a record holds."""
        parts = (FilePart("f" * 200),) * 60_000
        record = make_record(
            id="x" * MEGABYTE,
            title="t" * (12 * MEGABYTE),
            metadata={f"k{i}": "v" * 20 for i in range(40_000)},
            messages=(Message(id="m", role="user", parts=parts),),
        )

        for documents in ("conversation", "message"):
            body, further = documents_of(record, documents)
            assert body["title"] == "t" * 65536 and body["cut"]
            message = further[0] if documents == "message" else body["messages"][0]
            assert message["cut"] and message["id"] == "m"


def test_a_document_is_extended_without_decoding():
    """What only the run knows stands behind the fields that are there."""
    assert bson.decode(extended(bson.encode({"a": 1}), {"b": [2], "c": b"x"})) == {"a": 1, "b": [2], "c": b"x"}
