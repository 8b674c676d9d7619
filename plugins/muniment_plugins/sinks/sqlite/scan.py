"""How is an archive searched that has no index?  Every record is read, one at a time; slow, and nothing is written."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from muniment.crypto import Keyring
from muniment.model import Conversation, Message, part_text, visible_path
from muniment_plugins.sinks.sqlite.encode import time_text
from muniment_plugins.sinks.sqlite.read import cover_of, read_records
from muniment_plugins.sinks.sqlite.search import Hit, snippet
from muniment_plugins.sinks.sqlite.text import plain, terms, unwanted


def scan(
    path: Path,
    query: str,
    *,
    keyring: Keyring | None = None,
    limit: int = 20,
    role: str | None = None,
    source: str | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
) -> list[Hit]:
    """Return the first hits in the order of the archive: each word anywhere in a message, also inside of words.

    Raises:
        InputError: there is no such archive.
        ConfigError: it is encrypted, and no keyring was given.
        WrongKeyError: no key of the keyring opens it.
    """
    wanted = [t for t in terms(query) if t]
    if not wanted:
        return []
    hits = (
        _hit(conversation, message, text, wanted)
        for conversation, message, text in _said(path, keyring)
        if role in (None, message.role)
        and source in (None, conversation.source)
        and _is_between(message.created_at or conversation.created_at, after, before)
        and _matches(text, wanted, unwanted(query))
    )
    return list(islice(hits, limit))


def _said(path: Path, keyring: Keyring | None) -> Iterator[tuple[Conversation, Message, str]]:
    """Yield each message with its text; the title is a part of the first one's."""
    for _, record in read_records(path, cover_of(path, keyring)):
        conversation = record.conversation
        for position, message in enumerate(conversation.messages):
            text = "\n".join(filter(None, map(part_text, message.parts)))
            title = conversation.title if position == 0 else None
            yield conversation, message, f"{title}\n{text}" if title else text


def _matches(text: str, wanted: list[str], unwanted: list[str]) -> bool:
    folded = text.lower() if text.isascii() else plain(text)
    return all(t in folded for t in wanted) and not any(t in folded for t in unwanted)


def _is_between(time: datetime | None, after: datetime | None, before: datetime | None) -> bool:
    if time is None:
        return after is None and before is None
    return (after is None or time >= after) and (before is None or time < before)


def _hit(conversation: Conversation, message: Message, text: str, wanted: list[str]) -> Hit:
    return Hit(
        conversation_id=conversation.id,
        title=conversation.title or "",
        message_id=message.id,
        role=message.role,
        created_at=time_text(message.created_at),
        visible=message.id in visible_path(conversation),
        snippet=snippet(text, wanted),
        rank=0.0,
    )
