"""Which parts do pointers, attachments and the pieces of a multimodal message become?"""

import re
from collections.abc import Callable

from msgspec.structs import replace

from muniment import Asset, FilePart, Part, TextPart, UnknownPart
from muniment.model import JSON, as_mapping
from muniment_plugins.sources.chatgpt_export.assets import Assets

Values = dict[str, JSON]

_POINTERS = {
    "image_asset_pointer": "image",
    "simple_image_asset_pointer": "image",
    "audio_asset_pointer": "audio",
    "video_asset_pointer": "video",
    "arbitrary_asset_pointer": "",
}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ODD = re.compile(r"[^A-Za-z0-9_.:/-]+")
_FORMAT_WORDS = re.compile(r"[a-z]{2,20}(_[a-z]{2,20}){0,5}")


class Gathered:
    """What decoding one conversation collects besides its messages.

    ``extras`` are of the message being decoded: what has no place in a part of its own.  ``attachments``
    are its attachments by file id, until a part has taken them.
    """

    __slots__ = ("_library", "assets", "attachments", "extras", "findings")

    def __init__(self, library: Assets) -> None:
        self._library = library
        self.assets: dict[str, Asset] = {}
        self.findings: set[str] = set()
        self.extras: Values = {}
        self.attachments: dict[str, Values] = {}

    def asset(self, file_id: str, name: str = "", mime_type: str = "") -> Asset:
        """Return a file of the conversation; it is listed among its assets from now on."""
        found = self.assets.get(file_id)
        if found is None:
            found = self.assets[file_id] = self._library.find(file_id, name, mime_type)
            if found.missing is not None:
                self.findings.add("missing_asset")
        return found

    def known_asset(self, file_id: str, name: str = "") -> bool:
        """Tell whether the export holds a file, which is then listed."""
        if file_id not in self.assets:
            found = self._library.find(file_id, name)
            if found.missing is not None:
                return False
            self.assets[file_id] = found
        return True

    def unknown(self, value: JSON, kind: JSON) -> UnknownPart:
        """Return ``value`` as a part of a kind that muniment does not know, and count it."""
        name = _ODD.sub("_", kind)[:64] if isinstance(kind, str) else ""
        # Findings are told and stand in manifests, which nobody encrypts: only words of the format may.
        self.findings.add(f"unknown_content:{name if _FORMAT_WORDS.fullmatch(name) else 'other'}")
        return UnknownPart(value, name)


def kept(values: Values) -> Values:
    """Return the ``values`` that say something: neither null nor empty."""
    return {k: v for k, v in values.items() if v is not None and v != "" and v != [] and v != {}}


def take(values: Values, key: str) -> str:
    """Remove and return a text; empty where there is none, or something else (which stays)."""
    value = values.get(key)
    if isinstance(value, str):
        del values[key]
        return value
    return ""


def take_some(values: Values, *keys: str) -> Values | None:
    """Remove ``keys`` and return those that say something; None where none does."""
    return kept({k: values.pop(k) for k in keys if k in values}) or None


def file_id_of(pointer: str) -> str:
    """Return a pointer without its scheme and without what stands behind ``#`` or ``?``."""
    return re.split(r"[#?]", _SCHEME.sub("", pointer, count=1), maxsplit=1)[0]


def piece(value: JSON, gathered: Gathered, plain: Callable[[str], Part] = TextPart) -> list[Part]:
    """Return the parts of one element of ``parts``; ``plain`` makes one of a mere text."""
    if isinstance(value, str):
        return [plain(value)] if value else []
    if value is None:
        return []
    if not isinstance(value, dict):
        return [gathered.unknown(value, type(value).__name__)]
    rest = dict(value)
    kind = rest.pop("content_type", None)
    if isinstance(kind, str) and kind in _POINTERS and (part := pointer(rest, _POINTERS[kind], gathered)):
        return [part]
    if kind == "real_time_user_audio_video_asset_pointer":
        return _real_time(rest, gathered)
    text = take(rest, "text")
    if kind == "audio_transcription":
        return [TextPart(text, kind="transcription", metadata=kept(rest) or None)]
    if kind in ("text", None) and text and not kept(rest):
        return [plain(text)]
    return [gathered.unknown(value, kind)]


def pointer(values: Values, modality: str, gathered: Gathered) -> FilePart | None:
    """Return the file that ``values`` point to; None where they point nowhere."""
    values = dict(values)
    values.pop("content_type", None)
    file_id = file_id_of(take(values, "asset_pointer"))
    if not file_id:
        return None
    metadata = values.pop("metadata", None)
    if isinstance(metadata, dict):
        values = {**_dense(metadata), **values}
    elif metadata is not None:
        values["metadata"] = metadata
    attachment = gathered.attachments.pop(file_id, {})
    return file_part(file_id, modality, {**_without_facts(attachment), **values}, gathered, attachment)


def attachment_id(attachment: Values) -> str:
    """Return the file id of an attachment; empty where it has none."""
    return file_id_of(_fact(attachment, _id_key(attachment)))


def file_part(file_id: str, modality: str, facts: Values, gathered: Gathered, attachment: Values) -> FilePart:
    """Return the file ``file_id``; ``attachment`` is what else the message says about it."""
    name, mime_type = _fact(attachment, "name"), _fact(attachment, "mime_type", "mimeType")
    asset = gathered.asset(file_id, name, mime_type)
    mime_type = mime_type or asset.mime_type
    return FilePart(
        file_id,
        modality=modality or modality_of(mime_type),
        mime_type=mime_type,
        name=name or asset.name,
        metadata=kept(facts) or None,
    )


def attached(gathered: Gathered) -> list[Part]:
    """Return the attachments that no pointer has taken."""
    return [file_part(i, "", _without_facts(a), gathered, a) for i, a in gathered.attachments.items()]


def modality_of(mime_type: str) -> str:
    """Return what `FilePart.modality` is for a MIME type."""
    kind = mime_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "document"


def _without_facts(attachment: Values) -> Values:
    taken = ("name", "mime_type", "mimeType", _id_key(attachment))
    return {k: v for k, v in attachment.items() if k not in taken}


def _id_key(attachment: Values) -> str:
    if _fact(attachment, "id").startswith("file") or not _fact(attachment, "file_id"):
        return "id"
    return "file_id"


def _fact(values: Values, *keys: str) -> str:
    return next((v for k in keys if isinstance(v := values.get(k), str) and v), "")


def _dense(value: JSON) -> JSON:
    """Return ``value`` without what says nothing, at any depth: most of a pointer's metadata is null."""
    if isinstance(value, dict):
        return kept({k: _dense(v) for k, v in value.items()})
    return value


def _real_time(rest: Values, gathered: Gathered) -> list[Part]:
    whole = dict(rest)
    parts: list[Part] = []
    for key, modality in (("audio_asset_pointer", "audio"), ("video_container_asset_pointer", "video")):
        parts += _pointed(rest.pop(key, None), modality, gathered)
    frames = rest.pop("frames_asset_pointers", None)
    for frame in frames if isinstance(frames, list) else [frames]:
        parts += _pointed(frame, "image", gathered)
    if not parts:
        return [gathered.unknown(whole, "real_time_user_audio_video_asset_pointer")]
    facts = kept(rest)
    first = parts[0]
    if facts and isinstance(first, FilePart):
        parts[0] = replace(first, metadata={**(first.metadata or {}), **facts})
    elif facts:
        parts.append(gathered.unknown(facts, "real_time_user_audio_video_asset_pointer"))
    return parts


def _pointed(value: JSON, modality: str, gathered: Gathered) -> list[Part]:
    if isinstance(value, str):
        value = {"asset_pointer": value}
    if value is None or value == {}:
        return []
    part = pointer(value, modality, gathered) if as_mapping(value) else None
    return [part or gathered.unknown(value, f"{modality}_asset_pointer")]
