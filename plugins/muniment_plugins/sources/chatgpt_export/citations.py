"""What do the marks in a message's text stand for?

Four things tell: ``content_references``, the older ``citations``, the search results that a mark such as
``\\ue200cite\\ue202turn0search3\\ue201`` numbers, and the library for links to ``sandbox:/mnt/data/``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from muniment import Citation, Link
from muniment.model import JSON, as_mapping
from muniment_plugins.sources.chatgpt_export.parts import Gathered, Values, file_id_of, kept

ResultId = tuple[int, str, int]
"""Turn, kind (``search``, ``news``, ``file`` ...) and number of a search result."""

_MARK = re.compile("\ue200(\\w+)\ue202([^\ue200\ue201]*)\ue201")
_RESULT = re.compile(r"turn(\d+)([a-z_]+)(\d+)")
_SANDBOX = re.compile(r"(?<=\()sandbox:/mnt/data/([^()\n]+)(?=\))|sandbox:/mnt/data/([^\s()\[\]\"'<>]+)")
_FILE_ID = re.compile(r"(?:[a-z-]+://)?file[-_][A-Za-z0-9]")
_OPENINGS = ("\ue200", "【")

_PLACE = frozenset({"type", "matched_text", "start_idx", "end_idx"})
_LINKED = frozenset({
    "grouped_webpages", "grouped_webpages_model_predicted_fallback", "sources_footnote", "webpage", "webpage_extended",
})  # fmt: skip
"""Kinds whose links say all there is."""
_NOISE = frozenset(
    {
        "refs",
        "safe_urls",
        "status",
        "error",
        "style",
        "prompt_text",
        "invalid",
        "has_images",
        "attributable_index",
    }
)
_PLURALS = frozenset({"items", "fallback_items", "sources", "supporting_websites", "images", "image_results"})


def of_references(references: Iterable[JSON], text: str, gathered: Gathered) -> list[Citation]:
    """Return what ``content_references`` of a message with this ``text`` say."""
    places = _Places(text)
    return [c for r in references if isinstance(r, dict) and (c := _of_reference(r, places, gathered))]


def of_citations(citations: Iterable[JSON], text: str, gathered: Gathered) -> list[Citation]:
    """Return what ``citations`` say, which stand for the references of older messages."""
    places = _Places(text)
    return [c for r in citations if isinstance(r, dict) and (c := _of_citation(r, places, gathered))]


def of_marks(text: str, known: Iterable[Citation], results: Mapping[ResultId, Link]) -> Iterator[Citation]:
    """Yield for each mark in ``text`` that ``known`` does not explain the search results that it numbers."""
    explained = {c.marker for c in known}
    for match in _MARK.finditer(text):
        if match[0] not in explained:
            ids = (_RESULT.fullmatch(i) for i in match[2].split("\ue202"))
            links = _unique(results[k] for i in ids if i and (k := (int(i[1]), i[2], int(i[3]))) in results)
            if links:
                yield Citation(match[1], match[0], match.start(), match.end(), links)


def of_sandbox(text: str, origins: Mapping[tuple[str, str], str], ids: Iterable[str]) -> Iterator[Citation]:
    """Yield a citation for each link to a file that the library knows from one of the origins ``ids``."""
    for match in _SANDBOX.finditer(text):
        name = unquote(match[1] or match[2]).rpartition("/")[2]
        file_id = next((origins[i, name] for i in ids if (i, name) in origins), "")
        if file_id:
            yield Citation("file", match[0], match.start(), match.end(), file_id=file_id, metadata={"name": name})


def results_of(groups: JSON) -> Iterator[tuple[ResultId, Link]]:
    """Yield the numbered results of ``search_result_groups``."""
    for group in groups if isinstance(groups, list) else ():
        entries = as_mapping(group).get("entries")
        for entry in entries if isinstance(entries, list) else ():
            if found := result_of(as_mapping(entry)):
                yield found


def result_of(entry: Mapping[str, JSON]) -> tuple[ResultId, Link] | None:
    """Return the number and the link of one search result (or page); None where one of them is missing."""
    ref, url = as_mapping(entry.get("ref_id")), entry.get("url")
    turn, kind, index = ref.get("turn_index"), ref.get("ref_type"), ref.get("ref_index")
    if type(turn) is int and type(index) is int and isinstance(kind, str) and isinstance(url, str) and url:
        return (turn, kind, index), Link(url, _text(entry, "title"))
    return None


class _Places:
    """Finds marks in a text, the next one each time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._utf16: bytes | None = None
        self._searched: dict[str, int] = {}

    def find(self, marker: str, start: JSON, end: JSON) -> tuple[int, int]:
        """Return where ``marker`` stands, in code points: (-1, -1) if nowhere.

        ``start`` and ``end`` may count code points or UTF-16 units; both were claimed of exports.
        """
        text = self.text
        if type(start) is int and type(end) is int and 0 <= start < end:
            if text[start:end] == marker:
                self._searched[marker] = end
                return start, end
            if not text.isascii() and (at := self._from_utf16(marker, start, end)) >= 0:
                self._searched[marker] = at + len(marker)
                return at, at + len(marker)
        at = text.find(marker, self._searched.get(marker, 0))
        if at < 0:
            at = text.find(marker)
        if at < 0:
            return -1, -1
        self._searched[marker] = at + len(marker)
        return at, at + len(marker)

    def _from_utf16(self, marker: str, start: int, end: int) -> int:
        if self._utf16 is None:
            self._utf16 = self.text.encode("utf-16-le", "surrogatepass")
        units = self._utf16
        if units[2 * start : 2 * end] != marker.encode("utf-16-le", "surrogatepass"):
            return -1
        at = len(units[: 2 * start].decode("utf-16-le", "surrogatepass"))
        return at if self.text.startswith(marker, at) else -1


def _of_reference(reference: Values, places: _Places, gathered: Gathered) -> Citation | None:
    kind, marker = _text(reference, "type"), _text(reference, "matched_text")
    links = _links(reference)
    file_id = _cited_file(reference, gathered) if kind == "file" or not links else ""
    metadata: Values = {}
    if kind not in _LINKED:
        dropped = (*_PLACE, *_NOISE, *(("url", "title") if links else ()))
        metadata = kept({k: v for k, v in reference.items() if k not in dropped})
    if not links and isinstance(urls := reference.get("safe_urls"), list):
        links = _unique(Link(u) for u in urls if isinstance(u, str) and u)
    if not marker.strip():
        # A blank is not a mark: whoever replaces marks would replace the first blank of the text.
        marker = ""
    if not (links or file_id or metadata or (marker and kind in _LINKED)):
        return None
    start, end = places.find(marker, reference.get("start_idx"), reference.get("end_idx")) if marker else (-1, -1)
    return Citation(kind, marker, start, end, links, file_id, metadata or None)


def _of_citation(citation: Values, places: _Places, gathered: Gathered) -> Citation | None:
    about = dict(as_mapping(citation.get("metadata")))
    start, end = citation.get("start_ix"), citation.get("end_ix")
    marker = ""
    if type(start) is int and type(end) is int and 0 <= start < end:
        marker = places.text[start:end]
    if not marker.startswith(_OPENINGS):
        marker = ""
    links = _links(about)
    file_id = _cited_file(about, gathered)
    dropped = ("type", "url", "title") if links else ("type",)
    metadata = kept({k: v for k, v in about.items() if k not in dropped})
    if reason := citation.get("invalid_reason"):
        metadata["invalid_reason"] = reason
    if not (links or file_id or metadata):
        return None
    start, end = places.find(marker, start, end) if marker else (-1, -1)
    kind = _text(about, "type") or _text(citation, "citation_format_type")
    return Citation(kind, marker, start, end, links, file_id, metadata or None)


def _cited_file(values: Mapping[str, JSON], gathered: Gathered) -> str:
    """Return the id of the file that ``values`` cite; it becomes an asset where the export holds it.

    Files that a custom GPT cites are never in an export, so their absence is no finding.
    """
    for key in ("file_id", "id"):
        if _FILE_ID.match(found := _text(values, key)):
            file_id = file_id_of(found)
            gathered.known_asset(file_id, _text(values, "name"))
            return file_id
    return ""


def _links(values: Mapping[str, JSON]) -> tuple[Link, ...]:
    found: dict[str, Link] = {}
    _add_links(values, 3, found)
    return tuple(found.values())


def _add_links(values: Mapping[str, JSON], depth: int, found: dict[str, Link]) -> None:
    url = values.get("url") or values.get("content_url") or values.get("link")
    if isinstance(url, str) and url not in found:
        found[url] = Link(url, _text(values, "title"))
    if depth:
        for key, inner in values.items():
            if inner and key in _PLURALS and isinstance(inner, list):
                for value in inner:
                    if isinstance(value, dict):
                        _add_links(value, depth - 1, found)


def _unique(links: Iterable[Link]) -> tuple[Link, ...]:
    found: dict[str, Link] = {}
    for link in links:
        found.setdefault(link.url, link)
    return tuple(found.values())


def _text(values: Mapping[str, JSON], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""
