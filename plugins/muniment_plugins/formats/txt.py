"""A plain transcript: what was said, in the order of the page."""

from collections.abc import Iterator
from typing import ClassVar

from attrs import frozen

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

_RULE = "==="


@frozen(kw_only=True)
class PlainText(Format):
    """A transcript.  A line that begins with ``===`` is always ours: one in a message is moved by a blank."""

    suffix: ClassVar[str] = ".txt"
    media_type: ClassVar[str] = "text/plain; charset=utf-8"
    default_mode: ClassVar[str] = "mirror"

    branches: Branches = option("`visible` leaves out the branches that the page does not show.", default="all")
    hidden: Hidden = option("`omit` leaves out the messages that the page hides.", default="fold")

    def separator(self) -> bytes:
        return b"\n\n"

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        return to_utf8("\n".join(self._lines(record.conversation, links)) + "\n")

    def _lines(self, conversation: Conversation, links: AssetLinks) -> Iterator[str]:
        visible, branches = visible_and_branches(conversation)
        assets = {a.id: a for a in conversation.assets}
        numbers: dict[str, int] = {}
        yield f"{_RULE} {one_line(conversation.title or '') or 'Untitled'} {_RULE}"
        yield one_line(f"{conversation.source} conversation {conversation.id}{_dates(conversation)}")
        for message in visible:
            yield from self._message(message, numbers, assets, links)
        for branch in branches if self.branches == "all" else ():
            lines = [x for m in branch.messages for x in self._message(m, numbers, assets, links)]
            if lines:
                after = numbers.get(branch.after or "")
                yield ""
                yield f"{_RULE} Branch {f'after message {after}' if after else 'from the start'} {_RULE}"
                yield from lines

    def _message(
        self, message: Message, numbers: dict[str, int], assets: dict[str, Asset], links: AssetLinks
    ) -> Iterator[str]:
        if message.hidden and self.hidden == "omit":
            return
        sources = Sources()
        texts = [t for p in message.parts if (t := _text(p, message, sources, assets, links))]
        if not texts:
            return
        numbers[message.id] = len(numbers) + 1
        yield ""
        yield f"{_RULE} {_heading(message, numbers[message.id])}"
        text = "\n\n".join(texts)
        if _RULE in text:
            text = "\n".join(f" {x}" if x.startswith(_RULE) else x for x in text.split("\n"))
        yield text
        if sources.names:
            yield ""
            for number, ((file_id, url), title) in enumerate(sources.names.items(), 1):
                where = url or _file(file_id, "", assets, links)
                yield f"[{number}] {one_line(f'{title} {where}')}"


def _dates(conversation: Conversation) -> str:
    created, updated = conversation.created_at, conversation.updated_at
    return (f", created {minute(created)}" if created else "") + (f", updated {minute(updated)}" if updated else "")


def _heading(message: Message, number: int) -> str:
    words = [f"{number}. {role_name(message.role)}"]
    words += [one_line(x) for x in (message.author, message.model) if x]
    words += [minute(message.created_at)] if message.created_at else []
    words += ["hidden"] if message.hidden else []
    return ", ".join(words)


def _text(part: Part, message: Message, sources: Sources, assets: dict[str, Asset], links: AssetLinks) -> str:
    if isinstance(part, TextPart):
        text = part.content
        if message.citations:
            text = replace_marks(text, message.citations, sources)
        return without_marks(text)
    if isinstance(part, FilePart):
        return f"[file: {_file(part.file_id, part.name, assets, links)}]"
    if isinstance(part, UriPart):
        return f"[file: {part.uri}]"
    if isinstance(part, BlobPart):
        return f"[inline file: {part.mime_type or part.modality}]"
    text = part_text(part)
    if isinstance(part, ReasoningPart):
        return f"[reasoning] {text}"
    if isinstance(part, ToolCallPart):
        return f"[calls {part.name}] {text}"
    if isinstance(part, ToolCallResponsePart):
        return f"[output] {text}"
    return f"[unknown content] {text}"


def _file(file_id: str, name: str, assets: dict[str, Asset], links: AssetLinks) -> str:
    asset = assets.get(file_id)
    link = links(asset) if asset else ""
    name = one_line(name or (asset.name if asset else "") or file_id)
    if link:
        return f"{name} ({link})"
    reason = one_line((asset.missing if asset else "") or "not in the archive")
    return f"{name} (missing: {reason})"
