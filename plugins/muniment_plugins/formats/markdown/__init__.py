"""One page per conversation, for people: reads well in Obsidian and on GitHub."""

from collections.abc import Iterator
from typing import ClassVar

from attrs import frozen

from muniment import AssetLinks, Format, Message, Record, option
from muniment_plugins.formats.markdown.front_matter import front_matter
from muniment_plugins.formats.markdown.parts import Files, LinkedSources, folded, inline, render
from muniment_plugins.formats.transcript import (
    Branch,
    Branches,
    Hidden,
    minute,
    role_name,
    to_utf8,
    visible_and_branches,
)


@frozen(kw_only=True)
class Markdown(Format):
    """A page with front matter, a heading per message, files beside it, tools folded.

    Message headings are the only ones of the second level, so no message can pretend to be another.
    """

    suffix: ClassVar[str] = ".md"
    media_type: ClassVar[str] = "text/markdown; charset=utf-8"
    default_mode: ClassVar[str] = "mirror"

    branches: Branches = option("`visible` leaves out the branches that the page does not show.", default="all")
    hidden: Hidden = option(
        "`fold` keeps the messages that the page hides, folded; `omit` leaves them out.", default="fold"
    )

    def separator(self) -> bytes:
        return b"\n"

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        conversation = record.conversation
        visible, branches = visible_and_branches(conversation)
        page = _Page(Files({a.id: a for a in conversation.assets}, links), fold=self.hidden == "fold")
        lines = [*front_matter(conversation, len(visible)), "", f"# {inline(conversation.title or '') or 'Untitled'}"]
        for message in visible:
            page.add(message, lines)
        if branches and self.branches == "all":
            lines += page.others(branches)
        lines.append("")
        return to_utf8("\n".join(lines))


class _Page:
    """What a page knows while it grows: the files, and which number each message has."""

    def __init__(self, files: Files, *, fold: bool) -> None:
        self._files = files
        self._fold = fold
        self._numbers: dict[str, int] = {}

    def add(self, message: Message, lines: list[str]) -> None:
        """Append a message that says something."""
        if not message.parts or (message.hidden and not self._fold):
            return
        sources = LinkedSources(self._files)
        blocks = [b for p in message.parts if (b := render(p, message.citations, sources, self._files))]
        if not blocks:
            return
        body = "\n\n".join(blocks)
        if sources.names:
            body = "\n".join([body, "", *sources.lines()])
        if message.hidden:
            body = folded("Hidden message", body)
        number = self._numbers[message.id] = len(self._numbers) + 1
        lines += ("", f"## {number}. {_heading(message)}", "", body)

    def others(self, branches: list[Branch]) -> Iterator[str]:
        """Yield the lines of the branches, each with where it leaves the tree."""
        title: tuple[str, ...] = ("", "# Other branches")
        for branch in branches:
            lines: list[str] = []
            for message in branch.messages:
                self.add(message, lines)
            if lines:
                yield from title
                after = self._numbers.get(branch.after or "")
                yield ""
                yield f"*Another way on from message {after}:*" if after else "*Another start:*"
                yield from lines
                title = ()


def _heading(message: Message) -> str:
    words = [inline(role_name(message.role))]
    words += [inline(x) for x in (message.author, message.model) if x]
    if message.created_at is not None:
        words.append(minute(message.created_at))
    return " · ".join(words)
