"""Which parts does the content of a message become?  One function for each content type.

A function takes what it understands out of ``rest``; what is left, and says something, becomes an unknown
part, so that nothing is lost when a content type grows.
"""

from collections.abc import Callable
from typing import Any

from muniment import Part, ReasoningPart, TextPart, ToolCallPart, ToolCallResponsePart
from muniment.model import JSON
from muniment_plugins.sources.chatgpt_export.parts import (
    Gathered,
    Values,
    kept,
    piece,
    pointer,
    take,
    take_some,
)
from muniment_plugins.sources.chatgpt_export.shapes import Author, Message

Handler = Callable[[Values, Message, Gathered], list[Part]]


def parts_of(message: Message, gathered: Gathered) -> list[Part]:
    """Return the parts of a message's content, in its order; empty texts make none."""
    content = message.content
    if content is None:
        return []
    if isinstance(content, str | list):
        content = {"parts": content}
    if not isinstance(content, dict):
        return [gathered.unknown(content, type(content).__name__)]
    rest = dict(content)
    kind = rest.pop("content_type", None)
    handler = _text if kind is None else _HANDLERS.get(kind) if isinstance(kind, str) else None
    if handler is None:
        return [gathered.unknown(content, kind)]
    parts = handler(rest, message, gathered)
    if rest and (left := kept(rest)):
        parts.append(gathered.unknown(left, kind))
    return parts


def _text(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    return _pieces(rest, gathered) + _texts(take(rest, "text"))


def _pieces(rest: Values, gathered: Gathered, plain: Callable[[str], Part] = TextPart) -> list[Part]:
    pieces = rest.pop("parts", None)
    if pieces is None:
        return []
    return [p for v in (pieces if isinstance(pieces, list) else [pieces]) for p in piece(v, gathered, plain)]


def _texts(content: str, **fields: Any) -> list[Part]:
    return [TextPart(content, **fields)] if content else []


def _code(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    language = take(rest, "language")
    language = "" if language == "unknown" else language
    gathered.extras |= take_some(rest, "response_format_name") or {}
    recipient = message.recipient
    if not isinstance(recipient, str) or recipient in ("", "all"):
        text = take(rest, "text")
        return [TextPart(text, kind="code", language=language)] if text or language else []
    return [ToolCallPart(recipient, rest.pop("text", None), language=language)]


def _tool(message: Message) -> str:
    name = message.author.name if isinstance(message.author, Author) else None
    return name if isinstance(name, str) else ""


def _execution_output(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    return [ToolCallResponsePart(rest.pop("text", None) or "", name=_tool(message), kind="execution")]


def _browsing(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    response = rest.pop("result", None) or ""
    metadata = take_some(rest, "summary", "assets", "tether_id")
    return [ToolCallResponsePart(response, name=_tool(message), kind="browse", metadata=metadata)]


def _citable(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    response = rest.pop("output_str", None) or ""
    about = rest.pop("metadata", None)
    if not isinstance(about, dict):
        rest["metadata"] = about
        about = {}
    about = dict(about)
    return [
        ToolCallResponsePart(
            response,
            name=_tool(message),
            kind="connector",
            title=take(about, "display_title"),
            url=take(about, "display_url"),
            metadata=kept(about) or None,
        )
    ]


def _computer(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    state = rest.pop("state", None)
    about = dict(state) if isinstance(state, dict) else {}
    screenshot = rest.pop("screenshot", None)
    if isinstance(screenshot, dict) and "image_asset_pointer" in screenshot:
        inner = screenshot["image_asset_pointer"]
        more = {k: v for k, v in screenshot.items() if k != "image_asset_pointer"}
        screenshot = {**more, **inner} if isinstance(inner, dict) else {**more, "asset_pointer": inner}
    shot = pointer(screenshot, "image", gathered) if isinstance(screenshot, dict) else None
    if shot is None:
        rest["screenshot"] = screenshot
    response = ToolCallResponsePart(
        kept(about) if isinstance(state, dict) else state,
        name=_tool(message),
        kind="computer",
        title=take(about, "title"),
        url=take(about, "url"),
        metadata=take_some(rest, "computer_id", "is_ephemeral", "tether_id"),
    )
    return [response] if shot is None else [response, shot]


def _quote(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    return _page(rest, "quote", "domain", "tether_id")


def _web_page(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    return _page(rest, "web_page", "domain", "snippet", "pub_date", "crawl_date", "pub_timestamp", "ref_id")


def _page(rest: Values, kind: str, *more: str) -> list[Part]:
    text, title, url = take(rest, "text"), take(rest, "title"), take(rest, "url")
    metadata = take_some(rest, *more)
    if not (text or title or url or metadata):
        return []
    return [TextPart(text, kind=kind, title=title, url=url, metadata=metadata)]


def _error(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    text, name = take(rest, "text"), take(rest, "name")
    return [TextPart(text, kind="error", title=name)] if text or name else []


def _user_context(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    return _contexts(rest, "user_profile", "user_instructions")


def _model_context(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    parts = _contexts(rest, "model_set_context", "repository", "repo_summary")
    if structured := take_some(rest, "structured_context", "repository", "repo_summary"):
        gathered.extras |= structured
    return parts


def _contexts(rest: Values, *keys: str) -> list[Part]:
    return [part for key in keys for part in _texts(take(rest, key), kind="context", title=key)]


def _app(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    parts = _contexts(rest, "custom_instructions")
    given = rest.pop("context_parts", None)
    for value in given if isinstance(given, list) else [given]:
        if not isinstance(value, dict):
            if value is not None:
                parts.append(gathered.unknown(value, "app_pairing_content"))
            continue
        about = dict(value)
        text, path = take(about, "text"), take(about, "path")
        parts.append(TextPart(text, kind="context", title=path, metadata=kept(about) or None))
    gathered.extras |= take_some(rest, "workspaces") or {}
    return parts


def _thoughts(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    thoughts = rest.pop("thoughts", None)
    parts: list[Part] = []
    for value in thoughts if isinstance(thoughts, list) else [thoughts]:
        parts += _thought(value, gathered)
    if "source_analysis_msg_id" in rest:
        gathered.extras |= take_some(rest, "source_analysis_msg_id") or {}
    return parts + _pieces(rest, gathered, ReasoningPart)


def _thought(value: JSON, gathered: Gathered) -> list[Part]:
    if value is None:
        return []
    if isinstance(value, str):
        return [ReasoningPart(value)] if value else []
    if not isinstance(value, dict):
        return [gathered.unknown(value, "thought")]
    rest = dict(value)
    content, summary = take(rest, "content"), take(rest, "summary") or take(rest, "summary_text")
    rest.pop("finished", None)
    chunks = rest.get("chunks")
    if not chunks or (isinstance(chunks, list) and all(isinstance(c, str) and c in content for c in chunks)):
        rest.pop("chunks", None)  # They are the content again, in pieces.
    parts: list[Part] = [ReasoningPart(content, summary=summary)] if content or summary else []
    if rest and (left := kept(rest)):
        parts.append(gathered.unknown(left, "thought"))
    return parts


def _recap(rest: Values, message: Message, gathered: Gathered) -> list[Part]:
    text = take(rest, "content") or take(rest, "text")
    parts: list[Part] = [ReasoningPart(text, kind="recap")] if text else []
    return parts + _pieces(rest, gathered, lambda t: ReasoningPart(t, kind="recap"))


_HANDLERS: dict[str, Handler] = {
    "text": _text,
    "multimodal_text": _text,
    "code": _code,
    "tether_browsing_code": _code,
    "execution_output": _execution_output,
    "tether_browsing_display": _browsing,
    "citable_code_output": _citable,
    "computer_output": _computer,
    "tether_quote": _quote,
    "sonic_webpage": _web_page,
    "system_error": _error,
    "user_editable_context": _user_context,
    "model_editable_context": _model_context,
    "app_pairing_content": _app,
    "thoughts": _thoughts,
    "reasoning_recap": _recap,
}
