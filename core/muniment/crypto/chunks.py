"""How does a message become encrypted chunks, and how is each one verified?

Cobblestone-256 of https://c2sp.org/chunked-encryption: AES-256-GCM in chunks of 16 KiB under a key,
a base nonce and a commitment that HKDF-Expand-SHA-512 makes of the input key, a random salt and a
context.  The last chunk is always shorter than the others, so a cut at any place shows.
"""

import os
from hmac import compare_digest
from typing import TYPE_CHECKING

from attrs import field, frozen

from muniment.errors import DamagedError, FatalError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
CHUNK_BYTES = 16 * 2**10
TAG_BYTES = 16
SEALED_BYTES = CHUNK_BYTES + TAG_BYTES
"""Bytes of every encrypted chunk but the last, which is shorter."""
SALT_BYTES = 24
PREFIX_BYTES = SALT_BYTES + 32
"""Salt and commitment, which stand before the first chunk."""
MAX_CHUNKS = 2**38

_NONCE_BYTES = 12
_INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
CUT_OFF = "the encrypted data is cut off"


def expand(key: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """Return HKDF-Expand-SHA-512 of ``key``, which must be uniformly random."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    return HKDFExpand(hashes.SHA512(), length, info).derive(key)


@frozen(repr=False)
class ChunkCipher:
    """The keys of one message.  ``prefix`` (salt and commitment) stands before its first chunk."""

    prefix: bytes
    _aead: "AESGCM" = field(alias="aead")
    _base_nonce: int = field(alias="base_nonce")

    @classmethod
    def new(cls, key: bytes, context: bytes) -> "ChunkCipher":
        """Return the cipher of a message that is to be written, under a salt of its own."""
        return cls._derived(key, context, os.urandom(SALT_BYTES))

    @classmethod
    def find(cls, key: bytes, context: bytes, prefix: bytes) -> "ChunkCipher | None":
        """Return the cipher of a message that begins with ``prefix``; None if it commits to another key or context."""
        if len(prefix) != PREFIX_BYTES:
            return None
        found = cls._derived(key, context, prefix[:SALT_BYTES])
        return found if compare_digest(found.prefix, prefix) else None

    @classmethod
    def _derived(cls, key: bytes, context: bytes, salt: bytes) -> "ChunkCipher":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        made = expand(key, _INFO + salt + context, KEY_BYTES + _NONCE_BYTES + PREFIX_BYTES - SALT_BYTES)
        nonce, commitment = made[KEY_BYTES : KEY_BYTES + _NONCE_BYTES], made[KEY_BYTES + _NONCE_BYTES :]
        return cls(salt + commitment, AESGCM(made[:KEY_BYTES]), int.from_bytes(nonce, "big"))

    def seal(self, index: int, chunk: bytes | memoryview) -> bytes:
        """Encrypt chunk number ``index``.  Never twice with one number: that would give both away.

        Raises:
            FatalError: the message is longer than 4 PiB.
        """
        if not 0 <= index < MAX_CHUNKS:
            raise FatalError("an encrypted object is at most 4 PiB long; store less in one object")
        return self._aead.encrypt(self.nonce(index), chunk, None)

    def open(self, index: int, sealed: bytes | memoryview) -> bytes:
        """Decrypt chunk number ``index``.

        Raises:
            DamagedError: it is not what was written there.
        """
        from cryptography.exceptions import InvalidTag

        if not 0 <= index < MAX_CHUNKS or len(sealed) < TAG_BYTES:
            raise DamagedError(CUT_OFF)
        try:
            return self._aead.decrypt(self.nonce(index), sealed, None)
        except InvalidTag:
            raise DamagedError(
                f"the encrypted data is damaged at byte {index * CHUNK_BYTES} of what it holds"
            ) from None

    def nonce(self, index: int) -> bytes:
        return (self._base_nonce ^ index).to_bytes(_NONCE_BYTES, "big")


def sealed_offset(index: int) -> int:
    """Return where encrypted chunk ``index`` begins, behind the start of the message's prefix."""
    return PREFIX_BYTES + index * SEALED_BYTES


def last_chunk(sealed_bytes: int) -> int:
    """Return the number of the last chunk of a message of ``sealed_bytes``, its prefix counted.

    Raises:
        DamagedError: no message has this length.
    """
    index, rest = divmod(sealed_bytes - PREFIX_BYTES, SEALED_BYTES)
    if index < 0 or rest < TAG_BYTES:
        raise DamagedError(CUT_OFF)
    return index


def seal_message(key: bytes, context: bytes, message: bytes) -> bytes:
    """Encrypt a message that is held in memory."""
    cipher = ChunkCipher.new(key, context)
    view = memoryview(message)
    starts = range(0, len(message) + 1, CHUNK_BYTES)
    return b"".join(
        [cipher.prefix, *(cipher.seal(i, view[start : start + CHUNK_BYTES]) for i, start in enumerate(starts))]
    )


def open_message(key: bytes, context: bytes, sealed: bytes) -> bytes | None:
    """Decrypt what `seal_message` made; None if it commits to another key or context.

    Raises:
        DamagedError: it is not what was written.
    """
    cipher = ChunkCipher.find(key, context, sealed[:PREFIX_BYTES])
    if cipher is None:
        return None
    last_chunk(len(sealed))
    view = memoryview(sealed)
    starts = range(PREFIX_BYTES, len(sealed), SEALED_BYTES)
    return b"".join([cipher.open(i, view[start : start + SEALED_BYTES]) for i, start in enumerate(starts)])
