"""Where are the bytes of a file that a conversation names, and what are they?"""

import re
import zlib
from hashlib import sha256
from typing import NamedTuple

from muniment import Asset, InputError
from muniment_plugins.sources.chatgpt_export.container import Member
from muniment_plugins.sources.chatgpt_export.sidecars import FileFacts, Sidecars, Surroundings

NOT_THERE = "not in the export"
_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 16
_NOTHING_KNOWN = FileFacts("", "")

_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "svg": "image/svg+xml", "bmp": "image/bmp", "heic": "image/heic", "avif": "image/avif", "tif": "image/tiff",
    "tiff": "image/tiff", "wav": "audio/wav", "mp3": "audio/mpeg", "m4a": "audio/mp4", "ogg": "audio/ogg",
    "flac": "audio/flac", "mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime",
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html",
    "json": "application/json", "xml": "application/xml", "yaml": "application/yaml", "zip": "application/zip",
    "py": "text/x-python", "js": "text/javascript", "css": "text/css", "rtf": "application/rtf",
    "doc": "application/msword", "xls": "application/vnd.ms-excel", "ppt": "application/vnd.ms-powerpoint",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip
"""By ending.  Not `mimetypes`: what that knows differs by machine and by Python, and the hash is over it."""

_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "audio/wav"),
    (re.compile(rb"ID3|\xff[\xfb\xf3\xf2]"), "audio/mpeg"),
    (re.compile(rb"%PDF-"), "application/pdf"),
    (re.compile(rb"....ftyp", re.DOTALL), "video/mp4"),
)


class _Content(NamedTuple):
    sha256: str
    size: int
    mime_type: str


class Assets:
    """Finds, hashes and names the files of an export; each member is read once."""

    def __init__(self, export: Surroundings, sidecars: Sidecars) -> None:
        self._export = export
        self._sidecars = sidecars
        self._contents: dict[str, _Content | str] = {}

    def find(self, file_id: str, name: str = "", mime_type: str = "") -> Asset:
        """Return the file ``file_id``; ``name`` and ``mime_type`` are what the message says about it."""
        member = self._export.find_asset(file_id)
        known = self._sidecars.library.get(file_id, _NOTHING_KNOWN)
        name = self._original_name(file_id, member) or known.name or name or _name_in(member, file_id)
        mime_type = mime_type or known.mime_type or _TYPES.get(name.rpartition(".")[2].lower(), "")
        content = NOT_THERE if member is None else self._content(member)
        if isinstance(content, str):
            return Asset(id=file_id, name=name, mime_type=mime_type, missing=content)
        return Asset(
            id=file_id,
            name=name,
            mime_type=mime_type or content.mime_type,
            size=content.size,
            sha256=content.sha256,
        )

    def _original_name(self, file_id: str, member: Member | None) -> str:
        names = self._sidecars.asset_names
        if not names:
            return ""
        path = "" if member is None else member.name
        for key in (path, path.rpartition("/")[2], f"{file_id}.dat", file_id):
            if key in names:
                return names[key].rpartition("/")[2]
        return ""

    def _content(self, member: Member) -> _Content | str:
        found = self._contents.get(member.name)
        if found is None:
            try:
                found = self._read(member)
            except (InputError, OSError, EOFError, zlib.error) as error:
                found = f"cannot be read: {error}"
            self._contents[member.name] = found
        return found

    def _read(self, member: Member) -> _Content:
        digest, size, head = sha256(), 0, b""
        with self._export.open(member.name) as stream:
            while block := stream.read(_BLOCK_BYTES):
                head = head or block[:_HEAD_BYTES]
                digest.update(block)
                size += len(block)
        return _Content(digest.hexdigest(), size, next((t for p, t in _MAGIC if p.match(head)), ""))


def _name_in(member: Member | None, file_id: str) -> str:
    """Return the original name that stands in a member's name behind the id, as exports up to 2026 had it."""
    if member is None:
        return ""
    name = member.name.rpartition("/")[2]
    rest = name[len(file_id) :]
    if rest.startswith("-") and len(rest) > 1:
        return rest[1:]
    return "" if rest == ".dat" or not rest else name
