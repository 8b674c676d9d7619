"""What is a safe file name for a title?  Confined to its folder, on every common system."""

import hashlib
import re
import unicodedata
from urllib.parse import quote

MAX_BYTES = 200

_DIGITS = 12
_UNNAMED = "untitled"
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
_SPACE = re.compile(r"\s+")
_LOST = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
"""Controls, formats (among them the marks that turn text round), surrogates, private use, unassigned."""

_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever stands behind the dot."""
_STEM = re.compile(rf"((?:.*[-/])?[0-9a-f]{{{_DIGITS}}}(?:[0-9a-f]{{20}})?)(?:\.[^/]*)?", re.DOTALL)
_EXTENSION = re.compile(r"\.[a-z0-9]{1,8}")
_EXTENSIONS = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif",
    "audio/wav": ".wav", "audio/x-wav": ".wav", "audio/mpeg": ".mp3", "audio/mp4": ".m4a", "video/mp4": ".mp4",
    "application/pdf": ".pdf", "text/plain": ".txt", "text/csv": ".csv",
}  # fmt: skip


def slug(title: str | None, key: str, suffix: str = "", *, max_bytes: int = MAX_BYTES) -> str:
    """Return a file name for a conversation: its title, 12 hex digits of its key's hash, ``suffix``.

    The digits keep equal titles apart (10^5 conversations of one title collide with a probability
    below 2 in 100,000) and are the same in every process.
    """
    room = max_bytes - _DIGITS - 1 - len(suffix.encode())
    return f"{clean(title or '', room)}-{digits(key)}{suffix}"


def clean(text: str, max_bytes: int = MAX_BYTES) -> str:
    """Return ``text`` as a piece of a file name: NFC, one line, never empty, at most ``max_bytes``.

    Without path separators, characters and names that Windows reserves, controls and invisible marks; no dot
    or dash in front, no dot or space behind.  Cleaning twice changes nothing.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", "".join(map(_keep, text)))
    text = _SPACE.sub(" ", _FORBIDDEN.sub(" ", text)).lstrip(" .-~").rstrip(" .")
    if _DEVICE.match(text):
        text = f"_{text}"
    encoded = text.encode()
    if len(encoded) > max_bytes:
        text = _trim(encoded[:max_bytes].decode(errors="ignore")).rstrip(" .")
    return text or _UNNAMED


def digits(key: str) -> str:
    """Return the 12 hex digits that stand for a conversation's key in a name."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def confined(value: str, max_bytes: int = 60) -> str:
    """Return ``value`` as one piece of a folder's or object's name, reversible as URLs are.

    Letters and digits of ASCII, ``_``, ``.``, ``-`` and ``~`` stay, all else is percent-encoded; so are
    a dot, dash or tilde in front, a dot behind, and the first letter of what Windows takes for a
    device.  A value that would be longer than ``max_bytes`` is cut, and digits of its hash keep it apart
    from others.
    """
    encoded = quote(value.encode("utf-8", "surrogatepass"), safe="")
    if encoded[:1] in (".", "-", "~"):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if _DEVICE.match(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if encoded.endswith("."):
        encoded = f"{encoded[:-1]}%2E"
    if len(encoded) > max_bytes:
        # A percent sign and one digit are no character.
        encoded = re.sub("%.?$", "", encoded[: max_bytes - _DIGITS - 1]) + f"-{digits(value)}"
    return encoded


def stem(name: str) -> str:
    """Return a name that ends in `digits`, or in the 32 of a pseudonym, and a suffix, without its suffix."""
    found = _STEM.fullmatch(name)
    return found[1] if found else name.split(".")[0]


def asset_name(sha256: str, name: str = "", mime_type: str = "") -> str:
    """Return where an asset stands below the folder of assets: by its digest (64 hex digits)."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError("an asset's digest is not 64 hex digits")
    dot = name.rfind(".")
    extension = name[dot:].lower() if dot > 0 else ""
    if not _EXTENSION.fullmatch(extension):
        extension = _EXTENSIONS.get(mime_type, "")
    return f"{sha256[:2]}/{sha256}{extension}"


def _keep(character: str) -> str:
    category = unicodedata.category(character)
    if category in _LOST:
        # A tab or a line break parts words; an invisible mark stands inside one.
        return " " if category == "Cc" else ""
    return " " if category[0] == "Z" else character


def _trim(text: str) -> str:
    """Return ``text`` without combining marks at its end, whose rest was cut off."""
    end = len(text)
    while end and unicodedata.combining(text[end - 1]):
        end -= 1
    # The character that carried them goes too: without its marks it is another one.
    return text[: end - 1] if end < len(text) else text
