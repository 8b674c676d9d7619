"""Which records is a sink likely to get wrong?  Each has a name and says what a store must be able to hold."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import field, frozen

from muniment.model import (
    JSON,
    Asset,
    BlobPart,
    Citation,
    Conversation,
    FilePart,
    Link,
    Message,
    Raw,
    ReasoningPart,
    Record,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UnknownPart,
    UriPart,
)
from muniment.testing.records import TIME, make_asset, make_record, record_of

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
NEEDS = frozenset({"lone_surrogates", "nul", "numbers", "times", "long_ids"})
"""What a store can lack, as `HardRecord.needs` and `SinkContract.loses` say it."""


@frozen
class HardRecord:
    """A record that finds out a careless sink.

    ``needs`` are what a store must be able to hold for it (`NEEDS`); ``assets`` are bytes by SHA-256.
    """

    name: str
    record: Record
    needs: frozenset[str] = frozenset()
    assets: Mapping[str, bytes] = field(factory=dict)


def maximal_record(id: str = "maximal") -> HardRecord:  # noqa: A002 - the name of the field
    """Return a record in which every field of every class of the model is filled."""
    picture = make_asset(PICTURE, "file-1", name="a cat.png", mime_type="image/png", metadata={"width": 640})
    lost = Asset(id="file-2", name="lost.pdf", mime_type="application/pdf", size=7, missing="not in the export")
    messages = (
        _message("root", "system", TextPart("Be brief."), hidden=True, status="finished_successfully"),
        _message(
            "question", "user",
            FilePart("file-1", "image", "image/png", "a cat.png", {"height": 480}),
            TextPart("What is this?", "quote", "en", "A title", "https://example.com/q", {"lines": [1, 2]}),
            parent_id="root", author="ada", recipient="all",
        ),
        _message(
            "call", "assistant",
            ReasoningPart("It looks like a cat.", "A cat?", "recap"),
            ToolCallPart("look", {"file": "file-1", "deep": {"a": [None, True, 1.5]}}, "call-1", "python"),
            ToolCallPart("say", "meow()", None, ""),
            parent_id="question", recipient="look", channel="analysis", model="model-1",
        ),
        _message(
            "result", "tool",
            ToolCallResponsePart({"seen": 1}, "look", "call-1", "execution", "Seen", "https://example.com", {"ms": 7}),
            parent_id="call", author="look",
        ),
        _message(
            "answer", "assistant",
            TextPart("A cat \ue200cite\ue201, see file."),
            UriPart("https://example.com/cat.mp4", "video", "video/mp4"),
            BlobPart("bWVvdw==", "audio", "audio/wav"),
            UnknownPart({"widget": {"cells": [[1, None], []]}}, "super_widget"),
            parent_id="result", model="model-1",
            updated_at=TIME + timedelta(seconds=3),
            usage={"input_tokens": 12, "output_tokens": 34, "details": {"cached": 0}},
            citations=(
                Citation("web", "\ue200cite\ue201", 6, 12, (Link("https://example.com/1", "One"), Link("https://example.com/2")),
                         metadata={"attribution": "example.com"}),
                Citation("file", "file", file_id="file-1"),
            ),
            feedback={"rating": "thumbsUp", "tags": []},
            metadata={"finish_details": {"type": "stop"}, "weight": 1.0},
        ),
        _message("other answer", "assistant", TextPart("A dog."), parent_id="result", model="model-2"),
    )  # fmt: skip
    conversation = Conversation(
        id=id, source="test", account="acc-1", title="A cat, I think", created_at=TIME - timedelta(days=3),
        updated_at=TIME, model="model-1", current="answer", messages=messages, assets=(picture, lost),
        metadata={"is_archived": False, "plugins": None, "gizmo": {"id": "g-1"}},
    )  # fmt: skip
    record = record_of(conversation)
    nodes = tuple(b'{"id":"%s","message":{"weight":1.0,"n":null}}' % m.id.encode() for m in messages[:-1])
    raw = Raw(b'{"conversation_id":"x","update_time":1767323045.678901}', (*nodes, b"null"))
    return HardRecord("maximal", _with_raw(record, raw), assets={picture.sha256 or "": PICTURE})


def hard_records() -> Iterator[HardRecord]:
    """Yield every hard record; their conversation ids differ, and each name once."""
    yield maximal_record()
    yield from _texts()
    yield from _shapes()
    yield from _values()
    yield from _ids()
    yield from _assets()


def records(*, loses: frozenset[str] = frozenset()) -> "SearchStrategy[Record]":
    """Return a hypothesis strategy of any record that does not need what is in ``loses``.

    Conversation ids come from a small set, so that several draws hold versions of one conversation.
    """
    from muniment.testing._strategies import any_record

    return any_record(loses)


# --- text -----------------------------------------------------------------------------------


def _texts() -> Iterator[HardRecord]:
    unicode = "😀👩‍👩‍👧‍👦 e\u0301 \u202eabc\u202c \ufeff \ufffe\uffff \U0010ffff 数据 ʻ'\"\\`%s{}<b>&amp; \u2028\u2029"
    controls = "".join(map(chr, (*range(1, 32), *range(127, 160))))
    lines = "  two \r\n\r\n lines\rand\n a tab\t at the end \n"
    yield HardRecord("unicode", _everywhere("unicode", unicode))
    yield HardRecord("control characters", _everywhere("controls", controls))
    yield HardRecord("line ends and blanks", _everywhere("lines", lines))
    yield HardRecord("empty strings", _everywhere("empty", ""))
    yield HardRecord("NUL", _everywhere("nul", "a\0b\0"), frozenset({"nul"}))
    surrogates = "\ud83d half, \ude00\ud83d turned round, \udc80"
    yield HardRecord("lone surrogates", _everywhere("surrogates", surrogates), frozenset({"lone_surrogates"}))
    for number, title in enumerate((*_TITLES, "long " * 1200)):
        yield HardRecord(f"title {number}", make_record(f"title-{number}", title=title))
    large = "".join(f"{i} größer 数 " for i in range(2**20 // 17))
    yield HardRecord("large message", make_record("large", ["Tell me all", large]))


_TITLES = (
    "日本語のタイトル", "عنوان بالعربية", "כותרת בעברית", "Ελληνικά", "हिन्दी", "ไทย", "Ünïcödé", "Việt Nam", "한국어",
    "../../etc/passwd", "a/b\\c:d", "CON", ".", "..", "-rf", " ", "two\nlines", "'; DROP TABLE x; --", "💥" * 120,
)  # fmt: skip


def _everywhere(id: str, text: str) -> Record:  # noqa: A002 - the name of the field
    """Return a record with ``text`` in every place that holds text of a person or a vendor."""
    json: dict[str, JSON] = {text: text, "list": [text, {text: [text]}]}
    message = _message(
        f"{id} message", "assistant",
        TextPart(text, text, text, text, text, json),
        ReasoningPart(text, text, text),
        ToolCallPart(text, json, text, text),
        ToolCallPart("t", text),
        ToolCallResponsePart(text, text, text, text, text, text, json),
        ToolCallResponsePart(json),
        FilePart(text, "document", text, text, json),
        UriPart(text, text, text),
        BlobPart(text, text, text),
        UnknownPart(json, text),
        author=text, recipient=text, channel=text, model=text, status=text, usage=json, feedback=json, metadata=json,
        citations=(Citation(text, text, 0, len(text), (Link(text, text),), text, json),),
    )  # fmt: skip
    return record_of(
        Conversation(
            id=id, source="test", account=text, title=text, model=text, created_at=TIME, updated_at=TIME,
            messages=(message,), assets=(Asset(id=text, name=text, mime_type=text, missing=text, metadata=json),),
            metadata=json,
        )
    )  # fmt: skip


# --- shapes ---------------------------------------------------------------------------------


def _shapes() -> Iterator[HardRecord]:
    yield HardRecord("no messages", make_record("none", []))
    yield HardRecord("nothing but an id", record_of(Conversation(id="bare", source="test"), raw=False))
    bare = Conversation(id="bare message", source="test", messages=(Message(id="m", role="user"),))
    yield HardRecord("nothing but a message id", record_of(bare, raw=False))
    chain = [_message(f"m{i}", "user", TextPart(str(i)), parent_id=f"m{i - 1}" if i else None) for i in range(3000)]
    yield HardRecord("deep tree", _tree("deep", chain))
    wide = [_message("r", "user"), *(_message(f"b{-i}", "assistant", parent_id="r") for i in range(400))]
    yield HardRecord("wide tree", _tree("wide", wide, current="b-7"))
    forest = [_message(name, "user", TextPart(name)) for name in ("z", "a", "m")]
    forest.append(_message("leaf", "user", parent_id="a"))
    yield HardRecord("several roots", _tree("forest", forest, current="z"))
    backwards = [
        _message(f"{9 - i}", "user", parent_id=f"{10 - i}" if i else None, created_at=TIME - timedelta(days=i))
        for i in range(9)
    ]
    yield HardRecord("times and ids that fall", _tree("backwards", backwards))
    branches = [
        _message("q", "user", TextPart("first wording")), _message("a1", "assistant", TextPart("one"), parent_id="q"),
        _message("a2", "assistant", TextPart("two"), parent_id="q"), _message("q2", "user", parent_id="a1"),
        _message("q3", "user", parent_id="a2"), _message("p", "user", TextPart("second wording")),
    ]  # fmt: skip
    yield HardRecord("branches", _tree("branches", branches, current="q2"))
    parts = tuple(TextPart(f"{i}") for i in range(300))
    yield HardRecord("many parts", _tree("parts", [_message("m", "user", *parts)]))


def _tree(id: str, messages: list[Message], **fields: Any) -> Record:  # noqa: A002 - the name of the field
    return make_record(id, [], messages=tuple(messages), **fields)


# --- values ---------------------------------------------------------------------------------


def _values() -> Iterator[HardRecord]:
    keys = (
        "$set",
        "$",
        "a.b",
        ".",
        "..",
        "",
        " ",
        "_id",
        "__proto__",
        "$ref",
        "0",
        "type",
        "raw",
        "a\\b",
        "~1",
        "ключ",
    )
    yield HardRecord("keys", _with_json("keys", {k: {k: [k]} for k in keys}))
    numbers = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 0.1, -1.5, 1.0, 1767323045.678901, True, False]
    yield HardRecord("numbers", _with_json("numbers", {"n": numbers}))
    large = [2**63, 2**64, 10**30, -(2**63) - 1, 1e308, 5e-324, 1e22, -0.0]
    yield HardRecord("numbers beyond 64 bits", _with_json("large-numbers", {"n": large}), frozenset({"numbers"}))
    nested: JSON = "deep"
    for level in range(60):
        nested = {"level": level, "inner": [nested]}
    yield HardRecord("nested JSON", _with_json("nested", {"value": nested}))
    nothing: dict[str, JSON] = {"null": None, "object": {}, "list": [], "nulls": [None, None], "text": ""}
    yield HardRecord("nulls and empty containers", _with_json("nothing", nothing))
    yield HardRecord("empty mappings", _with_json("empty-mappings", {}))
    yield HardRecord("times", _with_times("times", "1969-12-31T23:59:59.999999", "1601-01-01T00:00:00.000001"))
    far = _with_times("far-times", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999")
    yield HardRecord("times at the ends of the calendar", far, frozenset({"times"}))
    yield HardRecord("one time and not the other", make_record("one-time", created_at=None))
    yield HardRecord("without raw", make_record("no-raw", raw=False))
    record = make_record("raw")
    odd = Raw(
        rb'{"escaped":"\u00fc\/ \n","big":123456789012345678901234567890,"float":1.50,"key":{"$a.b":[]}}',
        (b"null", b'{"id":"m1"}'),
    )
    yield HardRecord("odd raw", _with_raw(record, odd))
    sick = Raw(rb'{"text":"\ud83d"}', (rb'{"\ude00":1}', b"null"))
    yield HardRecord(
        "raw with surrogates", _with_raw(make_record("raw-surrogates"), sick), frozenset({"lone_surrogates"})
    )
    zero = Raw(rb'{"text":"\u0000"}', (rb'{"\u0000":1}', b"null"))
    yield HardRecord("raw with NUL", _with_raw(make_record("raw-nul"), zero), frozenset({"nul"}))


def _with_json(id: str, value: dict[str, JSON]) -> Record:  # noqa: A002 - the name of the field
    message = _message(
        "m", "assistant", TextPart("t", metadata=value), ToolCallPart("t", value), ToolCallResponsePart(value),
        UnknownPart(value), usage=value, feedback=value, metadata=value,
    )  # fmt: skip
    return make_record(id, [], messages=(message,), metadata=value)


def _with_times(id: str, *times: str) -> Record:  # noqa: A002 - the name of the field
    first, second = (datetime.fromisoformat(t).replace(tzinfo=UTC) for t in times)
    messages = (_message("m0", "user", created_at=first), _message("m1", "user", created_at=second, updated_at=first))
    return make_record(id, [], messages=messages, created_at=first, updated_at=second)


def _with_raw(record: Record, raw: Raw) -> Record:
    return msgspec.structs.replace(record, raw=raw)


# --- ids ------------------------------------------------------------------------------------

ALIKE = (
    ("Case", "cASE"), ("caf\u00e9", "cafe\u0301"), ("blank", "blank "), ("a:b", "a/b"), ("straße", "strasse"),
    ("ı", "i"), ("%41", "A"), ("x.y", "x-y"), ("x_y", "x%y"), ("7", "07"), ("ﬁ", "fi"), ("..", "."), ("NULL", "null"),
)  # fmt: skip
"""Pairs of ids that a store with a helpful collation, a URL or a file name takes for one."""


def _ids() -> Iterator[HardRecord]:
    for pair in ALIKE:
        for i, id_ in enumerate(pair):
            messages = tuple(_message(m, "user", TextPart(f"{m} of {id_}")) for m in pair)
            yield HardRecord(f"id like another ({id_!a})", make_record(id_, [], title=str(i), messages=messages))
    long = frozenset({"long_ids"})
    for end in "ab":
        messages = tuple(_message("m" * 499 + e, "user", TextPart(e)) for e in "ab")
        yield HardRecord(f"long id ending in {end}", make_record("i" * 499 + end, [], messages=messages), long)
    yield HardRecord("long id of many bytes", make_record("ü" * 250), long)
    nul = make_record("id\0nul", [], messages=(_message("m\0", "user"), _message("m", "user", parent_id="m\0")))
    yield HardRecord("NUL in ids", nul, frozenset({"nul"}))
    half = make_record("id\ud83d", [], messages=(_message("m\ud83d", "user"), _message("m", "user")))
    yield HardRecord("lone surrogates in ids", half, frozenset({"lone_surrogates"}))


# --- assets ---------------------------------------------------------------------------------


def _assets() -> Iterator[HardRecord]:
    yield _with_assets("empty asset", make_asset(b"", "e", name="empty.txt"), data=(b"",))
    large = bytes(range(251)) * 14000
    yield _with_assets("large asset", make_asset(large, "l", mime_type="video/mp4"), data=(large,))
    twice = (make_asset(b"same", "one", name="one.txt"), make_asset(b"same", "two", name="two.md"))
    yield _with_assets("one content, two names", *twice, data=(b"same",))
    shared = make_asset(PICTURE, "shared", name="../../a/b\\c\0.png", mime_type="image/png")
    yield _with_assets("a shared asset with an evil name", shared, data=(PICTURE,), needs=frozenset({"nul"}))
    missing = Asset(id="gone", name="gone.pdf", missing="not in the export")
    yield _with_assets("a missing asset", missing, data=())


def _with_assets(name: str, *assets: Asset, data: tuple[bytes, ...], needs: frozenset[str] = frozenset()) -> HardRecord:
    parts = tuple(FilePart(a.id) for a in assets)
    record = make_record(name, [], messages=(_message("m", "user", *parts),), assets=assets)
    return HardRecord(name, record, needs, {make_asset(d).sha256 or "": d for d in data})


def _message(id: str, role: str, *parts: Any, **fields: Any) -> Message:  # noqa: A002 - the name of the field
    return Message(id=id, role=role, **{"parts": parts, "created_at": TIME, **fields})
