"""Whose conversations are these?  ChatGPT's, or those of a vendor that another source reads."""

import re
from collections.abc import Iterable, Mapping

import msgspec

from muniment.canonical import loads
from muniment_plugins.sources.chatgpt_export.ends import MAX_ODD_BYTES

CHATGPT = "ChatGPT"

_BY_KEYS: tuple[tuple[str, frozenset[str]], ...] = (
    ("a Claude export", frozenset({"chat_messages"})),
    ("the index of a Claude export (it names zips: download those)", frozenset({"data_files"})),
    ("a Grok export", frozenset({"conversation", "responses"})),
    ("a Google AI Studio file", frozenset({"chunkedPrompt"})),
    ("a Google Takeout of Gemini", frozenset({"header", "title", "time"})),
    ("a Gemini in Workspace export", frozenset({"conversation_turns"})),
    ("an Open WebUI export", frozenset({"chat", "user_id"})),
    ("a LibreChat export", frozenset({"conversationId", "options"})),
    ("a Mistral Le Chat export", frozenset({"chatId", "contentChunks"})),
    ("a Perplexity export", frozenset({"query_str"})),
    ("a batch file of the OpenAI API", frozenset({"custom_id"})),
    ("ShareGPT data", frozenset({"conversations"})),
    ("messages in the format of the OpenAI API", frozenset({"messages"})),
    ("a log of the OpenAI API", frozenset({"object", "choices"})),
    ("a log of the OpenAI API", frozenset({"object", "output"})),
    ("a log of the OpenAI API", frozenset({"request", "response"})),
)

_BY_NAME: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a Grok export", re.compile(r"(^|/)prod-grok-backend\.json$")),
    ("a Google Takeout", re.compile(r"^Takeout/|(^|/)My ?Activity\.(json|html)$", re.IGNORECASE)),
    ("a Mistral Le Chat export", re.compile(r"(^|/)chat-[0-9a-f-]{36}\.json$")),
    ("a Claude export", re.compile(r"(^|/)(users\.json|projects\.json|projects/[^/]+\.json|memories\.json)$")),
    ("a Perplexity export", re.compile(r"(^|/)user-data-[^/]*\.xlsx$")),
)


_EMPTY = msgspec.Raw()
_FRAGMENTS, _CONTENT_TYPE = re.compile(rb'"fragments"'), re.compile(rb'"content_type"')
_MAPPING = re.compile(rb'"mapping"')
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def of_value(data: bytes) -> str | None:
    """Return `CHATGPT`, what else a value of the array looks like, or None where nobody knows."""
    values = _object(data)
    if values is None:
        return None
    if "mapping" in values:
        return "a DeepSeek export" if _is_deepseek(values) else CHATGPT
    if "current_node" in values:
        return CHATGPT
    for vendor, keys in _BY_KEYS:
        if keys <= values.keys():
            return vendor
    if {"conversation_id", "title"} <= values.keys() or {"id", "title", "create_time"} <= values.keys():
        return CHATGPT
    return None


def of_names(names: Iterable[str]) -> str | None:
    """Return what an export with these members looks like, or None."""
    names = list(names)
    for vendor, pattern in _BY_NAME:
        if any(pattern.search(name) for name in names):
            return vendor
    return None


def _object(data: bytes | msgspec.Raw) -> Mapping[str, msgspec.Raw] | None:
    """Return the values of an object without a copy of them; empty ones where it takes the standard library,
    and of a large object the one that tells most."""
    try:
        return _decode_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if memoryview(data).nbytes > MAX_ODD_BYTES:
        return {"mapping": _EMPTY} if _MAPPING.search(data) else None
    try:
        value = loads(bytes(data))
    except msgspec.DecodeError:
        return None
    return dict.fromkeys(value, _EMPTY) if isinstance(value, dict) else None


def _is_deepseek(values: Mapping[str, msgspec.Raw]) -> bool:
    if "inserted_at" in values:
        return True
    nodes = _object(values["mapping"]) or {}
    messages = ((_object(node) or {}).get("message", _EMPTY) for node in nodes.values())
    # Searched, for `in` would take a copy, and one message may be all of a large conversation.
    return any(_FRAGMENTS.search(message) and not _CONTENT_TYPE.search(message) for message in messages)
