"""Who vouches for the state of an archive?  A tree head as one short text, signed.

The text is a C2SP `tlog-checkpoint` inside a C2SP `signed-note`, the keys are those of `signed-note`
(Ed25519): tools that know these read ours.
"""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attrs import field, frozen

from muniment.errors import ConfigError, FatalError
from muniment.merkle import HASH_BYTES
from muniment.options import option
from muniment.private_files import store_new_key
from muniment.secrets import Secret

if TYPE_CHECKING:
    from muniment.components import Context

ORIGIN_PREFIX = "muniment/log/"
PRIVATE_PREFIX = "PRIVATE+KEY+"
MAX_BYTES = 64 * 2**10
"""Of a signed text; a longer one is none of ours."""

_ED25519 = b"\x01"
_SEED_BYTES = _PUBLIC_BYTES = 32
_SIGNATURE_BYTES = 64
_ID_BYTES = 4
_NAME = re.compile(r"[^\s+]+")
_MARK = "\N{EM DASH} "


@frozen(kw_only=True)
class Proof:
    """Who signs for the archive."""

    key: Secret | None = option(
        "A signing key that `muniment key new --signing NAME` made; it signs the archive's state after each commit.",
        default=None,
        identity=False,
        example="${secret:file:sign.key}",
    )


def open_signer(proof: Proof | None, ctx: "Context") -> "SigningKey | None":
    """Return the key that ``proof`` names, revealed in this process; None where nothing is to be signed.

    Raises:
        ConfigError: the secret cannot be had, or is no signing key.
    """
    if proof is None or proof.key is None:
        return None
    try:
        return SigningKey.parse(ctx.reveal(proof.key))
    except ValueError as error:
        raise ConfigError(f"{proof.key.option or ctx.path}: this secret holds no signing key: {error}") from None


# --- what is signed -------------------------------------------------------------------------


@frozen
class TreeHead:
    """The state of a log: ``size`` entries under ``root``.  ``origin`` tells logs apart."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what `text` returned; lines behind the third are taken as extensions, and kept by nobody.

        Raises:
            ValueError: it is something else.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise ValueError("it has not the lines of a checkpoint")
        origin, size, root = lines[:3]
        if not re.fullmatch(r"0|[1-9][0-9]{0,15}", size):
            raise ValueError("its second line is no number of entries")
        return cls(origin, int(size), _decoded(root, HASH_BYTES))


@frozen
class Signature:
    """Who has signed: a key's name, four bytes that tell its keys apart, the signature itself."""

    name: str
    key_id: bytes
    value: bytes


@frozen
class SignedHead:
    """A tree head with its signatures, as it was written."""

    head: TreeHead
    signatures: tuple[Signature, ...]
    signed: str

    @classmethod
    def parse(cls, note: bytes) -> Self:
        """Return what a signed note holds; a note without any signature is one, too.

        Raises:
            ValueError: it is no note of a tree head.
        """
        if len(note) > MAX_BYTES:
            raise ValueError("it is too long")
        try:
            text, blank, rest = note.decode("utf-8").rpartition("\n\n")
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None
        if not blank or (rest and not rest.endswith("\n")):
            raise ValueError("it does not end as a signed note does")
        signatures = tuple(map(_signature, rest.split("\n")[:-1]))
        return cls(TreeHead.parse(f"{text}\n"), signatures, f"{text}\n")

    def is_signed_by(self, key: "VerifierKey") -> bool:
        """Say whether the signature of ``key`` is here and right."""
        return any(
            s.name == key.name and s.key_id == key.id and key.verifies(self.signed.encode(), s.value)
            for s in self.signatures
        )


def sign_head(head: TreeHead, signers: Sequence["SigningKey"] = ()) -> bytes:
    """Return the signed note of a tree head.  The same head and keys give the same bytes."""
    text = head.text()
    return "".join([text, "\n", *(f"{s.sign(text.encode())}\n" for s in signers)]).encode()


# --- keys -----------------------------------------------------------------------------------


@frozen
class VerifierKey:
    """A public key: ``<name>+<8 hex digits>+<base64>``."""

    name: str
    public: bytes
    id: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("a key's name has no spaces and no plus signs, and is not empty")
        digest = hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()
        object.__setattr__(self, "id", digest[:_ID_BYTES])

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key that a line of text holds.

        Raises:
            ValueError: it holds none.
        """
        name, key_id, encoded = _parts(text.strip())
        key = cls(name, _key_bytes(encoded, _PUBLIC_BYTES))
        if key.id.hex() != key_id:
            raise ValueError("its digits do not fit; a character of it is wrong")
        return key

    def verifies(self, message: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@frozen(repr=False, eq=False)
class SigningKey:
    """A private key: ``PRIVATE+KEY+<name>+<8 hex digits>+<base64>``.  Prints as its public key."""

    name: str
    _seed: bytes = field(alias="seed")

    @classmethod
    def new(cls, name: str) -> Self:
        """Return a random key.

        Raises:
            ValueError: a key cannot have this name.
        """
        key = cls(name, os.urandom(_SEED_BYTES))
        _ = key.verifier
        return key

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key that the text of a key file holds.

        Raises:
            ValueError: it holds none; the message does not repeat it.
        """
        line = text.strip()
        if not line.startswith(PRIVATE_PREFIX):
            raise ValueError(f"it does not begin with `{PRIVATE_PREFIX}`; `muniment key new --signing NAME` makes one")
        name, key_id, encoded = _parts(line.removeprefix(PRIVATE_PREFIX))
        key = cls(name, _key_bytes(encoded, _SEED_BYTES))
        if key.verifier.id.hex() != key_id:
            raise ValueError("its digits do not fit; a character of it is wrong")
        return key

    @property
    def verifier(self) -> VerifierKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        public = Ed25519PrivateKey.from_private_bytes(self._seed).public_key()
        return VerifierKey(self.name, public.public_bytes_raw())

    def text(self) -> str:
        """Return what a key file holds."""
        encoded = base64.b64encode(_ED25519 + self._seed).decode()
        return f"{PRIVATE_PREFIX}{self.name}+{self.verifier.id.hex()}+{encoded}"

    def sign(self, message: bytes) -> str:
        """Return the line of a signed note."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        signature = Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)
        return f"{_MARK}{self.name} {base64.b64encode(self.verifier.id + signature).decode()}"

    def __repr__(self) -> str:
        return f"<signing key {self.verifier}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is never pickled; send the reference to it")


def create_signing_key(path: Path, name: str) -> SigningKey:
    """Make a signing key and a file that holds it, 0600 whatever the umask, durable when this returns.

    Raises:
        FatalError: there is a file already, it cannot be written, or no key can have this name.
    """
    try:
        key = SigningKey.new(name)
    except ValueError as error:
        raise FatalError(f"`{name}` cannot name a key: {error}") from None
    store_new_key(path, key.text())
    return key


# --- parts of the texts ---------------------------------------------------------------------


def _signature(line: str) -> Signature:
    name, blank, encoded = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK) or not blank or not _NAME.fullmatch(name):
        raise ValueError("a line behind its text is no signature")
    data = _decoded(encoded, _ID_BYTES + _SIGNATURE_BYTES)
    return Signature(name, data[:_ID_BYTES], data[_ID_BYTES:])


def _parts(text: str) -> tuple[str, str, str]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not re.fullmatch("[0-9a-f]{8}", key_id):
        raise ValueError("it is not `<name>+<8 hex digits>+<base64>`")
    return name, key_id, encoded


def _key_bytes(encoded: str, size: int) -> bytes:
    data = _decoded(encoded, size + 1)
    if data[:1] != _ED25519:
        raise ValueError("it is a key of another kind than Ed25519")
    return data[1:]


def _decoded(text: str, size: int) -> bytes:
    """Return ``size`` bytes from base64 that nobody could write in another way."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise ValueError("what should be base64 is not") from None
    if len(data) != size or base64.b64encode(data).decode() != text:
        raise ValueError(f"what should be {size} bytes in base64 is not")
    return data
