"""What stands between plain records and the place that holds them?  Nothing, or encryption and pseudonyms."""

import os
from collections.abc import Sequence
from typing import BinaryIO

import attrs
from attrs import field, frozen
from msgspec.structs import replace

from muniment import names
from muniment.crypto import SUFFIX, Keyring, Vault, Veil, encrypt_bytes, encrypting
from muniment.crypto import header as headers
from muniment.crypto.chunks import KEY_BYTES, open_message, seal_message
from muniment.crypto.envelope import open_body
from muniment.crypto.folders import hidden_name
from muniment.crypto.frames import FRAMES_TYPE, KeyObjects, joined
from muniment.errors import DamagedError
from muniment.model import Asset, Rejected
from muniment.objects import Wrapper, decompressing
from muniment.sinks._object_payload import ID, ID_DIGITS, Entry
from muniment.units import Unit

_DIGEST_DIGITS = 8


class Cover:
    """Nothing: all that is stored is as it is."""

    hides = False
    vault = b""
    """The header that says who can read all this; empty where everyone can."""

    def key(self, key: str) -> str:
        """Return what manifests, state and quarantine call the record with this key."""
        return key

    def source_hash(self, source_hash: str) -> str:
        """Return what stands for the hash of a record's content."""
        return source_hash

    def digest(self, sha256: str) -> str:
        """Return what stands for the digest of an asset."""
        return sha256

    def asset_name(self, asset: Asset) -> str:
        """Return the name of an asset below the folder of assets.

        Raises:
            ValueError: its digest is none.
        """
        return names.asset_name(asset.sha256 or "", asset.name, asset.mime_type)

    def called(self, asset: Asset) -> str:
        """Return what a message calls an asset."""
        return f"asset `{asset.id}`"

    def entries(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """Return entries as the writer is to note them."""
        return tuple(entries)

    def unit(self, unit: Unit) -> Unit:
        """Return a unit as manifest and state are to note it."""
        return unit

    def wrappers(self, content_type: str = "", name: str = "") -> list[Wrapper]:
        """Return what is put round the stream of an object, below compression.

        ``name`` is what the object would be called if names told what they name.
        """
        return []

    def sealed(self, data: bytes, content_type: str = "", name: str = "") -> bytes:
        """Return a whole object as it is stored."""
        return data

    def opened(self, stream: BinaryIO) -> BinaryIO:
        """Return the bytes of an object before it was wrapped.

        Raises:
            WrongKeyError: no key here opens it.
            DamagedError: it is not what was written; also from reads.
        """
        return stream

    def spooled(self, data: bytes) -> bytes:
        """Return bytes as they may wait in a temporary file."""
        return data

    def unspooled(self, data: bytes) -> bytes:
        return data


@frozen(repr=False)
class Encrypted(Cover):
    """Encryption for a keyring, and pseudonyms that the vault's key makes.  Never pickled."""

    keyring: Keyring
    _vault: Vault = field(alias="vault_")
    keys: KeyObjects | None = None
    """The keys of single records, where objects hold such."""
    _veil: Veil = field(init=False, default=attrs.Factory(lambda self: self._vault.veil(), takes_self=True))
    _spool_key: bytes = field(init=False, factory=lambda: os.urandom(KEY_BYTES))

    hides = True

    @property
    def vault(self) -> bytes:  # type: ignore[override]
        return self._vault.header

    def key(self, key: str) -> str:
        return self._veil.name("key", key)

    def source_hash(self, source_hash: str) -> str:
        # What `State.forget` leaves empty stays so.
        return self._veil.name("source_hash", source_hash) if source_hash else ""

    def digest(self, sha256: str) -> str:
        return self._veil.name("asset", sha256)

    def asset_name(self, asset: Asset) -> str:
        super().asset_name(asset)
        digest = self.digest(asset.sha256 or "")
        return f"{digest[:2]}/{digest}{SUFFIX}"

    def called(self, asset: Asset) -> str:
        return "an asset"

    def entries(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple(map(self._entry, entries))

    def unit(self, unit: Unit) -> Unit:
        if not unit.quarantined:
            return unit
        return attrs.evolve(unit, quarantined=tuple(map(self._rejected, unit.quarantined)))

    def wrappers(self, content_type: str = "", name: str = "") -> list[Wrapper]:
        return [encrypting(self.keyring, content_type=content_type, about=self._about(name))]

    def sealed(self, data: bytes, content_type: str = "", name: str = "") -> bytes:
        return encrypt_bytes(data, self.keyring, content_type=content_type, about=self._about(name))

    def opened(self, stream: BinaryIO) -> BinaryIO:
        header = headers.read(stream)
        plain = open_body(stream, header, self.keyring.open(header))
        if header.fixed.content_type != FRAMES_TYPE:
            return plain
        if self.keys is None:
            raise DamagedError("the keys of its records are not here; read the archive that it belongs to")
        return joined(plain, self.keys)

    def spooled(self, data: bytes) -> bytes:
        return seal_message(self._spool_key, b"", data)

    def unspooled(self, data: bytes) -> bytes:
        plain = open_message(self._spool_key, b"", data)
        if plain is None:
            raise DamagedError("a temporary file was changed; run the same command again")
        return plain

    def _about(self, name: str) -> dict[str, str]:
        if not name:
            return {}
        return {"name": hidden_name(name, self._vault)}

    def _entry(self, entry: Entry) -> Entry:
        key = self.key(entry.key)
        ids = entry.messages
        pieces = [self._veil.name_of_bytes("message", ids[i : i + 4])[:_DIGEST_DIGITS] for i in range(0, len(ids), 4)]
        return attrs.evolve(
            entry,
            key=key,
            source_hash=self.source_hash(entry.source_hash),
            messages=bytes.fromhex("".join(pieces)),
            name=entry.name.replace(ID, key[:ID_DIGITS]),
        )

    def _rejected(self, rejected: Rejected) -> Rejected:
        origin = rejected.origin
        digest = self._veil.name("digest", origin.digest) if origin.digest else ""
        return replace(
            rejected, key=self.key(rejected.key) if rejected.key else "", origin=replace(origin, digest=digest)
        )


def read_opened(cover: Cover, stream: BinaryIO, name: str) -> BinaryIO:
    """Return the plain bytes of an object that was compressed and covered; the caller closes ``stream``, too."""
    return decompressing(cover.opened(stream), name.removesuffix(SUFFIX))
