"""How do other keys open what is encrypted already, without a byte of its body being touched?"""

from typing import BinaryIO

from attrs import frozen

from muniment.crypto import header as headers
from muniment.crypto.header import MAX_SLOTS, Slot
from muniment.crypto.keyring import Keyring
from muniment.errors import FatalError, WrongKeyError


@frozen
class NewHeader:
    """What is to stand before the body, which begins at ``body_start`` of the old object.

    ``changed`` is False where the header is right already; ``header`` is then the old one.
    """

    header: bytes
    body_start: int
    changed: bool


def add_recipients(stream: BinaryIO, opener: Keyring, added: Keyring) -> NewHeader:
    """Return a header that the recipients of ``added`` open, too.  The stream then stands at the body.

    Raises:
        WrongKeyError: ``opener`` does not open it.
        DamagedError: the header is.
    """
    return _replaced(stream, opener, Keyring(), added)


def replace_keys(stream: BinaryIO, old: Keyring, new: Keyring) -> NewHeader:
    """Return a header that the recipients of ``new`` open, and ``old`` no longer does; others stay.

    It opens with the old keys or the new ones, so it can be done twice.  Whoever has read the file's
    key already keeps it: only encrypting anew takes that away.

    Raises:
        WrongKeyError: neither opens it.
        DamagedError: the header is.
    """
    return _replaced(stream, old, old, new)


def _replaced(stream: BinaryIO, opener: Keyring, removed: Keyring, added: Keyring) -> NewHeader:
    header = headers.read(stream)
    fixed = header.fixed
    dek = opener.find(header)
    if dek is None:
        dek = added.find(header)
    if dek is None:
        raise WrongKeyError
    kept = [s for s in header.slots if added.owns(s, fixed) or not removed.owns(s, fixed)]
    missing: list[Slot] = list(added.seal_missing(dek, fixed, kept))
    if len(kept) + len(missing) > MAX_SLOTS:
        raise FatalError(f"at most {MAX_SLOTS} keys open one object; rotate away one that is no longer needed")
    if not missing and len(kept) == len(header.slots):
        return NewHeader(headers.as_bytes(header), header.size, changed=False)
    return NewHeader(headers.encode(fixed, (*kept, *missing), dek), header.size, changed=True)
