"""How does a key service (a KMS, an HSM, a vault) open what is encrypted?

A service never sees a file's key.  It wraps a random key-encryption key, once per keyring, so a run
costs one call for all the files that it writes.
"""

import base64
import hashlib
import os
import re
from typing import Any, Protocol

from attrs import define, field

from muniment.crypto.chunks import KEY_BYTES
from muniment.crypto.header import Slot, decode_base64
from muniment.crypto.keys import key_id
from muniment.errors import FatalError, MunimentError, PluginError

ENTRY_POINTS = "muniment.key_services.v1"
"""Entry-point group: the name in ``recipients`` -> a callable without parameters that makes a `KeyService`."""

_CONTEXT = b"muniment/v1/service"
_RECIPIENT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*:.+")


class KeyService(Protocol):
    """What a plugin for a key service provides.  Its credentials are its own business.

    ``context`` is to be bound to what is wrapped where the service can (as AWS KMS does with its
    encryption context); a service that cannot may leave it aside.

    Raises:
        TransientError: the same call may work later.
        FatalError: the service refuses; the message names it and the key, never a secret.
    """

    def wrap(self, key_name: str, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, key_name: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the 32 bytes that were wrapped."""


@define(repr=False, eq=False)
class ServiceKey:
    """A key that a service holds.  Opens and writes slots of the algorithm ``service``.

    Only slots of exactly this service and key are opened: any other key may be a stranger's, who
    could then make files that pass for ours.
    """

    service_name: str
    key_name: str
    _service: KeyService = field(alias="service")
    _slot: tuple[Slot, bytes] | None = field(default=None, init=False)
    _keks: dict[bytes, bytes] = field(factory=dict, init=False)

    def new_slot(self) -> tuple[Slot, bytes]:
        if self._slot is None:
            kek = os.urandom(KEY_BYTES)
            blob: bytes = self._call("wrap", kek)
            params = {
                "blob": base64.b64encode(blob).decode(),
                "key": self.key_name,
                "service": self.service_name,
            }
            self._slot = Slot("service", key_id(kek), params), kek
        return self._slot

    def find_kek(self, slot: Slot) -> bytes | None:
        if slot.alg != "service" or (slot.params["service"], slot.params["key"]) != (self.service_name, self.key_name):
            return None
        blob = decode_base64(slot.params["blob"])
        digest = hashlib.sha256(blob).digest()
        kek = self._keks.get(digest)
        if kek is None:
            kek = self._keks[digest] = self._call("unwrap", blob)
        return kek if len(kek) == KEY_BYTES and key_id(kek) == slot.kid else None

    def opened(self, slot: Slot) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{self.service_name}:{self.key_name}>"

    def __reduce__(self) -> str:
        raise TypeError("an opened key service is never pickled; send its name")

    def _call(self, what: str, data: bytes) -> Any:
        try:
            return getattr(self._service, what)(self.key_name, data, _CONTEXT)
        except MunimentError:
            raise
        except Exception as error:
            raise FatalError(
                f"the key service `{self.service_name}` failed to {what} with `{self.key_name}`: {type(error).__name__}"
            ) from error


def is_recipient(text: str) -> bool:
    """Whether ``text`` names a key of a service: ``SERVICE:KEY``."""
    return _RECIPIENT.fullmatch(text) is not None


def service_key(recipient: str) -> ServiceKey:
    """Return the key that ``SERVICE:KEY`` names; the service is looked up among the installed ones.

    Raises:
        PluginError: there is no such service, or it cannot be loaded.
    """
    from importlib.metadata import entry_points

    name, _, key_name = recipient.partition(":")
    found = entry_points(group=ENTRY_POINTS, name=name)
    owners = sorted({point.dist.name if point.dist else point.value for point in found})
    if len(owners) > 1:
        raise PluginError(f"the key service `{name}` is in {' and '.join(f'`{o}`' for o in owners)}; remove one")
    if not found:
        raise PluginError(f"no key service `{name}` is installed; install the plugin that brings it")
    try:
        service = next(iter(found)).load()()
    except MunimentError:
        raise
    except Exception as error:
        raise PluginError(
            f"the key service `{name}` of `{owners[0]}` cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return ServiceKey(name, key_name, service)
