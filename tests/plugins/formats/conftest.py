"""A conversation that has one of everything."""

from datetime import UTC, datetime

import pytest

from muniment import (
    Asset,
    BlobPart,
    Citation,
    Conversation,
    FilePart,
    Link,
    Message,
    Origin,
    Raw,
    ReasoningPart,
    Record,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UnknownPart,
    UriPart,
)
from muniment.canonical import source_hash

NOON = datetime(2025, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)
MARK = "\ue200cite\ue202turn0search1\ue201"
# Strings of the kinds that break naive writers.
NAUGHTY = [
    "", " ", "undefined", "NaN", "1e100", "0x0", "1/0", ",./;'[]\\-=", "<>?:\"{}|_+", "!@#$%^&*()`~",
    "\x01\x02\x03\x07\x08\x0e\x1b\x1f\x7f", "\x80\x84\x86\x9f", "\t\x0b\x0c \x85 \xa0\u1680\u2002\u2028\u2029\u3000",
    "\xad\u0600\u180e\u200b\u200f\u202a\u2060\ufeff\ufff9\U000e0001", "\ufeff", "\ufffe", "\uffff",
    "田中さんにあげて下さい", "Ω≈ç√∫˜µ≤≥÷", "ثم نفس سقطت وبالتحديد،", "👩‍💻🇺🇸🏳️‍🌈", "Ｔｈｅ ｑｕｉｃｋ",
    "Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮", "<script>alert(0)</script>", "<img src=x onerror=alert(2)>", "--", "---", "...",
    "'; DROP TABLE users; --", "$(touch x)", "../../../etc/passwd", "{{7*7}}", "%s%n", "File:///", "\x1b[31mred",
    "no", "12:30:45", "~", "null", "- a", "? b", ": c", "# d", "& e", "* f", "!g", "| h", "@i", "`j`", "a\nb", "\r\n",
    "a\rb", "ends with \\", "'", '"', "''", '""', "\x00", "a\x00b",
]  # fmt: skip


@pytest.fixture
def naughty():
    return NAUGHTY


@pytest.fixture
def make_record():
    def make(*messages, raw=True, **fields):
        fields = {"id": "c1", "source": "chatgpt"} | fields
        conversation = Conversation(messages=messages, **fields)
        kept = Raw(b'{"title":1.0}', tuple(b'{"id":%d}' % n for n in range(len(messages)))) if raw else None
        return Record(
            conversation=conversation,
            origin=Origin("export.zip", "p"),
            source_hash=source_hash(conversation),
            raw=kept,
        )

    return make


@pytest.fixture
def full(make_record):
    """Every kind of part, two branches, a hidden message, files that are found and missing."""
    return make_record(
        Message(id="root", role="system"),
        Message(id="sys", role="system", parent_id="root", hidden=True, parts=(TextPart("be brief"),)),
        Message(
            id="q",
            role="user",
            parent_id="sys",
            created_at=NOON,
            parts=(TextPart("What is **this**?"), FilePart("img", "image", "image/png", "cat (1).png")),
        ),
        Message(id="a0", role="assistant", parent_id="q", parts=(TextPart("A first answer"),)),
        Message(
            id="think",
            role="assistant",
            parent_id="q",
            model="o3",
            parts=(ReasoningPart("Looking closely", summary="Looks"), ReasoningPart("Thought for 7s", kind="recap")),
        ),
        Message(
            id="call",
            role="assistant",
            parent_id="think",
            recipient="python",
            parts=(ToolCallPart("python", 'print("```")', language="python"), ToolCallPart("web", {"q": "cat"})),
        ),
        Message(
            id="out",
            role="tool",
            author="python",
            parent_id="call",
            status="finished",
            parts=(ToolCallResponsePart("1\n2", "python", kind="execution"), ToolCallResponsePart({"a": [1]})),
        ),
        Message(
            id="end",
            role="assistant",
            parent_id="out",
            model="gpt-4o",
            usage={"output_tokens": 3},
            feedback={"rating": "thumbs_up"},
            parts=(
                TextPart(f"A cat {MARK}."),
                TextPart("x = 1", kind="code", language="python"),
                TextPart("what the page says", kind="web_page", title="Cats", url="https://cats.example/a(b)"),
                FilePart("gone", "document", name="notes.pdf"),
                UriPart("https://pictures.example/1.png", "image"),
                BlobPart("aGk=", "audio", "audio/wav"),
                UnknownPart({"odd": True}, "super_widget"),
            ),
            citations=(
                Citation("webpage", MARK, 6, 6 + len(MARK), (Link("https://cats.example/x y(z)", "All [about] cats"),)),
            ),
        ),
        title="Cats",
        account="me",
        model="gpt-4o",
        created_at=NOON,
        updated_at=NOON,
        current="end",
        metadata={"is_starred": True},
        assets=(
            Asset(id="img", name="cat (1).png", mime_type="image/png", size=2, sha256="ab" * 32),
            Asset(id="gone", name="notes.pdf", missing="not in the export"),
        ),
    )


@pytest.fixture
def links():
    return lambda asset: f"assets/{asset.sha256[:8]}.png" if asset.sha256 else ""
