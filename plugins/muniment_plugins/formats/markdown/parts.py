"""How does each kind of part look in Markdown?"""

import html
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

from attrs import frozen

from muniment import (
    Asset,
    AssetLinks,
    BlobPart,
    Citation,
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UnknownPart,
    UriPart,
)
from muniment.canonical import to_json
from muniment_plugins.formats.markdown.prose import confined, fenced
from muniment_plugins.formats.transcript import Sources, one_line, replace_marks, without_marks

_SPECIAL = re.compile(r"[\\`*_\[\]#|~$%]")
_WEB = ("http://", "https://", "mailto:")
_MODALITIES = {"image": "Image", "audio": "Audio", "video": "Video"}
_LANGUAGES = {"", "unknown"}


@lru_cache(maxsize=4096)
def inline(text: str) -> str:
    """Return plain text as one line of Markdown that renders as itself."""
    return html.escape(_SPECIAL.sub(r"\\\g<0>", one_line(text)), quote=False)


@frozen
class Files:
    """The files of a conversation, and where their bytes stand beside the page."""

    assets: Mapping[str, Asset]
    links: AssetLinks

    def render(self, file_id: str, name: str = "", modality: str = "") -> str:
        """Return an image, a link, or what is missing and why."""
        asset = self.assets.get(file_id)
        name = name or (asset.name if asset else "") or file_id
        path = self.links(asset) if asset else ""
        if path:
            image = modality == "image" or (asset is not None and asset.mime_type.startswith("image/"))
            return f"{'!' if image else ''}[{inline(name)}]({_target(path)})"
        reason = (asset.missing if asset else "") or "not in the archive"
        return f"*{_MODALITIES.get(modality, 'File')} {inline(name)} is missing: {inline(reason)}*"


class LinkedSources(Sources):
    """Marks in the text as links; a file is linked where its bytes are."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self._files = files

    def render(self, number: int, file_id: str, url: str) -> str:
        target = _source_target(self._files, file_id, url)
        return f"([{number}]({target}))" if target else f"({number})"

    def lines(self) -> list[str]:
        """Return the list of sources for the end of the message."""
        if not self.names:
            return []
        return ["Sources:", "", *(self._line(n, *item) for n, item in enumerate(self.names.items(), 1))]

    def _line(self, number: int, key: tuple[str, str], title: str) -> str:
        file_id, url = key
        if file_id:
            return f"{number}. {self._files.render(file_id, title).lstrip('!')}"
        target = _source_target(self._files, "", url)
        name = inline(title or url)
        return f"{number}. [{name}]({target})" if target else f"{number}. {name}"


def render(part: Part, citations: tuple[Citation, ...], sources: LinkedSources, files: Files) -> str:
    """Return the Markdown of a part; empty if it says nothing."""
    return _RENDERERS[type(part)](part, citations, sources, files)


def folded(summary: str, body: str) -> str:
    """Return a section that a reader opens; ``body`` is Markdown."""
    return f"<details><summary>{html.escape(one_line(summary))}</summary>\n\n{body}\n\n</details>"


def _text(part: TextPart, citations: tuple[Citation, ...], sources: LinkedSources, files: Files) -> str:
    text = part.content
    if citations:
        text = replace_marks(text, citations, sources)
    if not text.isascii():
        text = without_marks(text)
    if part.kind in ("", "transcription") or not text:
        return confined(text)
    if part.kind in ("code", "error"):
        return fenced(text, "" if part.language in _LANGUAGES else part.language)
    title = part.title or part.url
    summary = part.kind.replace("_", " ").capitalize() + (f": {title}" if title else "")
    link = f"<{_quoted(part.url)}>\n\n" if part.url.startswith(_WEB) else ""
    return folded(summary, link + confined(text))


def _reasoning(part: ReasoningPart, *_: Any) -> str:
    if part.kind == "recap":
        return f"*{inline(part.content)}*" if part.content else ""
    if not part.content and not part.summary:
        return ""
    summary = f"Reasoning: {part.summary}" if part.summary else "Reasoning"
    return folded(summary, confined(without_marks(part.content)))


def _tool_call(part: ToolCallPart, *_: Any) -> str:
    return folded(f"Calls {part.name}" if part.name else "Calls a tool", _code(part.arguments, part.language))


def _response(part: ToolCallResponsePart, *_: Any) -> str:
    of = part.title or part.name
    link = f"<{_quoted(part.url)}>\n\n" if part.url.startswith(_WEB) else ""
    return folded(f"Output of {of}" if of else "Output", link + _code(part.response, ""))


def _file(part: FilePart, _citations: Any, _sources: Any, files: Files) -> str:
    return files.render(part.file_id, part.name, part.modality)


def _uri(part: UriPart, *_: Any) -> str:
    name = inline(part.uri)
    return f"[{name}]({_quoted(part.uri)})" if part.uri.startswith(_WEB) else f"*File elsewhere: {name}*"


def _blob(part: BlobPart, *_: Any) -> str:
    return f"*{_MODALITIES.get(part.modality, 'File')} {inline(part.mime_type)} inside the record*"


def _unknown(part: UnknownPart, *_: Any) -> str:
    return folded(f"Unknown content: {part.kind}" if part.kind else "Unknown content", _code(part.value, ""))


_RENDERERS: dict[Any, Callable[..., str]] = {
    TextPart: _text,
    ReasoningPart: _reasoning,
    ToolCallPart: _tool_call,
    ToolCallResponsePart: _response,
    FilePart: _file,
    UriPart: _uri,
    BlobPart: _blob,
    UnknownPart: _unknown,
}


def _code(value: Any, language: str) -> str:
    if isinstance(value, str):
        return fenced(without_marks(value), "" if language in _LANGUAGES else language)
    return fenced("" if value is None else _indented(value), "json")


def _indented(value: Any) -> str:
    import msgspec

    data = to_json(value)
    try:
        return msgspec.json.format(data, indent=2).decode()
    except msgspec.DecodeError:
        # It does not take the escapes of lone surrogates.
        return json.dumps(json.loads(data), indent=2)


def _source_target(files: Files, file_id: str, url: str) -> str:
    if file_id:
        asset = files.assets.get(file_id)
        path = files.links(asset) if asset else ""
        return _target(path) if path else ""
    return _quoted(url) if url.startswith(_WEB) else ""


_quoted = partial(quote, safe="/:?#@!$&'*+,;=%~[]", errors="replace")
"""A URL as a link's target: nothing in it can end the link."""


def _target(path: str) -> str:
    return _quoted(path)
