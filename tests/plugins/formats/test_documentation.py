"""The page of each format lists every field of a record and says truly whether the format holds it."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

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
from muniment.components import Format
from muniment_plugins.formats.csv import COLUMNS, CSV
from muniment_plugins.formats.html import HTML
from muniment_plugins.formats.json import JSONArray
from muniment_plugins.formats.jsonl import JSONLines
from muniment_plugins.formats.markdown import Markdown
from muniment_plugins.formats.txt import PlainText

PAGES = Path(__file__).parents[3] / "docs" / "formats"
FORMATS: dict[str, Format] = {"csv": CSV(), "txt": PlainText(), "markdown": Markdown(), "html": HTML()}
MARK = "\ue200cite\ue202x\ue201"
TIME = datetime(2025, 6, 1, 12, 30, tzinfo=UTC)
PARTS = (
    TextPart(f"prose {MARK} and 【2†f】"),
    TextPart("x = 1", kind="code", language="python"),
    TextPart("page", kind="web_page", title="Title", url="https://a.example"),
    ReasoningPart("thought", summary="in short"),
    ReasoningPart("", summary="only in short"),
    ReasoningPart("for 7 s", kind="recap"),
    ToolCallPart("search", "query", id="call1", language="python"),
    ToolCallResponsePart("answer", "search", id="call1"),
    ToolCallResponsePart("answer", title="Answer", url="https://b.example"),
    FilePart("f1", name="named.pdf"),
    FilePart("f2"),
    FilePart("f3", "image", name="lost.png"),
    UriPart("https://c.example/x"),
    BlobPart("aGk=", "audio"),
    BlobPart("aGk=", "audio", "audio/wav"),
    UnknownPart({"a": 1}, "odd"),
)
CITATIONS = (
    Citation("webpage", MARK, 6, 6 + len(MARK), (Link("https://d.example", "D"),)),
    Citation(marker="【2†f】", file_id="f1"),
)
ASSETS = (
    Asset(id="f1", name="one.pdf", sha256="ab" * 32),
    Asset(id="f2", name="two.pdf", mime_type="image/png", sha256="cd" * 32),
    Asset(id="f3", missing="not in the export"),
)
MESSAGES = (
    Message(id="m1", role="user", parts=(TextPart("hi"),)),
    Message(id="m2", role="assistant", parent_id="m1", parts=PARTS, citations=CITATIONS),
    Message(id="m3", role="user", parent_id="m1", parts=(TextPart("other"),)),
)
BASE = Conversation(id="c1", source="chatgpt", messages=MESSAGES, assets=ASSETS, current="m2")


def change(value, kind):
    """Return another value of a field's type."""
    text = str(kind)
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return ()
    if isinstance(value, int):
        return value + 1
    if "datetime" in text:
        return TIME
    if isinstance(value, dict) or "dict" in text:
        return {"changed": 1}
    if "int" in text:
        return 5
    return "https://changed.example/" if str(value).startswith("http") else "changed"


def variants(value):
    """Yield (field, changed value) for every field of a struct and of those below it."""
    name = type(value).__name__
    for field in msgspec.structs.fields(type(value)):
        old = getattr(value, field.name)
        yield f"{name}.{field.name}", replace(value, **{field.name: change(old, field.type)})
        if isinstance(old, tuple):
            for index, inner in enumerate(old):
                for path, changed in variants(inner):
                    yield path, replace(value, **{field.name: (*old[:index], changed, *old[index + 1 :])})


def links(asset):
    return f"assets/{asset.sha256}.pdf" if asset.sha256 else ""


def record(conversation, raw=True):
    nodes = tuple(b"{}" for _ in conversation.messages)
    return Record(
        conversation=conversation, origin=Origin("x", "p"), source_hash="", raw=Raw(b"{}", nodes) if raw else None
    )


def held_by(form):
    """Return every field, with whether changing it somewhere changes what the format writes."""
    base = form.encode(record(BASE), links)
    held = {"raw": form.encode(record(BASE, raw=False), links) != base}
    for path, conversation in variants(BASE):
        held[path] = held.get(path, False) or form.encode(record(conversation), links) != base
    return held


def listed(name):
    rows = re.findall(r"^\| `([A-Za-z0-9_.]+)` \| (yes|no) \|", (PAGES / f"{name}.md").read_text(), re.MULTILINE)
    return {field: answer == "yes" for field, answer in rows}


@pytest.mark.parametrize("name", FORMATS)
def test_the_page_says_what_is_left_out(name):
    """No field is missing from the list, and each answer is what the format does."""
    assert listed(name) == held_by(FORMATS[name])


@pytest.mark.parametrize("form", [JSONLines(), JSONArray()])
def test_the_whole_formats_leave_nothing_out(form):
    assert not [field for field, held in held_by(form).items() if not held]


def test_the_page_of_csv_lists_its_columns():
    columns = re.findall(r"^\d+\. `(\w+)`", (PAGES / "csv.md").read_text(), re.MULTILINE)

    assert tuple(columns) == COLUMNS
