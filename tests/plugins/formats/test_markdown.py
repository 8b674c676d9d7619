"""Markdown pages read well, and no message reaches beyond its place."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from muniment import Asset, Citation, Conversation, FilePart, Link, Message, Origin, Record, TextPart, ToolCallPart
from muniment_plugins.formats.markdown import Markdown
from muniment_plugins.formats.markdown.prose import confined, fenced

HARMLESS = re.compile(r"</?(?:br|b|i|u|em|strong|sub|sup|kbd|mark|s|del|ins|small) ?/?>", re.IGNORECASE)
OURS = re.compile(r"<details><summary>[^<>]*</summary>|</details>")
SCRAPS = [
    "```", "~~~", "````", "\n", "\n\n", "   ", "    ", "- ", "1. ", "2. ", "> ", "# ", "## ", "## 1. User", "===",
    "---", "-", "\t", "\r", "`", "``", "|", "\n|---|\n|", "<script>", "</details>", "<!--", "<b>", "<br>", "<h2>",
    "<http://a`b>", "[a](", "[a]: ", "javascript:", ")", "\\", "word", "html", "%%",
]  # fmt: skip


def page(record, links=lambda _: "", **options):
    return Markdown(**options).encode(record, links).decode()


def split(page):
    """Return the front matter, parsed, and the rest."""
    _, front, rest = page.split("---\n", 2)
    return YAML(typ="safe").load(front), rest


def conversation_of(*texts):
    messages = tuple(Message(id=str(n), role="user", parts=(TextPart(t),)) for n, t in enumerate(texts))
    conversation = Conversation(
        id="c",
        source="s",
        title="T",
        current=str(len(texts) - 1),
        messages=tuple(
            Message(id=m.id, role="user", parent_id=str(n - 1) if n else None, parts=m.parts, hidden=n == 1)
            for n, m in enumerate(messages)
        ),
    )
    return Record(conversation=conversation, origin=Origin("x", "p"), source_hash="")


def inlines(tokens, kind):
    return [c for t in tokens if t.type == "inline" for c in t.children if c.type == kind]


def headings(tokens):
    return [tokens[n + 1].content for n, t in enumerate(tokens) if t.type == "heading_open" and t.tag in ("h1", "h2")]


class TestPage:
    def test_a_whole_page(self, full, links):
        assert (
            page(full, links)
            == """\
---
title: "Cats"
id: "c1"
source: "chatgpt"
account: "me"
created: 2025-06-01T12:30:15
updated: 2025-06-01T12:30:15
model: "gpt-4o"
messages: 8
messages_visible: 7
---

# Cats

## 1. System

<details><summary>Hidden message</summary>

be brief

</details>

## 2. User · 2025-06-01 12:30

What is **this**?

![cat (1).png](assets/abababab.png)

## 3. Assistant · o3

<details><summary>Reasoning: Looks</summary>

Looking closely

</details>

*Thought for 7s*

## 4. Assistant

<details><summary>Calls python</summary>

````python
print("```")
````

</details>

<details><summary>Calls web</summary>

```json
{
  "q": "cat"
}
```

</details>

## 5. Tool · python

<details><summary>Output of python</summary>

```
1
2
```

</details>

<details><summary>Output</summary>

```json
{
  "a": [
    1
  ]
}
```

</details>

## 6. Assistant · gpt-4o

A cat ([1](https://cats.example/x%20y%28z%29)).

```python
x = 1
```

<details><summary>Web page: Cats</summary>

<https://cats.example/a%28b%29>

what the page says

</details>

*File notes.pdf is missing: not in the export*

[https://pictures.example/1.png](https://pictures.example/1.png)

*Audio audio/wav inside the record*

<details><summary>Unknown content: super_widget</summary>

```json
{
  "odd": true
}
```

</details>

Sources:

1. [All \\[about\\] cats](https://cats.example/x%20y%28z%29)

# Other branches

*Another way on from message 2:*

## 7. Assistant

A first answer
"""
        )

    def test_options_leave_out(self, full):
        short = page(full, branches="visible", hidden="omit")

        assert "A first answer" not in short
        assert "be brief" not in short

    def test_branches_of_branches_say_where_they_fork(self, make_record):
        def say(id_, parent):
            return Message(id=id_, role="user", parent_id=parent, parts=(TextPart(id_),))

        record = make_record(
            say("a", None), say("b", "a"), say("c", "a"), say("d", "c"), say("e", "c"), say("f", None), current="b"
        )

        lines = page(record).split("\n")

        assert [x for x in lines if x.startswith("*")] == [
            "*Another way on from message 1:*",
            "*Another way on from message 3:*",
            "*Another start:*",
        ]

    def test_deep_trees_do_not_recurse(self, make_record):
        chain = [
            Message(id=str(n), role="user", parent_id=str(n - 1) if n else None, parts=(TextPart("x"),))
            for n in range(20_000)
        ]

        assert page(make_record(*chain, current="0")).count("\n## ") == 20_000


class TestFrontMatter:
    def test_titles_come_back(self, make_record, naughty):
        """Whatever the title is, YAML gives it back and the heading is one line."""
        for title in naughty:
            front, rest = split(page(make_record(title=title, id=f"id{title}")))

            assert (front["title"], front["id"]) == (title, f"id{title}")
            tokens = MarkdownIt("commonmark").parse(rest)
            assert [t.tag for t in tokens if t.type == "heading_open"] == ["h1"]
            assert not inlines(tokens, "html_inline")

    def test_lone_surrogates_become_the_replacement_sign(self, make_record):
        front, rest = split(page(make_record(title="a\ud83d")))

        assert front["title"] == "a\ufffd"
        assert "# a\ufffd" in rest

    def test_json_with_lone_surrogates_stays_json(self):
        """They stand as escapes, in a tool's arguments for one."""
        message = Message(id="m", role="assistant", parts=(ToolCallPart("look", {"q": "a\ud83d"}),))
        conversation = Conversation(id="c", source="s", messages=(message,))

        assert '"q": "a\\ud83d"' in page(Record(conversation=conversation, origin=Origin("x", "p"), source_hash=""))


class TestConfinement:
    """What the parser of another project makes of a page, whatever the messages say."""

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.sampled_from(SCRAPS), min_size=1, max_size=14).map("".join))
    def test_headings_and_html_are_ours_alone(self, text):
        """Roles cannot be forged, later messages are not swallowed, no tag gets through."""
        _, rest = split(page(conversation_of(text, text, "the last one")))

        for parser in (MarkdownIt("commonmark"), MarkdownIt("commonmark").enable("table")):
            tokens = parser.parse(rest)
            assert headings(tokens) == ["T", "1. User", "2. User", "3. User"]
            assert [t.content for t in tokens if t.type == "inline"][-1] == "the last one"
            assert all(OURS.fullmatch(t.content.strip()) for t in tokens if t.type == "html_block")
            assert all(HARMLESS.fullmatch(t.content) for t in inlines(tokens, "html_inline"))
            hrefs = [str(t.attrs["href"]) for t in inlines(tokens, "link_open")]
            assert not [h for h in hrefs if h.lower().startswith("javascript:")]

    @pytest.mark.parametrize(
        "target",
        ["javascript:alert(1)", "JaVaScRiPt:x", "&#106;avascript:x", "java&Tab;script:x", "data:text/html,x",
         "vbscript:x", "file:///etc/passwd", "<javascript:x>", "\\javascript:x"],
    )  # fmt: skip
    def test_links_that_run_code_are_disarmed(self, target):
        assert "](unsafe:" in confined(f"[a]({target})").replace("&lt;", "")

    @pytest.mark.parametrize(
        "text",
        ["[a](https://b.example)", "![a](data:image/png;base64,AA==)", "[a](filename.txt)", "[a](sandbox:/mnt/x)",
         "[1]: text", "<https://a.example>", "a < b and c<d> `<div>`".replace("<d>", "<5"), "a<br>b", "1 - 2",
         "### Three", "a `x<T>` b", "```html\n<script>\n# not a heading\n```", "- a\n  ```py\n  x\n  ```\n- b", "50%"],
    )  # fmt: skip
    def test_harmless_text_stays(self, text):
        assert confined(text) == text if not text.startswith("###") else confined(text) == "##### Three"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("# One\n## Two\n##### Five", "### One\n#### Two\n###### Five"),
            ("One\n===\nTwo\n---\nx", "One\n\\===\nTwo\n\n---\nx"),
            ("```py\nx", "```py\nx\n```"),
            ("1. a\n   ```py\nx\n   ```\nend", "1. a\n   ```py\n   x\n   ```\nend"),
            ("<div>\n%%", "&lt;div>\n\\%\\%"),
            ("a\r\nb\rc", "a\nb\nc"),
        ],
    )
    def test_what_is_changed(self, text, expected):
        assert confined(text) == expected

    def test_fences_are_longer_than_what_they_hold(self):
        assert fenced("a ````` b", "c++") == "``````c++\na ````` b\n``````"
        assert fenced("x", "py\n# evil") == "```\nx\n```"

    @pytest.mark.parametrize("unit", ["`", "```\n", "# ", "<a ", "[a](", "    ```\n", "> ", "`a``b```", "\n-", "]:  "])
    def test_hostile_text_takes_linear_time(self, unit):
        """A megabyte of whatever sign is a matter of a moment (the suite's time limit would tell)."""
        confined(unit * (1_000_000 // len(unit)))


class TestCitations:
    def record(self, make_record, text, *citations, **fields):
        message = Message(id="a", role="assistant", parts=(TextPart(text),), citations=citations)
        return make_record(message, **fields)

    def test_a_source_has_one_number(self, make_record):
        """Marks of the same source share it; a mark of several sources has several."""
        one, two = Link("https://a.example", "A"), Link("https://b.example", "B")
        text = "x \ue200cite\ue2021\ue201 y \ue200cite\ue2022\ue201"
        record = self.record(
            make_record,
            text,
            Citation(marker="\ue200cite\ue2021\ue201", links=(one,)),
            Citation(marker="\ue200cite\ue2022\ue201", links=(two, one)),
        )

        assert page(record).endswith(
            "x ([1](https://a.example)) y ([2](https://b.example))([1](https://a.example))\n\n"
            "Sources:\n\n1. [A](https://a.example)\n2. [B](https://b.example)\n"
        )

    def test_a_file_is_linked_where_it_is(self, make_record):
        record = self.record(
            make_record, "x【1†f】", Citation(marker="【1†f】", file_id="f"), assets=(Asset(id="f", name="f.pdf"),)
        )

        assert "x([1](files/f.pdf))" in page(record, lambda _: "files/f.pdf")
        assert "x(1)" in page(record)

    def test_plain_words_are_no_marks(self, make_record):
        """Only a known place, or a mark that nobody types, is replaced."""
        link = (Link("https://a.example"),)
        record = self.record(make_record, "the cat, the dog", Citation(marker="the", start=9, end=12, links=link))

        assert "the cat, ([1](https://a.example)) dog" in page(record)

    def test_unresolved_marks_are_left_out(self, make_record):
        """Nobody can read a private-use mark."""
        assert "x y z" in page(self.record(make_record, "x\ue200cite\ue202turn0\ue201 y\ue203 \ue204z"))

    @pytest.mark.parametrize(
        "url", ["javascript:alert(1)", "https://a.example/)](javascript:x)", "https://a.example/\n#"]
    )
    def test_a_url_cannot_break_out(self, make_record, url):
        record = self.record(make_record, "\ue200a\ue201", Citation(marker="\ue200a\ue201", links=(Link(url),)))

        tokens = MarkdownIt("commonmark").parse(split(page(record))[1])

        assert all(t.attrs["href"].startswith("https://a.example/") for t in inlines(tokens, "link_open"))


class TestFiles:
    @pytest.mark.parametrize("name", ["a](javascript:x).png", "a\nb.png", "<b>.png", "![x](y)", ""])
    def test_names_are_text(self, make_record, name):
        record = make_record(
            Message(id="a", role="user", parts=(FilePart("f", "image", name=name),)),
            assets=(Asset(id="f", name=name, sha256="00"),),
        )

        tokens = MarkdownIt("commonmark").parse(split(page(record, lambda _: "assets/f(1).png"))[1])

        [image] = inlines(tokens, "image")
        assert image.attrs["src"] == "assets/f%281%29.png"

    def test_tool_names_stay_in_their_summary(self, make_record):
        record = make_record(Message(id="a", role="assistant", parts=(ToolCallPart("</summary><script>\n\nx", "y"),)))

        assert "<summary>Calls &lt;/summary&gt;&lt;script&gt; x</summary>" in page(record)
