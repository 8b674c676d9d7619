"""How does the judge read what is encrypted?  By the page of the format, with nothing of muniment.

What it needs is in `docs/formats/reference_decoder.py`, which is that page as a program, and in
`docs/formats/sqlite.md`: how the values of an encrypted archive name their places.
"""

import base64
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag

DECODER = Path(__file__).parents[2] / "docs" / "formats" / "reference_decoder.py"


def _decoder() -> Any:
    spec = importlib.util.spec_from_file_location("reference_decoder", DECODER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


decoder = _decoder()


def make_key(path: Path) -> None:
    """Write a key file."""
    key = os.urandom(32)
    sum_ = hashlib.sha256(b"muniment/v1/key-file" + key).digest()[:4]
    path.touch(0o600)
    path.write_text("muniment-key-1:" + base64.urlsafe_b64encode(key + sum_).decode() + "\n")


def file_opener(key: Path) -> Callable[[bytes], bytes]:
    """Return what decrypts a file; it raises ValueError for what is torn."""
    line = key.read_text()

    def opened(data: bytes) -> bytes:
        try:
            return bytes(decoder.decode(data, key_line=line))
        except (AssertionError, InvalidTag, KeyError, SystemExit) as error:
            raise ValueError(f"it cannot be decrypted: {error or type(error).__name__}") from None

    return opened


class Values:
    """Opens the values of a database; ``header`` is that of its vault."""

    def __init__(self, header: bytes, key: Path) -> None:
        end = 12 + int.from_bytes(header[8:12], "big")
        value = json.loads(header[12:end])
        fixed = hashlib.sha256(decoder.canonical(value["fixed"])).digest()
        (slot,) = value["slots"]
        wrapped = base64.b64decode(slot.pop("wrapped"))
        about = b"muniment/v1/slot\0" + fixed + decoder.canonical(slot)
        dek = decoder.open_message(decoder.key_of_line(key.read_text()), about, wrapped)
        if dek is None:
            raise ValueError("the key does not open the vault")
        self._key = decoder.expand(dek, b"muniment/v1/value")
        self._context = decoder.MAGIC + fixed

    def opened(self, data: bytes, *place: str) -> bytes:
        """Return a value.

        Raises:
            ValueError: it is not what was written in this place.
        """
        try:
            plain = decoder.open_message(self._key, self._context + "\0".join(place).encode(), data)
        except InvalidTag:
            plain = None
        if plain is None:
            raise ValueError(f"the value of {place[0]} cannot be decrypted")
        return bytes(plain)
