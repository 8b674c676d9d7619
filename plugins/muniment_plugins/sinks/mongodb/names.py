"""Which collections and indexes does an archive have?  Documented in ``docs/formats/mongodb.md``."""

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

VERSION = 2
ROLES = (
    "conversations", "messages", "further", "versions", "assets", "records", "uploads", "checkpoints", "runs",
    "quarantine", "manifests", "receipts", "meta",
)  # fmt: skip
BUCKETS = ("assets", "records")
"""Roles that are two collections each, in the layout of GridFS: ``<name>.files`` and ``<name>.chunks``."""

_TEXT_PARTS = ("content", "arguments", "response")


@frozen
class Names:
    """What each role's collection is called."""

    prefix: str = ""
    chosen: Mapping[str, str] = field(factory=dict)

    def of(self, role: str) -> str:
        return self.chosen.get(role, self.prefix + role)

    def collections(self, documents: str) -> Iterator[str]:
        """Yield every collection of an archive with one document per ``documents``."""
        unused = "further" if documents == "message" else "messages"
        for role in ROLES:
            if role in BUCKETS:
                yield f"{self.of(role)}.files"
                yield f"{self.of(role)}.chunks"
            elif role != unused:
                yield self.of(role)


@frozen
class Index:
    """One index: ``keys`` as the server lists them, ``options`` besides the name."""

    collection: str
    name: str
    keys: tuple[tuple[str, Any], ...]
    options: Mapping[str, Any] = field(factory=dict)

    def command(self) -> str:
        """Return what a person types in mongosh to make the index."""
        import json

        keys, options = json.dumps(dict(self.keys)), json.dumps({"name": self.name, **self.options})
        return f"db.getCollection({json.dumps(self.collection)}).createIndex({keys}, {options})"


KNOWN_INDEX = "muniment_known"


def indexes(names: Names, *, documents: str, text: bool) -> Iterator[Index]:
    """Yield the indexes of an archive."""
    conversations = names.of("conversations")
    further = names.of("messages" if documents == "message" else "further")
    # Whether a conversation is stored is answered from this one, without reading the conversation.
    yield Index(conversations, KNOWN_INDEX, (("_id", 1), ("source_hash", 1), ("plan_hash", 1)))
    yield Index(conversations, "muniment_created_at", (("created_at", 1),))
    yield Index(further, "muniment_conversation", (("conversation", 1), ("position", 1)))
    yield Index(names.of("versions"), "muniment_conversation", (("conversation", 1),))
    yield Index(names.of("receipts"), "muniment_conversation", (("conversation", 1),))
    for bucket in BUCKETS:
        yield Index(f"{names.of(bucket)}.files", "filename_1_uploadDate_1", (("filename", 1), ("uploadDate", 1)))
        chunks = f"{names.of(bucket)}.chunks"
        yield Index(chunks, "files_id_1_n_1", (("files_id", 1), ("n", 1)), {"unique": True})
    if text:
        yield from _text_indexes(conversations, further, documents)


def _text_indexes(conversations: str, further: str, documents: str) -> Iterator[Index]:
    # A part's `language` (python) is none of the languages that the server knows, and would be refused.
    options = {"default_language": "none", "language_override": "muniment_no_language"}
    title = [("title", "text")]
    below = [(f"parts.{name}", "text") for name in _TEXT_PARTS]
    if documents == "message":
        yield Index(conversations, "muniment_text", tuple(title), options)
        yield Index(further, "muniment_text", tuple(below), options)
    else:
        below = [(f"messages.{name}", kind) for name, kind in below]
        yield Index(conversations, "muniment_text", tuple(title + below), options)
        yield Index(further, "muniment_text", tuple(below), options)
