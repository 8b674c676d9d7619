"""An HTML page shows everything as it was written; nothing in it runs or leaves its place."""

from html.parser import HTMLParser

import pytest

from muniment import Asset, FilePart, Message, TextPart, ToolCallResponsePart, UriPart
from muniment_plugins.formats.html import HTML

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "article", "header", "h1", "h2", "p", "small", "section", "div",
    "pre", "details", "summary", "ol", "li", "a", "img", "em", "span",
}  # fmt: skip
ATTRIBUTES = {
    "charset", "http-equiv", "content", "name", "class", "dir", "href", "rel", "src", "alt", "loading",
}  # fmt: skip
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a page holds, and whether its elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.targets, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED
        assert {name for name, _ in attrs} <= ATTRIBUTES
        self.tags.append(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def page(record, links=lambda _asset: "", **options):
    form = HTML(**options)
    return form.header().decode() + form.encode(record, links).decode() + form.footer().decode()


def talk(make_record, *parts, **fields):
    return make_record(Message(id="m", role="user", parts=parts), **fields)


class TestHTML:
    def test_everything_is_on_the_page(self, full, links):
        """Each message under its number, files linked, the rest folded."""
        parsed = Page(page(full, links))

        text = "".join(parsed.texts)
        for said in (
            "Cats",
            "What is **this**?",
            "Looking closely",
            'print("```")',
            "A first answer",
            "Hidden message",
        ):
            assert said in text
        assert "assets/abababab.png" in parsed.targets
        assert "https://cats.example/x%20y(z)" in parsed.targets

    def test_texts_are_shown_as_they_are(self, make_record, naughty):
        """Nothing that a conversation says becomes an element, an attribute or a script."""
        for text in naughty:
            hostile = f'{text}"><script>alert(1)</script><img src=x onerror=alert(1)>'
            record = talk(make_record, TextPart(hostile), TextPart(hostile, kind="code"), title=hostile)

            parsed = Page(page(record))

            assert "script" not in parsed.tags and "img" not in parsed.tags

    @pytest.mark.parametrize(
        "url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//evil.example", "JAVASCRIPT:x"]
    )
    def test_links_only_lead_to_pages(self, make_record, url):
        """What is no web address is text."""
        record = talk(
            make_record, UriPart(url), ToolCallResponsePart("x", url=url), TextPart("t", kind="quote", url=url)
        )

        assert Page(page(record)).targets == []

    def test_names_of_files_cannot_break_out(self, make_record):
        """A file's name is text in the page, and its path one attribute."""
        asset = Asset(id="f", name='"><script>x', mime_type="image/png", sha256="ab" * 32)
        record = talk(make_record, FilePart("f", "image", name=asset.name), assets=(asset,))

        parsed = Page(page(record, lambda _asset: 'assets/"x"&.png'))

        assert parsed.targets == ['assets/"x"&.png', 'assets/"x"&.png']

    def test_characters_that_html_cannot_hold_are_replaced(self, make_record):
        """NUL, other controls and marks that turn text become U+FFFD; a lone surrogate too."""
        text = "".join(Page(page(talk(make_record, TextPart("a\x00b\x1bc\u202ed\ud800e")))).texts)

        assert "a\ufffdb\ufffdc\ufffdd\ufffde" in text

    def test_several_conversations_share_a_page(self, full, make_record):
        """Pieces between one header and one footer are a whole document."""
        form = HTML()
        pieces = [form.encode(r, lambda _asset: "") for r in (full, make_record())]

        parsed = Page((form.header() + b"".join(pieces) + form.footer()).decode())

        assert parsed.tags.count("article") == 2

    def test_hidden_messages_and_branches_can_be_left_out(self, full):
        text = page(full, hidden="omit", branches="visible")

        assert "be brief" not in text and "A first answer" not in text

    def test_the_page_calls_nobody(self, full, links):
        """Its policy allows no script, no font, no frame and no address but its own."""
        assert "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'" in page(full, links)
