"""What stands above a Markdown file for programs: YAML that nothing in it can end or alter."""

import re
from collections.abc import Iterator
from datetime import datetime

import msgspec

from muniment import Conversation, visible_path

# JSON may hold these as they are, YAML may not.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def front_matter(conversation: Conversation) -> Iterator[str]:
    """Yield the lines, rules included."""
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
    yield f"messages_visible: {len(visible_path(conversation))}"
    yield "---"


def scalar(text: str) -> str:
    """Return ``text`` as a double-quoted YAML scalar, which is also JSON; a lone surrogate becomes U+FFFD."""
    if text.isprintable():
        return msgspec.json.encode(text).decode()
    escaped = msgspec.json.encode(_NOT_IN_YAML.sub(_escape, text)).decode()
    return escaped.replace("\\\\\ue000", "\\")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\\ue000u{0xFFFD if 0xD800 <= code <= 0xDFFF else code:04x}"


def _time(time: datetime) -> str:
    return time.isoformat(timespec="seconds")[:19] + "Z"
