"""How does a passphrase become a key, slowly for who guesses and once for who knows?"""

import base64
import os
import unicodedata
from typing import Literal

from attrs import define, field, frozen

from muniment.crypto.chunks import KEY_BYTES
from muniment.crypto.header import Slot, decode_base64
from muniment.crypto.keys import key_id

MIN_CHARACTERS = 12
_SALT_BYTES = 16

KdfCost = Literal["interactive", "paranoid"]


@frozen
class Cost:
    """What one try of a passphrase takes."""

    memory_kib: int
    passes: int
    lanes: int = 4


COSTS: dict[KdfCost, Cost] = {
    # RFC 9106, section 4, second recommended option.
    "interactive": Cost(64 * 2**10, 3),
    "paranoid": Cost(2**20, 2),
}


def problem_with(passphrase: str) -> str | None:
    """Return why nothing should be encrypted with this passphrase, or None."""
    if len(passphrase) < MIN_CHARACTERS:
        return f"a passphrase has at least {MIN_CHARACTERS} characters; six random words are a good one"
    if len(set(passphrase)) < MIN_CHARACTERS // 2:
        return "a passphrase of so few different characters is quickly guessed; six random words are a good one"
    return None


def _normal(text: str) -> bytes:
    # One passphrase, however a keyboard composes its letters; bytes that are not UTF-8 stay what they are.
    return unicodedata.normalize("NFC", text).encode(errors="surrogateescape")


@define(repr=False, eq=False)
class Passphrase:
    """Opens and writes slots of the algorithm ``argon2id``.

    The key of a salt is computed once and kept.  After a slot was opened, new slots take over its
    salt: an archive that is read before it is written to has one.
    """

    _text: bytes = field(alias="text", converter=_normal)
    _cost: Cost = field(alias="cost", factory=lambda: COSTS["interactive"])
    _keks: dict[tuple[bytes, Cost], bytes] = field(factory=dict, init=False)
    _salt: bytes = field(factory=lambda: os.urandom(_SALT_BYTES), init=False)

    def new_slot(self) -> tuple[Slot, bytes]:
        kek = self._kek(self._salt, self._cost)
        params = {
            "lanes": self._cost.lanes,
            "memory_kib": self._cost.memory_kib,
            "passes": self._cost.passes,
            "salt": base64.b64encode(self._salt).decode(),
        }
        return Slot("argon2id", key_id(kek), params), kek

    def find_kek(self, slot: Slot) -> bytes | None:
        if slot.alg != "argon2id":
            return None
        kek = self._kek(*_salt_and_cost(slot))
        return kek if key_id(kek) == slot.kid else None

    def opened(self, slot: Slot) -> None:
        salt, cost = _salt_and_cost(slot)
        if cost == self._cost:
            self._salt = salt

    def __repr__(self) -> str:
        return "<passphrase>"

    def __reduce__(self) -> str:
        raise TypeError("a passphrase is never pickled; send the reference to it")

    def _kek(self, salt: bytes, cost: Cost) -> bytes:
        found = self._keks.get((salt, cost))
        if found is None:
            from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

            found = self._keks[salt, cost] = Argon2id(
                salt=salt, length=KEY_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
            ).derive(self._text)
        return found


def _salt_and_cost(slot: Slot) -> tuple[bytes, Cost]:
    params = slot.params
    return decode_base64(params["salt"]), Cost(params["memory_kib"], params["passes"], params["lanes"])
