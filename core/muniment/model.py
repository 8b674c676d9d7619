"""What is a Conversation, a Message, a Part, an Asset?  Frozen values without I/O.

The canonical JSON of a message follows the message schema of the OpenTelemetry GenAI semantic
conventions (``role`` and typed ``parts``), extended with what an archive needs.  Fields at their
default are left out of the JSON.  Times are UTC with microseconds, or null where the source had
none that can be read (the original then stands under ``metadata["unread_times"]``).

The classes are `msgspec.Struct` rather than attrs classes: an export holds half a million of them,
and one C call then encodes, decodes and checks a whole conversation (see
``docs/explanation/decisions/0001-records-are-structs.md``).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

JSON = Any
"""A JSON value: None, bool, int, float, str, list or dict with str keys."""


class TextPart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="text", gc=False):
    """Text.  ``kind`` is empty for plain prose, else what the text is: ``code``, ``quote``,
    ``web_page``, ``context``, ``transcription``, ``error``, ``document`` ...
    """

    content: str
    kind: str = ""
    language: str = ""
    title: str = ""
    url: str = ""
    metadata: dict[str, JSON] | None = None


class ReasoningPart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="reasoning", gc=False):
    """What the model showed of its thinking.  ``kind`` is ``recap`` for "thought for 7 s"."""

    content: str
    summary: str = ""
    kind: str = ""


class ToolCallPart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="tool_call", gc=False):
    """A call of the tool ``name``.  ``arguments`` is a string as the model wrote it, or JSON."""

    name: str
    arguments: JSON = None
    id: str | None = None
    language: str = ""


class ToolCallResponsePart(
    Struct, frozen=True, omit_defaults=True, tag_field="type", tag="tool_call_response", gc=False
):
    """What a tool answered.  ``kind`` tells outputs apart: ``execution``, ``browse``, ``computer`` ..."""

    response: JSON
    name: str = ""
    id: str | None = None
    kind: str = ""
    title: str = ""
    url: str = ""
    metadata: dict[str, JSON] | None = None


class FilePart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="file", gc=False):
    """A file of the conversation.  ``file_id`` is the `Asset.id` in `Conversation.assets`.

    ``modality`` is ``image``, ``audio``, ``video`` or ``document``.
    """

    file_id: str
    modality: str = "document"
    mime_type: str = ""
    name: str = ""
    metadata: dict[str, JSON] | None = None


class UriPart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="uri", gc=False):
    """A file that lives somewhere else."""

    uri: str
    modality: str = "document"
    mime_type: str = ""


class BlobPart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="blob", gc=False):
    """Inline data; ``content`` is base64."""

    content: str
    modality: str = "document"
    mime_type: str = ""


class UnknownPart(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="unknown", gc=False):
    """Content that muniment does not know yet, whole: nothing of it is lost."""

    value: JSON
    kind: str = ""


Part = TextPart | ReasoningPart | ToolCallPart | ToolCallResponsePart | FilePart | UriPart | BlobPart | UnknownPart


class Link(Struct, frozen=True, omit_defaults=True, gc=False):
    """A source that a citation names."""

    url: str
    title: str = ""


class Citation(Struct, frozen=True, omit_defaults=True, gc=False):
    """A mark in a message's text and what it stands for.

    ``marker`` is the exact text of the mark (``text[start:end]`` in code points, where ``start``
    is known: -1 means that only the marker tells the place).  Resolvable: ``links`` holds the
    sources; ``file_id`` names an asset instead where the citation is of a file.
    """

    kind: str = ""
    marker: str = ""
    start: int = -1
    end: int = -1
    links: tuple[Link, ...] = ()
    file_id: str = ""
    metadata: dict[str, JSON] | None = None


class Message(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One message.  ``parent_id`` builds the tree; it names a message of the same conversation or
    nothing.  ``author`` is a name below the role (a tool, a participant).  ``hidden`` says that
    the vendor's own page does not show it.
    """

    id: str
    role: str
    parent_id: str | None = None
    parts: tuple[Part, ...] = ()
    author: str | None = None
    recipient: str | None = None
    channel: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    model: str | None = None
    hidden: bool = False
    status: str | None = None
    usage: dict[str, JSON] | None = None
    citations: tuple[Citation, ...] = ()
    feedback: dict[str, JSON] | None = None
    metadata: dict[str, JSON] | None = None


class Asset(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A file that a conversation names.

    ``id`` is the vendor's pointer without its scheme.  ``sha256`` (64 hex digits) and ``size``
    (bytes) are of the content; without them the file is missing and ``missing`` says why.
    """

    id: str
    name: str = ""
    mime_type: str = ""
    size: int | None = None
    sha256: str | None = None
    missing: str | None = None
    metadata: dict[str, JSON] | None = None


class Conversation(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A conversation with all its branches.

    ``messages`` holds every message exactly once, parents before children, siblings in the order
    of the source.  ``current`` is the id of the visible leaf.  ``source`` names the vendor
    (``chatgpt``), not the way the data came.
    """

    id: str
    source: str
    account: str | None = None
    title: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    model: str | None = None
    current: str | None = None
    messages: tuple[Message, ...] = ()
    assets: tuple[Asset, ...] = ()
    metadata: dict[str, JSON] | None = None

    @property
    def key(self) -> str:
        """What identifies the conversation in an archive: ``<source>:<id>``."""
        return f"{self.source}:{self.id}"


class Raw(Struct, frozen=True, gc=False):
    """The JSON that a record was decoded from, verbatim but for line breaks between tokens.

    ``envelope`` is the conversation without its messages; ``messages`` runs parallel to
    `Conversation.messages`, each the source's node, ``b"null"`` where there was none; of a large
    conversation each is made when it is asked for.
    """

    envelope: bytes
    messages: Sequence[bytes]


class Origin(Struct, frozen=True, gc=False):
    """Where a record came from: enough to find it again, and nothing of its content.

    ``start`` and ``end`` are byte offsets in the (inflated) member; ``digest`` is the SHA-256 of
    those bytes, 64 hex digits, computed only where something went wrong.
    """

    label: str
    partition: str
    start: int = 0
    end: int = 0
    digest: str = ""


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """A conversation plus where it came from: what moves through a pipeline.

    ``source_hash`` (64 hex digits) is over the canonical conversation as decoded.  ``findings``
    are codes worth counting, such as ``unknown_content:super_widget`` or ``missing_asset``.
    The engine drops ``raw`` from a record that a transform returned changed.
    """

    conversation: Conversation
    origin: Origin
    source_hash: str
    raw: Raw | None = None
    findings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.conversation.key

    def evolve(self, **changes: Any) -> "Record":
        """Return a copy whose *conversation* has these fields changed."""
        return msgspec.structs.replace(self, conversation=msgspec.structs.replace(self.conversation, **changes))

    def map_text(self, change: Callable[[str], str]) -> "Record":
        """Return a copy in which ``change`` was applied to the text of every text and reasoning part."""
        messages = tuple(_map_message(m, change) for m in self.conversation.messages)
        return self if messages == self.conversation.messages else self.evolve(messages=messages)


class Rejected(Struct, frozen=True, gc=False):
    """Something that could not be archived, and why.  ``stage``: read, decode, transform, encode, write."""

    origin: Origin
    stage: str
    reason: str
    key: str = ""


class Dropped(Struct, frozen=True, gc=False):
    """What a transform returns to leave a record out on purpose."""

    reason: str


def part_text(part: Part) -> str:
    """Return the text that a reader would search for in ``part``; may be empty."""
    kind = type(part)
    if kind is TextPart:
        return part.content  # type: ignore[union-attr]
    if kind is ReasoningPart:
        return part.content or part.summary  # type: ignore[union-attr]
    if kind is ToolCallPart:
        return _as_text(part.arguments)  # type: ignore[union-attr]
    if kind is ToolCallResponsePart:
        return _as_text(part.response)  # type: ignore[union-attr]
    if kind is FilePart:
        return part.name  # type: ignore[union-attr]
    if kind is UnknownPart:
        return _as_text(part.value)  # type: ignore[union-attr]
    return ""


def visible_path(conversation: Conversation) -> frozenset[str]:
    """Return the ids of the messages from the root to ``current``; all the others are branches.

    Without a usable ``current`` the path ends at the newest leaf (the last one on equal times).
    """
    parents = {m.id: m.parent_id for m in conversation.messages}
    leaf = conversation.current
    if leaf not in parents:
        inner = set(parents.values())
        leaves = [m for m in conversation.messages if m.id not in inner]
        if not leaves:
            return frozenset()
        leaf = max(enumerate(leaves), key=lambda p: (p[1].created_at is not None, p[1].created_at, p[0]))[1].id
    path: list[str] = []
    while leaf is not None and len(path) < len(parents):
        path.append(leaf)
        leaf = parents.get(leaf)
    del parents
    return frozenset(path)


def as_mapping(value: JSON) -> Mapping[str, JSON]:
    """Return ``value`` if it is a JSON object, else an empty one: for reading what strangers wrote."""
    return value if isinstance(value, dict) else {}


def _as_text(value: JSON) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    from muniment.canonical import to_json

    return to_json(value).decode("utf-8", "replace")


def _map_message(message: Message, change: Callable[[str], str]) -> Message:
    parts = tuple(
        msgspec.structs.replace(p, content=change(p.content)) if isinstance(p, TextPart | ReasoningPart) else p
        for p in message.parts
    )
    return message if parts == message.parts else msgspec.structs.replace(message, parts=parts)
