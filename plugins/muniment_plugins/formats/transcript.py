"""What do the formats that people read have in common: the order, the words, the bytes."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from attrs import frozen

from muniment import Citation, Conversation, Message, visible_path

Branches = Literal["all", "visible"]
Hidden = Literal["fold", "omit"]

_SURROGATES = re.compile("[\ud800-\udfff]")
_MARKS = re.compile("\ue200[^\ue201]*\ue201?|[\ue200-\ue206]")
_ROLES = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool", "developer": "Developer"}


def to_utf8(text: str) -> bytes:
    """Return UTF-8; a lone surrogate, which it cannot hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return scrubbed(text).encode()


def scrubbed(text: str) -> str:
    """Return ``text`` with each lone surrogate, which UTF-8 cannot hold, as U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Return ``text`` with every run of blanks and line breaks as one space."""
    return " ".join(text.split())


def role_name(role: str) -> str:
    """Return the role as a heading has it."""
    return _ROLES.get(role) or one_line(role).capitalize() or "Unknown"


def minute(time: datetime) -> str:
    """Return a time as ``2025-06-01 12:30``, UTC."""
    return time.isoformat(" ", "minutes")[:16]


@frozen
class Branch:
    """Messages in a row.  ``after`` is the message that they answer, None at the root."""

    after: str | None
    messages: list[Message]


def visible_and_branches(conversation: Conversation) -> tuple[list[Message], list[Branch]]:
    """Return the visible path, and the other branches in the order of the tree."""
    messages = conversation.messages
    path = visible_path(conversation)
    if len(path) == len(messages):
        return list(messages), []
    visible = [m for m in messages if m.id in path]
    return visible, list(_branches([m for m in messages if m.id not in path], path))


def _branches(messages: list[Message], path: frozenset[str]) -> Iterator[Branch]:
    children: dict[str | None, list[Message]] = {}
    known = {m.id for m in messages}
    roots = []
    for message in messages:
        if message.parent_id in known:
            children.setdefault(message.parent_id, []).append(message)
        else:
            roots.append(message)
    pending = roots[::-1]
    while pending:
        message = pending.pop()
        branch = Branch(message.parent_id, [message])
        while following := children.get(message.id):
            pending += following[:0:-1]
            message = following[0]
            branch.messages.append(message)
        yield branch


def without_marks(text: str) -> str:
    """Return ``text`` without the private-use marks that a vendor's page replaces."""
    return _MARKS.sub("", text) if "\ue200" in text or "\ue203" in text or "\ue204" in text else text


def replace_marks(text: str, citations: tuple[Citation, ...], numbers: "Sources") -> str:
    """Return ``text`` with the mark of every citation replaced by what ``numbers`` makes of it.

    A mark is replaced at its place where that is known, else wherever it stands; ordinary words
    are never taken for a mark.
    """
    placed = []
    for citation in citations:
        marker, start = citation.marker, citation.start
        if not marker or not (citation.links or citation.file_id):
            continue
        if start >= 0 and text[start : start + len(marker)] == marker:
            placed.append((start, start + len(marker), citation))
        elif _is_mark(marker):
            placed += [(m.start(), m.end(), citation) for m in re.finditer(re.escape(marker), text)]
    if not placed:
        return text
    pieces, position = [], 0
    for start, end, citation in sorted(placed, key=lambda p: p[:2]):
        if start >= position:
            pieces += [text[position:start], numbers.mark(citation)]
            position = end
    return "".join([*pieces, text[position:]])


def _is_mark(marker: str) -> bool:
    return "\ue200" in marker or "\u3010" in marker


class Sources:
    """Numbers what a message cites, in the order of its text."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], str] = {}

    def mark(self, citation: Citation) -> str:
        """Return what stands in the text for a citation."""
        if not citation.links:
            return self._mark(citation.file_id, "", "")
        return "".join(self._mark("", link.url, link.title) for link in citation.links)

    def _mark(self, file_id: str, url: str, title: str) -> str:
        key = (file_id, url)
        number = list(self.names).index(key) + 1 if key in self.names else len(self.names) + 1
        self.names[key] = self.names.get(key) or title
        return self.render(number, file_id, url)

    def render(self, number: int, file_id: str, url: str) -> str:
        return f"[{number}]"
