"""Other people's lists of hostile texts, through every format and into every name."""

import csv
import html.parser
import io
import json
import os
import re
import zlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from muniment import Asset, Conversation, FilePart, Link, Message, Origin, Record, TextPart, ToolCallPart, UriPart
from muniment import names as file_names
from muniment.canonical import record_from_json, record_to_json, source_hash
from muniment.model import Citation, ToolCallResponsePart
from muniment_plugins.formats.csv import CSV
from muniment_plugins.formats.html import HTML
from muniment_plugins.formats.markdown import Markdown
from muniment_plugins.formats.txt import PlainText

FOLDER = os.environ.get("MUNIMENT_CORPORA", "")


def strings():
    """Return (corpus, text) of all texts; none where no folder of corpora is named."""
    if not FOLDER:
        return []
    root = Path(FOLDER)
    found = [("blns", t) for t in json.loads((root / "blns/blns.json").read_text())]
    payloads = json.loads((root / "dompurify/payloads.json").read_text())
    found += [("dompurify", p["payload"] if isinstance(p, dict) else p) for p in payloads]
    lines = (root / "csv-injection/csv-payload.txt").read_text().splitlines()
    return found + [("csv-injection", line) for line in lines if line]


TEXTS = strings()
_FORMULA = re.compile('[\\s"\u200b-\u200f\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]')
needs_corpora = pytest.mark.skipif(not TEXTS, reason="MUNIMENT_CORPORA names no folder of outside test material")


def record(text, number=0):
    """Return a record with ``text`` wherever there is room for one."""
    messages = (
        Message(id=f"1{text}", role=text or "user", author=text, model=text, parts=(TextPart(text),), citations=(
            Citation("web", text, 0, len(text), (Link(text, text), Link(f"https://example.com/{text}", text))),)),
        Message(id=f"2{text}", role="assistant", parent_id=f"1{text}", recipient=text, status=text, parts=(
            TextPart(text, "code", text), TextPart(text, "quote", text, text, text), UriPart(text, "image", text),
            ToolCallPart(text, text, text, text), ToolCallPart(text, {text: text}),
            ToolCallResponsePart(text, text, text, text, text, text), FilePart(f"f{text}", "image", text, text))),
    )  # fmt: skip
    asset = Asset(id=f"f{text}", name=text, mime_type="image/png", sha256=f"{zlib.crc32(text.encode()):064x}")
    conversation = Conversation(
        id=f"{number}{text}", source="chatgpt", account=text, title=text, model=text, messages=messages, assets=(asset,)
    )
    return Record(conversation=conversation, origin=Origin(text, text), source_hash=source_hash(conversation))


RECORDS = [record(text, number) for number, (_, text) in enumerate(TEXTS)]


def link(asset):
    return f"assets/{file_names.asset_name(asset.sha256, asset.name, asset.mime_type)}"


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: tags, attributes, targets."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.targets = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.targets += [value for name, value in attributes if name in ("href", "src")]


@needs_corpora
class TestHTML:
    def test_has_our_tags_and_attributes_alone(self):
        """And leads to pages of the web, or to files beside it."""
        for each in RECORDS:
            page = Page(HTML().encode(each, link).decode())

            assert page.tags <= {
                "article", "header", "h1", "h2", "p", "section", "div", "pre", "details", "summary", "small", "a",
                "img", "ol", "ul", "li", "span",
            }  # fmt: skip
            assert page.attributes <= {"class", "dir", "id", "href", "src", "alt", "loading", "rel", "value"}
            assert all(t.startswith(("http://", "https://", "mailto:", "assets/", "#")) for t in page.targets)


@needs_corpora
class TestMarkdown:
    def test_has_our_headings_and_no_html_of_others(self):
        """A message is as many headings as there are messages; a target is a page of the web, or a file."""
        for each in RECORDS:
            text = Markdown().encode(each, link).decode().partition("\n---\n")[2]
            outside = re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1$", "", text)

            assert len(re.findall(r"(?m)^## \d+\. ", outside)) <= 2
            assert not re.search(
                r"(?i)<(script|iframe|img|svg|object|embed|form|style|base|meta|link)\b", _unspanned(outside)
            )
            assert not re.search(r"(?i)\]\(\s*<?\s*(javascript|vbscript|data:text)", outside)

    def test_front_matter_is_what_was_said(self):
        for each in RECORDS:
            head = Markdown().encode(each, link).decode().split("\n---\n")[0].removeprefix("---\n")
            values = YAML(typ="safe", pure=True).load(head)

            assert (values["title"], values["id"]) == (each.conversation.title, each.conversation.id)


def _unspanned(text):
    """Return Markdown without its inline code."""
    return re.sub(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "", text)


@needs_corpora
class TestCSV:
    def test_no_cell_is_a_formula(self):
        """Also behind what a spreadsheet skips; and each cell is the text, or the text behind a quote."""
        for each in RECORDS:
            form = CSV()
            rows = list(
                csv.reader(io.StringIO((form.header() + form.encode(each, link)).decode(), newline=""), strict=True)
            )

            assert {len(row) for row in rows} == {len(rows[0])}
            for row in rows[1:]:
                assert not any(_FORMULA.match(cell) for cell in row)
            title = each.conversation.title
            assert rows[1][3] in (title, f"'{title}")


@needs_corpora
class TestText:
    def test_nobody_forges_a_line_of_ours(self):
        for each in RECORDS:
            lines = PlainText().encode(each, link).decode().split("\n")

            assert sum(line.startswith("===") for line in lines) <= 3


@needs_corpora
class TestJSON:
    def test_comes_back(self):
        for each in RECORDS:
            line = record_to_json(each)

            assert b"\n" not in line
            assert record_from_json(line, each.origin) == each


@needs_corpora
class TestNames:
    def test_are_safe_everywhere_and_differ(self):
        """On systems that ignore case and forms of Unicode, and on those with devices."""
        made = [file_names.slug(r.conversation.title, r.key, ".md") for r in RECORDS]

        assert len({name.casefold() for name in made}) == len(made)
        for name in made:
            assert len(name.encode()) <= 200
            assert not re.search(r'[\x00-\x1f\x7f/\\:*?"<>|]', name)
            assert name[0] not in ".-~ " and name[-1] not in ". "
            assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)\s*\.", name)
