"""How is an object, or a small value, encrypted for a keyring and decrypted with one?"""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, Self, cast

from attrs import field, frozen

from muniment.crypto import header as headers
from muniment.crypto.chunks import PREFIX_BYTES, ChunkCipher, expand, open_message, seal_message
from muniment.crypto.header import MAGIC, Fixed, Header
from muniment.crypto.keyring import Keyring
from muniment.crypto.streams import DecryptingStream, EncryptingStream
from muniment.crypto.veil import Veil
from muniment.errors import DamagedError
from muniment.objects import ByteStream, Wrapper

SUFFIX = ".enc"
"""How the name of an encrypted object ends."""

_BODY = b"muniment/v1/body"
_VALUE = b"muniment/v1/value"
_NAMES = b"muniment/v1/names"
_BUFFER_BYTES = 256 * 2**10


def encrypting(
    keyring: Keyring,
    *,
    content_type: str = "application/octet-stream",
    about: Mapping[str, str] | None = None,
    context: bytes = b"",
) -> Wrapper:
    """Return what encrypts a stream, each one under a key of its own.

    ``content_type`` and ``about`` stand in the header for everyone to read.  ``context`` stands
    nowhere: whoever decrypts must give the same.  Memory: 200 kB.

    Raises:
        ConfigError: the keyring names nobody to encrypt for.
    """
    keyring.check_recipients()

    def wrap(below: ByteStream) -> ByteStream:
        def begin() -> tuple[bytes, ChunkCipher]:
            fixed = Fixed(content_type, dict(about or {}))
            dek = keyring.new_dek()
            return headers.encode(fixed, keyring.seal(dek, fixed), dek), _body_cipher(dek, fixed, context)

        return EncryptingStream(below, begin)

    return wrap


def decrypting(stream: BinaryIO, keyring: Keyring, *, context: bytes = b"") -> BinaryIO:
    """Return the plain bytes of an encrypted stream, which closes with it.

    It seeks where ``stream`` does.  What is read was verified; a stream that is cut off at any
    length fails at the latest where its end is read, and goes on failing.

    Raises:
        WrongKeyError: no key of the keyring opens it.
        DamagedError: the header is; and from reads, when what they come to is.
    """
    header = headers.read(stream)
    return open_body(stream, header, keyring.open(header), context=context)


def open_body(stream: BinaryIO, header: Header, dek: bytes, *, context: bytes = b"") -> BinaryIO:
    """Return the plain bytes behind a header that was read from ``stream`` and opened."""
    prefix = headers.read_fully(stream, PREFIX_BYTES)
    cipher = ChunkCipher.find(*_body_keys(dek, header.fixed, context), prefix)
    if cipher is None:
        raise DamagedError("the encrypted data does not belong to its header; restore it from a copy")
    return cast(BinaryIO, io.BufferedReader(DecryptingStream(stream, cipher), _BUFFER_BYTES))


def encrypt_bytes(
    data: bytes,
    keyring: Keyring,
    *,
    content_type: str = "application/octet-stream",
    about: Mapping[str, str] | None = None,
    context: bytes = b"",
) -> bytes:
    """Return ``data`` as an encrypted object of its own: about 500 bytes more, for one key."""
    fixed = Fixed(content_type, dict(about or {}))
    dek = keyring.new_dek()
    head = headers.encode(fixed, keyring.seal(dek, fixed), dek)
    return head + seal_message(*_body_keys(dek, fixed, context), data)


def decrypt_bytes(data: bytes, keyring: Keyring, *, context: bytes = b"") -> bytes:
    """Return what `encrypt_bytes` was given.

    Raises:
        WrongKeyError: no key of the keyring opens it.
        DamagedError: it is not what was written, or was written with another ``context``.
    """
    with decrypting(io.BytesIO(data), keyring, context=context) as stream:
        return stream.read()


@frozen(repr=False)
class Vault:
    """One key for many small values, such as the payloads of a table; each value is 72 bytes longer.

    The header, which says who can open it, is stored once.  Replacing it (see `rewrap`) changes who
    that is without touching a value; destroying it makes all values unreadable.
    """

    header: bytes
    _dek: bytes = field(alias="dek")
    _fixed: Fixed = field(alias="fixed")

    @classmethod
    def new(
        cls, keyring: Keyring, *, content_type: str = "application/octet-stream", about: Mapping[str, str] | None = None
    ) -> Self:
        fixed = Fixed(content_type, dict(about or {}))
        dek = keyring.new_dek()
        return cls(headers.encode(fixed, keyring.seal(dek, fixed), dek), dek, fixed)

    @classmethod
    def open(cls, header: bytes, keyring: Keyring) -> Self:
        """Return the vault of a header.

        Raises:
            WrongKeyError: no key of the keyring opens it.
            DamagedError: it is not what was written.
        """
        found = headers.read(io.BytesIO(header))
        if found.size != len(header):
            raise DamagedError("the header of the encrypted data is refused: something follows it")
        return cls(header, keyring.open(found), found.fixed)

    def encrypt(self, value: bytes, context: bytes) -> bytes:
        """Encrypt a value.  ``context`` names its place (table, row), so that values cannot change places."""
        return seal_message(self._key(), self._context(context), value)

    def decrypt(self, value: bytes, context: bytes) -> bytes:
        """Return what `encrypt` was given, at the same place.

        Raises:
            DamagedError: it is not what was written there.
        """
        plain = open_message(self._key(), self._context(context), value)
        if plain is None:
            raise DamagedError("an encrypted value is damaged, or stands in the wrong place; restore it from a copy")
        return plain

    def veil(self) -> Veil:
        """Return what names things in this archive without telling what they are."""
        return Veil(expand(self._dek, _NAMES))

    def __reduce__(self) -> Any:
        raise TypeError("an opened vault is never pickled; send its header")

    def _key(self) -> bytes:
        return expand(self._dek, _VALUE)

    def _context(self, context: bytes) -> bytes:
        return MAGIC + self._fixed.digest + context


def _body_keys(dek: bytes, fixed: Fixed, context: bytes) -> tuple[bytes, bytes]:
    return expand(dek, _BODY), MAGIC + fixed.digest + context


def _body_cipher(dek: bytes, fixed: Fixed, context: bytes) -> ChunkCipher:
    return ChunkCipher.new(*_body_keys(dek, fixed, context))
