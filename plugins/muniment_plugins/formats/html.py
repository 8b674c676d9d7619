"""Conversations as a page for any browser: plain, whole, and without anything that runs or calls out."""

import re
from collections.abc import Iterator
from html import escape
from typing import ClassVar
from urllib.parse import quote

from attrs import field, frozen

from muniment import (
    Asset,
    AssetLinks,
    BlobPart,
    Conversation,
    FilePart,
    Format,
    Message,
    Part,
    ReasoningPart,
    Record,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UnknownPart,
    UriPart,
    option,
    part_text,
)
from muniment_plugins.formats.transcript import (
    Branches,
    Hidden,
    Sources,
    minute,
    one_line,
    replace_marks,
    role_name,
    to_utf8,
    visible_and_branches,
    without_marks,
)

# What HTML cannot hold (no reference to it is allowed either), and marks that turn the direction of text.
_UNFIT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
_WEB = ("http://", "https://", "mailto:")
_SHOWN_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MODALITIES = {"image": "Image", "audio": "Audio", "video": "Video"}

_HEAD = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Conversations</title>
<style>
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
body { overflow-wrap: anywhere; color-scheme: light dark }
section { margin: 1.5rem 0 } h2 { font-size: 1rem; margin: 0 }
.text { white-space: pre-wrap } img { max-width: 100% }
pre { overflow: auto; padding: .5rem; border: 1px solid #8888 }
header p, h2 small, .missing { color: #777 }
</style>
</head>
<body>
"""


@frozen(kw_only=True)
class HTML(Format):
    """A page with a section per message, images in place, reasoning and tools folded.

    Nothing in it runs or is fetched from elsewhere; every text stands as it was written.
    """

    suffix: ClassVar[str] = ".html"
    media_type: ClassVar[str] = "text/html; charset=utf-8"
    default_mode: ClassVar[str] = "mirror"

    branches: Branches = option("`visible` leaves out the branches that the page does not show.", default="all")
    hidden: Hidden = option(
        "`fold` keeps the messages that the page hides, folded; `omit` leaves them out.", default="fold"
    )

    def header(self) -> bytes:
        return _HEAD.encode()

    def footer(self) -> bytes:
        return b"</body>\n</html>\n"

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        conversation = record.conversation
        page = _Page({a.id: a for a in conversation.assets}, links, fold=self.hidden == "fold")
        visible, branches = visible_and_branches(conversation)
        lines = ["<article>", *_top(conversation)]
        for message in visible:
            lines += page.message(message)
        for branch in branches if self.branches == "all" else ():
            inner = [x for m in branch.messages for x in page.message(m)]
            if inner:
                after = page.numbers.get(branch.after or "")
                where = f"Another way on from message {after}" if after else "Another start"
                lines += [f"<details><summary>{where}</summary>", *inner, "</details>"]
        return to_utf8("\n".join([*lines, "</article>", ""]))


@frozen
class _Page:
    """What a page knows while it grows: the files, and which number each message has."""

    assets: dict[str, Asset]
    links: AssetLinks
    fold: bool
    numbers: dict[str, int] = field(factory=dict)

    def message(self, message: Message) -> Iterator[str]:
        """Yield the lines of a message that says something."""
        if message.hidden and not self.fold:
            return
        sources = Sources()
        blocks = [b for p in message.parts if (b := self._part(p, message, sources))]
        if not blocks:
            return
        number = self.numbers[message.id] = len(self.numbers) + 1
        yield f"<section><h2>{number}. {_heading(message)}</h2>"
        if message.hidden:
            yield "<details><summary>Hidden message</summary>"
        yield from blocks
        if sources.names:
            yield "<ol>"
            for (file_id, url), title in sources.names.items():
                yield f"<li>{self._file(file_id, title, '') if file_id else _link(url, title or url)}</li>"
            yield "</ol>"
        if message.hidden:
            yield "</details>"
        yield "</section>"

    def _part(self, part: Part, message: Message, sources: Sources) -> str:
        if isinstance(part, TextPart):
            return _prose(part, message, sources)
        if isinstance(part, ReasoningPart):
            text = part.content or part.summary
            if part.kind == "recap":
                return f"<p><em>{_text(text)}</em></p>" if text else ""
            return _folded(f"Reasoning: {part.summary}" if part.summary else "Reasoning", _block(text)) if text else ""
        if isinstance(part, ToolCallPart):
            return _folded(f"Calls {part.name}" if part.name else "Calls a tool", _code(part_text(part)))
        if isinstance(part, ToolCallResponsePart):
            of = part.title or part.name
            link = f"<p>{_link(part.url, part.url)}</p>" if part.url else ""
            return _folded(f"Output of {of}" if of else "Output", link + _code(part_text(part)))
        if isinstance(part, FilePart):
            return f"<p>{self._file(part.file_id, part.name, part.modality)}</p>"
        if isinstance(part, UriPart):
            return f"<p>{_link(part.uri, part.uri)}</p>"
        if isinstance(part, BlobPart):
            what = part.mime_type or _MODALITIES.get(part.modality, "File")
            return f'<p class="missing">{_text(what)} inside the record</p>'
        assert isinstance(part, UnknownPart)
        return _folded(f"Unknown content: {part.kind}" if part.kind else "Unknown content", _code(part_text(part)))

    def _file(self, file_id: str, name: str, modality: str) -> str:
        asset = self.assets.get(file_id)
        name = _text(one_line(name or (asset.name if asset else "") or file_id))
        path = self.links(asset) if asset else ""
        if not path:
            reason = (asset.missing if asset else "") or "not in the archive"
            kind = _MODALITIES.get(modality, "File")
            return f'<span class="missing">{kind} {name} is missing: {_text(one_line(reason))}</span>'
        target = escape(path)
        shown = asset is not None and (
            asset.mime_type in _SHOWN_IMAGES or (not asset.mime_type and modality == "image")
        )
        label = f'<img src="{target}" alt="{name}" loading="lazy">' if shown else name
        return f'<a href="{target}">{label}</a>'


def _top(conversation: Conversation) -> Iterator[str]:
    yield f"<header><h1>{_text(one_line(conversation.title or '')) or 'Untitled'}</h1>"
    facts = [f"{conversation.source} conversation {conversation.id}"]
    if conversation.created_at:
        facts.append(f"created {minute(conversation.created_at)}")
    if conversation.updated_at:
        facts.append(f"updated {minute(conversation.updated_at)}")
    yield f"<p>{_text(one_line(' · '.join(facts)))}</p></header>"


def _heading(message: Message) -> str:
    words = [x for x in (message.author, message.model) if x]
    if message.created_at is not None:
        words.append(minute(message.created_at))
    small = f" <small>{_text(one_line(' · '.join(words)))}</small>" if words else ""
    return f"{_text(role_name(message.role))}{small}"


def _prose(part: TextPart, message: Message, sources: Sources) -> str:
    text = part.content
    if message.citations:
        text = replace_marks(text, message.citations, sources)
    text = without_marks(text)
    if part.kind in ("code", "error"):
        return _code(text)
    if part.kind in ("", "transcription"):
        return _block(text) if text else ""
    title = part.title or part.url
    summary = part.kind.replace("_", " ").capitalize() + (f": {title}" if title else "")
    return _folded(summary, (f"<p>{_link(part.url, part.url)}</p>" if part.url else "") + _block(text))


def _text(text: str) -> str:
    """Return text as HTML shows it: nothing in it is markup, and nothing turns what stands around it."""
    return escape(_UNFIT.sub("\ufffd", text))


def _block(text: str) -> str:
    return f'<div class="text" dir="auto">{_text(text)}</div>'


def _code(text: str) -> str:
    # The parser drops a line break that stands right behind the tag.
    return f"<pre>\n{_text(text)}</pre>"


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{_text(one_line(summary))}</summary>{body}</details>"


def _link(url: str, text: str) -> str:
    """Return a link where the target is a page or an address, else only the text."""
    shown = _text(one_line(text))
    if not url.startswith(_WEB):
        return shown
    target = escape(quote(url, safe="/:?#@!$&'()*+,;=%~[]", errors="replace"))
    return f'<a href="{target}" rel="noopener noreferrer">{shown}</a>'
