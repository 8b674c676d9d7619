"""What stands above a Markdown file for programs: YAML that nothing in it can end or alter."""

import re
from collections.abc import Iterator
from datetime import datetime

import msgspec

from muniment import Conversation
from muniment_plugins.formats.transcript import to_utf8

# JSON may hold these as they are, YAML may not.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def front_matter(conversation: Conversation, visible: int) -> Iterator[str]:
    """Yield the lines, rules included; times are UTC, without a zone, as Obsidian wants them."""
    yield "---"
    yield f"title: {scalar(conversation.title or '')}"
    yield f"id: {scalar(conversation.id)}"
    yield f"source: {scalar(conversation.source)}"
    if conversation.account:
        yield f"account: {scalar(conversation.account)}"
    if conversation.created_at:
        yield f"created: {_time(conversation.created_at)}"
    if conversation.updated_at:
        yield f"updated: {_time(conversation.updated_at)}"
    if conversation.model:
        yield f"model: {scalar(conversation.model)}"
    yield f"messages: {len(conversation.messages)}"
    yield f"messages_visible: {visible}"
    yield "---"


def scalar(text: str) -> str:
    """Return ``text`` as a double-quoted YAML scalar, which is also JSON; a lone surrogate becomes U+FFFD."""
    if text.isprintable():
        return msgspec.json.encode(text).decode()
    encoded = msgspec.json.encode(to_utf8(text).decode()).decode()
    return _NOT_IN_YAML.sub(lambda m: f"\\u{ord(m[0]):04x}", encoded)


def _time(time: datetime) -> str:
    return time.isoformat(timespec="seconds")[:19]
