"""What is a key, and how is it kept in a file that only its owner reads?

A key file is one line, ``muniment-key-1:`` and 48 characters: URL-safe base64 of the key's 32 bytes
and a checksum of 4, so that a key with a typing error is told from a wrong one.
"""

import base64
import hashlib
import os
from hmac import compare_digest
from pathlib import Path

from attrs import field, frozen

from muniment.crypto.chunks import KEY_BYTES, expand
from muniment.crypto.header import Slot
from muniment.errors import ConfigError
from muniment.private_files import read_private_file, store_new_key

PREFIX = "muniment-key-1:"
_CHECK_LABEL = b"muniment/v1/key-file"
_CHECK_BYTES = 4
_ID_LABEL = b"muniment/v1/key-id"
_MAX_FILE_BYTES = 4096


def key_id(key: bytes) -> str:
    """Return the name of a key in headers: 16 hex digits that do not give it away."""
    return expand(key, _ID_LABEL, 8).hex()


@frozen(repr=False, eq=False)
class Key:
    """32 random bytes.  Opens and writes slots of the algorithm ``raw``; prints as its id."""

    _data: bytes = field(alias="data")
    id: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        if len(self._data) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(self._data)}")
        object.__setattr__(self, "id", key_id(self._data))

    @classmethod
    def new(cls) -> "Key":
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Return the key that the text of a key file holds.

        Raises:
            ValueError: it holds none; the message does not repeat it.
        """
        line = text.strip()
        if not line.startswith(PREFIX):
            raise ValueError(f"it does not begin with `{PREFIX}`; `muniment key new` makes one")
        try:
            data = base64.b64decode(line.removeprefix(PREFIX), altchars=b"-_", validate=True)
        except ValueError:
            data = b""
        key, check = data[:KEY_BYTES], data[KEY_BYTES:]
        if len(key) != KEY_BYTES or not compare_digest(check, _check(key)):
            raise ValueError("a character of it is wrong or missing; compare it with your copy")
        return cls(key)

    def text(self) -> str:
        """Return the line that a key file holds: the secret itself."""
        return PREFIX + base64.urlsafe_b64encode(self._data + _check(self._data)).decode()

    def __repr__(self) -> str:
        return f"<key {self.id}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is never pickled; send the reference to it")

    # --- as one of a keyring's ----------------------------------------------------------------

    def new_slot(self) -> tuple[Slot, bytes]:
        return Slot("raw", self.id), self._data

    def find_kek(self, slot: Slot) -> bytes | None:
        return self._data if slot.alg == "raw" and slot.kid == self.id else None

    def opened(self, slot: Slot) -> None:
        pass


def create_key_file(path: Path) -> Key:
    """Make a key and a file that holds it, 0600 whatever the umask, durable when this returns.

    Raises:
        FatalError: there is a file already, or it cannot be written.
    """
    key = Key.new()
    store_new_key(path, key.text())
    return key


def read_key_file(path: Path) -> Key:
    """Return the key of a file.

    Raises:
        ConfigError: it cannot be read, others can read it, it belongs to someone else, or holds no key.
    """
    try:
        data = _read(path)
    except OSError as error:
        if error.errno is None:
            raise ConfigError(f"the key file `{path}` {error}") from None
        raise ConfigError(f"the key file `{path}` cannot be read: {_reason(error)}") from error
    try:
        return Key.parse(data.decode("ascii", "replace"))
    except ValueError as error:
        raise ConfigError(f"the key file `{path}` holds no key: {error}") from None


def _read(path: Path) -> bytes:
    if path.is_fifo():
        # A pipe of the shell, `<(...)`: nobody else has it.
        with path.open("rb") as pipe:
            return pipe.read(_MAX_FILE_BYTES)
    return read_private_file(path, _MAX_FILE_BYTES)


def _check(key: bytes) -> bytes:
    return hashlib.sha256(_CHECK_LABEL + key).digest()[:_CHECK_BYTES]


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
