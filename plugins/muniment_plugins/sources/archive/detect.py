"""What is it that a path names?  The first bytes decide."""

import io
from enum import Enum, auto
from pathlib import Path
from typing import Any, BinaryIO

from muniment import InputError
from muniment.crypto import is_encrypted
from muniment.objects import decompressing
from muniment.sinks.cover import Cover

_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"\xfd7zXZ\x00": ".xz"}
_BUFFER = 1 << 20
_BOM = b"\xef\xbb\xbf"


class Kind(Enum):
    """What can be read back."""

    DATABASE = auto()
    FOLDER = auto()
    FILE = auto()


def kind_of(path: Path) -> Kind:
    """Return what stands at ``path``.

    Raises:
        InputError: nothing that can be read back.
    """
    if path.is_dir():
        return Kind.FOLDER
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except FileNotFoundError:
        raise InputError(f"there is no `{path}`; check the path") from None
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}") from error
    if not head:
        raise InputError(f"`{path}` is empty; it holds no conversations")
    if head == b"SQLite format 3\0":
        return Kind.DATABASE
    if head.startswith(b"PK\x03\x04"):
        raise InputError(f"`{path}` is a zip file, not an archive; use `muniment import {path.name}` for an export")
    return Kind.FILE


def inflated(raw: BinaryIO, cover: Cover) -> io.BufferedReader:
    """Return the plain bytes of an open file, whether it is compressed or not.

    Raises:
        WrongKeyError: no key opens it.
        DamagedError: it is not what was encrypted, or not encrypted where all is.
    """
    raw = cover.opened(raw)
    head = raw.read(6)
    raw.seek(0)
    name = next((ending for magic, ending in _MAGIC.items() if head.startswith(magic)), "")
    plain: Any = decompressing(raw, name)
    # One kind of stream for all, with a buffer that makes lines cheap.
    stream = io.BufferedReader(plain, _BUFFER)
    if stream.peek(3)[:3] == _BOM:
        stream.read(3)
    return stream


def is_encrypted_at(path: Path) -> bool:
    """Say whether a file begins as encrypted ones do."""
    with path.open("rb") as stream:
        return is_encrypted(stream.read(16))


def is_array(stream: io.BufferedReader) -> bool | None:
    """Return whether values are to be cut out of an array or a loose layout (else: lines); None if
    it is no JSON of objects at all."""
    head = stream.peek(1)
    start = head.lstrip()[:2]
    if not start:
        return None if head else False
    if start[:1] == b"{":
        return start[1:2] != b'"'
    return True if start[:1] == b"[" else None
