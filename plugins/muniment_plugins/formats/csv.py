"""One row per message, for spreadsheets."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Literal

from attrs import frozen

from muniment import Asset, AssetLinks, FilePart, Format, Message, Record, UriPart, option, part_text, visible_path
from muniment_plugins.formats.transcript import to_utf8

COLUMNS = (
    "conversation_id", "source", "account", "title", "conversation_created_at", "conversation_updated_at",
    "message_id", "parent_id", "position", "role", "author", "recipient", "model", "created_at", "updated_at",
    "status", "hidden", "on_visible_path", "content_types", "text", "attachments",
)  # fmt: skip

# What a spreadsheet takes for a formula, also behind what it skips: blanks, quotes, zero-width signs.
_SKIPPED = "\\s\"'\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\u00ad\x00-\x08\x0e-\x1f"
_FORMULA = re.compile(f"[{_SKIPPED}]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_PLAIN_START = re.compile("[0-9A-Za-z]")
_NO_MESSAGE = Message(id="", role="")


@frozen(kw_only=True)
class CSV(Format):
    """RFC 4180: every value quoted, CRLF between rows, UTF-8.  A conversation without messages is a row too."""

    suffix: ClassVar[str] = ".csv"
    media_type: ClassVar[str] = "text/csv; charset=utf-8; header=present"

    delimiter: Literal[",", ";", "\t", "|"] = option("What stands between two values.", default=",")
    guard: bool = option(
        "Put `'` before a value that a spreadsheet would run as a formula; false keeps every value as it is.",
        default=True,
    )
    bom: bool = option("Begin with a byte order mark, so that Excel reads UTF-8.", default=False)

    def header(self) -> bytes:
        return (b"\xef\xbb\xbf" if self.bom else b"") + self._rows([COLUMNS])

    def encode(self, record: Record, links: AssetLinks) -> bytes:
        conversation = record.conversation
        guard = guarded if self.guard else str
        start = (
            guard(conversation.id),
            guard(conversation.source),
            guard(conversation.account or ""),
            guard(conversation.title or ""),
            _time(conversation.created_at),
            _time(conversation.updated_at),
        )
        path = visible_path(conversation)
        assets = {a.id: a for a in conversation.assets}
        messages = conversation.messages or (_NO_MESSAGE,)
        return self._rows(
            (
                *start,
                guard(m.id),
                guard(m.parent_id or ""),
                str(position) if m is not _NO_MESSAGE else "",
                guard(m.role),
                guard(m.author or ""),
                guard(m.recipient or ""),
                guard(m.model or ""),
                _time(m.created_at),
                _time(m.updated_at),
                guard(m.status or ""),
                _truth(m.hidden),
                _truth(m.id in path),
                " ".join([type(p).__struct_config__.tag for p in m.parts]),  # type: ignore[misc]
                guard(_text(m)),
                guard("; ".join(_attachments(m, assets, links))),
            )
            for position, m in enumerate(messages)
        )

    def _rows(self, rows: Iterable[Iterable[str]]) -> bytes:
        between = f'"{self.delimiter}"'
        lines = [between.join([v.replace('"', '""') if '"' in v else v for v in row]) for row in rows]
        return to_utf8('"' + '"\r\n"'.join(lines) + '"\r\n')


def guarded(value: str) -> str:
    """Return ``value``, with ``'`` before it if a spreadsheet would run it.

    Reversible: take one ``'`` away where what follows would itself be guarded.
    """
    if not value or _PLAIN_START.match(value) or not _FORMULA.match(value):
        return value
    return "'" + value


def _text(message: Message) -> str:
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is not FilePart:
        return part_text(parts[0])
    return "\n\n".join(t for p in parts if type(p) is not FilePart and (t := part_text(p)))


def _attachments(message: Message, assets: dict[str, Asset], links: AssetLinks) -> Iterable[str]:
    for part in message.parts:
        if type(part) is FilePart:
            asset = assets.get(part.file_id)
            yield (links(asset) if asset else "") or part.name or part.file_id
        elif type(part) is UriPart:
            yield part.uri


def _time(time: datetime | None) -> str:
    return "" if time is None else time.isoformat().replace("+00:00", "Z")


def _truth(value: bool) -> str:
    return "true" if value else "false"
