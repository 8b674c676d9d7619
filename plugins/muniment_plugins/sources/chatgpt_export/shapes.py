"""What does the JSON of a conversation look like, and how is it taken apart?

The classes name what muniment reads; everything else is skipped, and stays in `Raw`.  A wrong type never
fails here: each object may also be any other JSON value, and whoever uses it looks.
"""

import codecs
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import eq
from typing import Any, NamedTuple, TypeAlias, cast, overload

import msgspec
from msgspec import Struct, field

from muniment import Raw, RecordError
from muniment.canonical import loads
from muniment.model import JSON
from muniment_plugins.sources.chatgpt_export import vendors
from muniment_plugins.sources.chatgpt_export.ends import MAX_ODD_BYTES
from muniment_plugins.sources.chatgpt_export.split import MAX_CONVERSATION_BYTES

Other: TypeAlias = list[Any] | str | int | float | bool | None
"""What may stand where an object is expected."""


class Author(Struct, gc=False):
    role: Any = None
    name: Any = None
    metadata: Any = None


class FinishDetails(Struct, gc=False):
    type: Any = None


class Metadata(Struct, gc=False):
    """A message's metadata: first what muniment works with, then (from `KEPT_FROM` on) what it hands on."""

    model_slug: Any = None
    hidden: Any = field(default=None, name="is_visually_hidden_from_conversation")
    finish_details: FinishDetails | Other = None
    content_references: Any = None
    citations: Any = None
    attachments: Any = None
    aggregate_result: Any = None
    search_result_groups: Any = None
    parent_id: Any = None

    ada_visualizations: Any = None
    app_pairing: Any = None
    async_task_id: Any = None
    async_task_prompt: Any = None
    async_task_title: Any = None
    async_task_type: Any = None
    canvas: Any = None
    cite_metadata: Any = field(default=None, name="_cite_metadata")
    command: Any = None
    dictation: Any = None
    finished_duration_sec: Any = None
    finished_text: Any = None
    gizmo_id: Any = None
    image_gen_title: Any = None
    image_results: Any = None
    invoked_plugin: Any = None
    is_async_task_result_message: Any = None
    is_error: Any = None
    paragen_variant_choice: Any = None
    pending_memory_info: Any = None
    reasoning_title: Any = None
    requested_model_slug: Any = None
    search_queries: Any = None
    selected_github_repos: Any = None
    selected_sources: Any = None
    shared_conversation_id: Any = None
    system_hints: Any = None
    thinking_effort: Any = None
    user_context_message_data: Any = None


KEPT_FROM = Metadata.__struct_fields__.index("ada_visualizations")
KEPT_NAMES = Metadata.__struct_fields__[KEPT_FROM:]


class Message(Struct, gc=False):
    id: Any = None
    author: Author | Other = None
    create_time: Any = None
    update_time: Any = None
    content: Any = None
    status: Any = None
    weight: Any = None
    recipient: Any = None
    channel: Any = None
    metadata: Metadata | Other = None


class Node(Struct, gc=False):
    id: Any = None
    parent: Any = None
    children: Any = None
    message: Message | Other = None


class Envelope(Struct, gc=False):
    """A conversation.  ``mapping`` holds each node's bytes."""

    id: Any = None
    conversation_id: Any = None
    title: Any = None
    create_time: Any = None
    update_time: Any = None
    current_node: Any = None
    mapping: dict[str, msgspec.Raw] | Other = None
    default_model_slug: Any = None
    gizmo_id: Any = None
    gizmo_type: Any = None
    conversation_template_id: Any = None
    is_archived: Any = None
    is_starred: Any = None
    is_read_only: Any = None
    is_do_not_remember: Any = None
    is_study_mode: Any = None
    atlas_mode_enabled: Any = None
    pinned_time: Any = None
    memory_scope: Any = None
    conversation_origin: Any = None
    voice: Any = None
    plugin_ids: Any = None
    disabled_tool_ids: Any = None
    context_scopes: Any = None
    owner: Any = None
    sugar_item_id: Any = None


class Parsed(NamedTuple):
    """A conversation taken apart.  ``raw`` holds the bytes of *all* nodes, in the order of ``nodes``."""

    envelope: Envelope
    nodes: Mapping[str, Node | Other]
    raw: Raw


class Slices(Sequence[bytes]):
    """Pieces of one large text, each copied by ``copy`` whenever it is asked for."""

    __slots__ = ("_copy", "_views")

    def __init__(self, views: Iterable[msgspec.Raw], copy: Callable[[msgspec.Raw], bytes]) -> None:
        self._views = tuple(views)
        self._copy = copy

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, index: int | slice) -> bytes | tuple[bytes, ...]:
        if isinstance(index, slice):
            return tuple(map(self._copy, self._views[index]))
        return self._copy(self._views[index])

    def __iter__(self) -> Iterator[bytes]:
        return map(self._copy, self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Slices | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))


class LargeNodes(Mapping[str, Node | Other]):
    """The nodes of a large conversation, each decoded whenever it is asked for: decoded, all together
    would take five times the memory of their JSON.  ``copy``: as for `Slices`."""

    def __init__(self, raw: dict[str, msgspec.Raw], copy: Callable[[msgspec.Raw], bytes]) -> None:
        self._raw = raw
        self._copy = copy

    def slices(self, keys: Iterable[str]) -> Slices:
        """Return the JSON of nodes, in the order of ``keys``."""
        return Slices(map(self._raw.__getitem__, keys), self._copy)

    def __getitem__(self, key: str) -> Node | Other:
        return _decode_node(self._raw[key])  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, key: object) -> bool:
        return key in self._raw


_TWICE = "a key stands twice in one object, so nobody can say which value counts"

_TOO_LARGE = (
    "above {:,} bytes and not JSON as every parser takes it (a lone surrogate, a number without end, or damage):"
    " raise `max_conversation_bytes` to eight times its size"
)

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_node = msgspec.json.Decoder(Node | Other).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

LARGE_BYTES = 4 << 20
"""From here on a conversation is decoded slower, in less memory."""

_DECODED_BYTES = 1 << 20  # as text they may take four times the memory

_NO_BREAKS = bytes.maketrans(b"\n\r\t", b"   ")
_BLANKS = b" \t\r\n"
_KEY = re.compile(rb'\s*"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*:\s*', re.DOTALL)
_NEXT = re.compile(rb"\s*([,}])")
_LAST = re.compile(rb"\s*}\s*\Z")
_MAPPING_KEY = b'"mapping"'


def parse(data: bytes, max_bytes: int = MAX_CONVERSATION_BYTES) -> Parsed:
    """Take the JSON of one conversation apart.

    ``max_bytes`` is how large a conversation may be; one that only Python's parser takes may have an eighth of
    it, and 16 MiB at least.

    Raises:
        RecordError: it is not JSON, or not a conversation; the reason holds nothing of its content.
    """
    if not data.isascii():
        _check_utf8(data)
    try:
        parsed = _parse_fast(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Lone surrogates, which only the standard library takes; or an error that it names better.
        odd = max(MAX_ODD_BYTES, max_bytes // 8)
        if len(data) > odd:
            raise RecordError(_TOO_LARGE.format(odd)) from None
        parsed = _parse_any(data)
    # The nodes have it all.
    parsed.envelope.mapping = None
    return parsed


def _check_utf8(data: bytes) -> None:
    """Parts that are skipped are not decoded, so nothing else would notice.

    Raises:
        RecordError: this is no UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with memoryview(data) as view:
        for start in range(0, len(data), _DECODED_BYTES):
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(view[start : start + _DECODED_BYTES], final=start + _DECODED_BYTES >= len(data))
            except UnicodeDecodeError as error:
                raise RecordError(f"not JSON: not UTF-8 at byte {start - held + error.start}") from None


def _parse_fast(data: bytes) -> Parsed:
    envelope = _decode_envelope(data)
    _check(envelope, data)
    is_large = len(data) >= LARGE_BYTES and isinstance(envelope.mapping, dict)
    if not is_large and _has_breaks(data):
        data = _without_breaks(data)
        envelope = _decode_envelope(data)
    data = data.strip(_BLANKS)
    mapping = envelope.mapping
    if not isinstance(mapping, dict):
        return Parsed(envelope, {}, Raw(data, ()))
    if is_large:
        rest = _without_breaks(_without_mapping(data, envelope, mapping))
        # What cannot be decoded is to be known now.
        deque(map(_decode_node, mapping.values()), maxlen=0)
        nodes = LargeNodes(mapping, _without_breaks if _has_breaks(data) else bytes)
        return Parsed(envelope, nodes, Raw(rest, nodes.slices(mapping)))
    raw = tuple(map(bytes, mapping.values()))
    decoded = dict(zip(mapping, map(_decode_node, raw), strict=True))
    return Parsed(envelope, decoded, Raw(_without_mapping(data, envelope, mapping), raw))


def _has_breaks(data: bytes) -> bool:
    return b"\n" in data or b"\r" in data or b"\t" in data


def _without_breaks(data: bytes | msgspec.Raw) -> bytes:
    """Replace line breaks and tabs by blanks: in what was parsed they are known to stand between tokens only."""
    return bytes(data).translate(_NO_BREAKS)


def _parse_any(data: bytes) -> Parsed:
    try:
        value = loads(data, _unique)
    except msgspec.DecodeError as error:
        raise RecordError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RecordError("not a conversation: it is not an object")
    try:
        mapping = value.get("mapping")
        rows = mapping if isinstance(mapping, dict) else {}
        raw = tuple(map(_dump, rows.values()))
        envelope = value if rows is not mapping else {k: None if k == "mapping" else v for k, v in value.items()}
        converted = _convert({**envelope, "mapping": {} if rows is mapping else mapping}, Envelope)
        _check(converted, data)
        return Parsed(
            converted,
            {k: _convert(v, Node | Other) for k, v in rows.items()},
            Raw(_dump(envelope), raw),
        )
    except ValueError:
        raise RecordError("not JSON: a number is too large") from None


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    # Here the raw JSON is written anew, so that of two values one would be gone.
    made = dict(pairs)
    if len(made) < len(pairs):
        raise RecordError(_TWICE)
    return made


def _convert(value: JSON, kind: Any) -> Any:
    return msgspec.convert(value, type=kind)


def _dump(value: JSON) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _check(envelope: Envelope, data: bytes) -> None:
    mapping = envelope.mapping
    if isinstance(mapping, dict):
        return
    if mapping:
        raise RecordError("not a conversation: its `mapping` is not an object")
    vendor = vendors.of_value(data)
    if vendor is None:
        raise RecordError("not a conversation: it has no `mapping`, nor the other keys of one")
    if vendor != vendors.CHATGPT:
        raise RecordError(f"not a ChatGPT conversation: it looks like {vendor}")


def _without_mapping(data: bytes, envelope: Envelope, mapping: dict[str, msgspec.Raw]) -> bytes:
    """Return ``data`` with the mapping replaced by null.  Copies no value of the mapping: it may have one alone."""
    view = memoryview(data)
    if mapping:
        last = memoryview(next(reversed(mapping.values())))
        total = sum(map(len, mapping.values())) + sum(map(len, mapping))
        for comma, colon in ((b", ", b": "), (b",", b":")):
            start = data.find(b'"mapping"' + colon + b"{") + 9 + len(colon)
            end = start + total + len(mapping) * (2 + len(colon)) + (len(mapping) - 1) * len(comma) + 2
            at = end - 1 - len(last)
            fits = start > 9 + len(colon) and data.startswith(colon, at - len(colon)) and data.startswith(b"}", end - 1)
            if fits and view[at : end - 1] == last:
                cut = data[:start] + b"null" + data[end:]
                if cut.count(_MAPPING_KEY) == 1 and _is_same(cut, envelope):
                    return cut
    values = _decode_object(data)
    _refuse_second_values(view, values.values())
    _refuse_second_values(memoryview(values["mapping"]), mapping.values())
    values["mapping"] = msgspec.Raw(b"null")
    return b"{%s}" % b",".join(b"%s:%s" % (msgspec.json.encode(k), bytes(v)) for k, v in values.items())


def _refuse_second_values(data: memoryview, values: Iterable[msgspec.Raw]) -> None:
    """Follow the values of an object, of which a parser keeps the last where a key stands twice.

    Raises:
        RecordError: there are more; one of them would be lost.
    """
    at = 1
    for value in values:
        key = _KEY.match(data, at)
        text = memoryview(value)
        same = key and data[key.end() : key.end() + text.nbytes] == text
        end = _NEXT.match(data, key.end() + text.nbytes) if key and same else None
        if end is None:
            raise RecordError(_TWICE)
        at = end.end(1)
    # Behind the last value, or in an object that has none, only its bracket is left.
    if not _LAST.match(data, at if at == 1 else at - 1):
        raise RecordError(_TWICE)


def _is_same(cut: bytes, envelope: Envelope) -> bool:
    try:
        found = _decode_envelope(cut)
    except msgspec.DecodeError:
        return False
    found.mapping = cast(Any, envelope.mapping)
    return found == envelope
