"""Which keys open what is encrypted, and for which is it written?"""

import os
from collections.abc import Sequence
from typing import Protocol

from muniment.crypto.chunks import KEY_BYTES, open_message, seal_message
from muniment.crypto.header import Fixed, Header, Slot, canonical
from muniment.errors import ConfigError, DamagedError, WrongKeyError

_LABEL = b"muniment/v1/slot\0"


class Holder(Protocol):
    """One that can open: a `Key`, a `Passphrase`, a `ServiceKey`."""

    def new_slot(self) -> tuple[Slot, bytes]:
        """Return a slot that nothing is wrapped in yet, and the key-encryption key to wrap with."""

    def find_kek(self, slot: Slot) -> bytes | None:
        """Return the key-encryption key of a slot; None if it belongs to somebody else."""

    def opened(self, slot: Slot) -> None:
        """Learn that a slot was opened."""


class Keyring:
    """Keys in memory.  Everything is written for each of ``recipients``; these and ``readers`` open.

    It is made where it is used and never pickled.
    """

    def __init__(self, recipients: Sequence[Holder] = (), readers: Sequence[Holder] = ()) -> None:
        self._recipients = tuple(recipients)
        self._holders = (*self._recipients, *readers)

    def check_recipients(self) -> None:
        """Return if there is somebody to encrypt for.

        Raises:
            ConfigError: there is nobody.
        """
        if not self._recipients:
            raise ConfigError("nothing says whom to encrypt for; name a key, a passphrase or a recipient")

    def new_dek(self) -> bytes:
        """Return a random key for one file."""
        self.check_recipients()
        return os.urandom(KEY_BYTES)

    def seal(self, dek: bytes, fixed: Fixed) -> tuple[Slot, ...]:
        """Return a slot for every recipient."""
        return tuple(_wrap(holder, dek, fixed) for holder in self._recipients)

    def seal_missing(self, dek: bytes, fixed: Fixed, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """Return a slot for every recipient that opens none of ``slots``."""
        return tuple(
            _wrap(holder, dek, fixed)
            for holder in self._recipients
            if not any(_unwrap(holder, slot, fixed) is not None for slot in slots)
        )

    def open(self, header: Header) -> bytes:
        """Return the key of a file.

        Raises:
            WrongKeyError: no key here opens it.
            DamagedError: the header was changed by someone who holds no key.
        """
        dek = self.find(header)
        if dek is None:
            raise WrongKeyError
        return dek

    def find(self, header: Header) -> bytes | None:
        """Return the key of a file, or None if no key here opens it.

        Raises:
            DamagedError: the header was changed by someone who holds no key.
        """
        for holder in self._holders:
            for slot in header.slots:
                dek = _unwrap(holder, slot, header.fixed)
                if dek is not None:
                    header.verify(dek)
                    holder.opened(slot)
                    return dek
        return None

    def owns(self, slot: Slot, fixed: Fixed) -> bool:
        """Whether a key here opens this very slot."""
        return any(_unwrap(holder, slot, fixed) is not None for holder in self._holders)

    def __repr__(self) -> str:
        return f"<keyring of {', '.join(map(repr, self._holders))}>"

    def __reduce__(self) -> str:
        raise TypeError("a keyring is never pickled; open it where it is used")


def _wrap(holder: Holder, dek: bytes, fixed: Fixed) -> Slot:
    slot, kek = holder.new_slot()
    return Slot(slot.alg, slot.kid, slot.params, seal_message(kek, _context(slot, fixed), dek))


def _unwrap(holder: Holder, slot: Slot, fixed: Fixed) -> bytes | None:
    kek = holder.find_kek(slot)
    if kek is None:
        return None
    try:
        dek = open_message(kek, _context(slot, fixed), slot.wrapped)
    except DamagedError:
        # Told apart from a wrong key, it would tell an attacker which keys we hold.
        return None
    return dek if dek is not None and len(dek) == KEY_BYTES else None


def _context(slot: Slot, fixed: Fixed) -> bytes:
    return _LABEL + fixed.digest + canonical(slot.as_json(with_wrapped=False))
