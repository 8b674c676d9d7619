"""What do the files beside the conversations tell about them?"""

from collections.abc import Mapping
from functools import cached_property
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from muniment import InputError
from muniment.canonical import loads
from muniment.model import JSON, as_mapping
from muniment_plugins.sources.chatgpt_export.container import Member


class Surroundings(Protocol):
    """What decoding needs of an export; `layout.Export` is one."""

    def open(self, name: str) -> BinaryIO: ...
    def read_json(self, name: str) -> JSON | None: ...
    def find_asset(self, asset_id: str) -> Member | None: ...


class Gone:
    """An export that is not there any more: nothing stands beside the conversation."""

    def open(self, name: str) -> BinaryIO:
        raise FileNotFoundError(name)

    def read_json(self, name: str) -> None:
        return None

    def find_asset(self, asset_id: str) -> None:
        return None


class FileFacts(NamedTuple):
    """What ``library_files.json`` says about a file."""

    name: str
    mime_type: str


class Sidecars:
    """The small files of an export, each read when it is first needed.

    ``findings`` names those that could not be read (``unreadable_sidecar:user.json``).
    """

    def __init__(self, export: Surroundings) -> None:
        self._export = export
        self.findings: set[str] = set()

    @cached_property
    def account(self) -> str | None:
        """The id of the user whose export this is."""
        return _text(as_mapping(self._read("user.json")), "id") or None

    @cached_property
    def feedback(self) -> Mapping[str, Mapping[str, dict[str, JSON]]]:
        """What the user said about messages: by conversation id (``""`` where none is named), then message id."""
        found: dict[str, dict[str, dict[str, JSON]]] = {}
        for entry in self._objects("message_feedback.json"):
            if message := _text(entry, "id"):
                found.setdefault(_text(entry, "conversation_id"), {})[message] = _feedback(entry)
        return found

    @cached_property
    def shared_links(self) -> Mapping[str, list[JSON]]:
        """The shared links of conversations, by conversation id."""
        found: dict[str, list[JSON]] = {}
        for entry in self._objects("shared_conversations.json"):
            if conversation := _text(entry, "conversation_id"):
                link = {k: v for k, v in entry.items() if k != "conversation_id" and v is not None}
                found.setdefault(conversation, []).append(link)
        return found

    @cached_property
    def asset_names(self) -> Mapping[str, str]:
        """The original names of files, by the name of the file in the export."""
        names = as_mapping(self._read("conversation_asset_file_names.json"))
        return {k: v for k, v in names.items() if isinstance(v, str)}

    @cached_property
    def library(self) -> Mapping[str, FileFacts]:
        """What is known of files, by file id."""
        return {
            _text(entry, "file_id"): FileFacts(_text(entry, "file_name"), _text(entry, "mime_type"))
            for entry in self._objects("library_files.json")
        }

    @cached_property
    def library_origins(self) -> Mapping[tuple[str, str], str]:
        """File ids by (id of the message or conversation that made the file, its name)."""
        found: dict[tuple[str, str], str] = {}
        for entry in self._objects("library_files.json"):
            for origin in ("origination_message_id", "origination_thread_id"):
                key = (_text(entry, origin), _text(entry, "file_name"))
                if all(key) and _text(entry, "file_id"):
                    found.setdefault(key, _text(entry, "file_id"))
        return found

    def _objects(self, name: str) -> list[Mapping[str, JSON]]:
        value = self._read(name)
        return [e for e in value if isinstance(e, dict)] if isinstance(value, list) else []

    def _read(self, name: str) -> JSON | None:
        try:
            return self._export.read_json(name)
        except InputError:
            # Conversations count for more than what stands beside them.
            self.findings.add(f"unreadable_sidecar:{name}")
            return None


def _text(entry: Mapping[str, JSON], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _feedback(entry: Mapping[str, JSON]) -> dict[str, JSON]:
    values: dict[str, JSON] = {
        "rating": entry.get("rating"),
        "content": _parsed(entry.get("content")),
        "created_at": entry.get("create_time"),
    }
    return {k: v for k, v in values.items() if v not in (None, "", {}, [])}


def _parsed(content: JSON) -> JSON:
    """Return what ``content``, JSON in a string, holds; the string itself where it is none."""
    if not isinstance(content, str):
        return content
    try:
        return loads(content.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return content
