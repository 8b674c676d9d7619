"""Where is the vault of an encrypted target of objects, and who makes it?"""

import hashlib
from typing import TYPE_CHECKING, Any

from muniment.components import Context
from muniment.crypto import Vault, open_keyring
from muniment.crypto.folders import VAULT
from muniment.crypto.frames import KeyObjects
from muniment.crypto.header import MAX_HEADER_BYTES
from muniment.errors import ConfigError, FatalError
from muniment.sinks import _object_manifest as manifests
from muniment.sinks.cover import Cover, Encrypted
from muniment.storage import Storage

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

__all__ = ["begin_cover", "name_of", "open_cover", "read", "vault_object"]

CONTENT_TYPE = "application/vnd.muniment.vault"

_MAX_BYTES = 2 * MAX_HEADER_BYTES


def name_of(sink: "ObjectSink") -> str:
    """Return the name of the vault: a snapshot, which stands beside other files, has it with its assets."""
    return f"{sink.layout.assets}.vault" if sink.layout.mode == "snapshot" else VAULT


def open_cover(sink: "ObjectSink", ctx: Context, storage: Storage) -> Cover:
    """Return the cover of a target that a driver has opened before.

    Raises:
        ConfigError: a key cannot be had.
        WrongKeyError: no key opens the vault.
        DamagedError: the vault is damaged.
        FatalError: there is none.
    """
    if sink.encryption is None:
        return Cover()
    header = read(storage, name_of(sink))
    if not header:
        raise FatalError(_missing(name_of(sink)))
    return _opened(sink, ctx, storage, header)


def begin_cover(sink: "ObjectSink", ctx: Context, storage: Storage) -> Cover:
    """Return the cover of a target, whose vault is made if the target is new.

    Raises:
        ConfigError: a key cannot be had, or the target is encrypted and the options are not, or the reverse.
        WrongKeyError: no key opens the vault.
        DamagedError: the vault is damaged.
    """
    name = name_of(sink)
    if sink.encryption is None:
        # Of a snapshot it belongs to the file beside this one that is encrypted.
        if sink.layout.mode != "snapshot" and storage.exists(name):
            raise ConfigError(f"{ctx.path}: this target is encrypted; give its key with `encryption`")
        return Cover()
    header = read(storage, name)
    if not header:
        if sink.layout.mode != "snapshot":
            _check_new(ctx, storage)
        _make(sink, ctx, storage, name)
        header = read(storage, name)
    return _opened(sink, ctx, storage, header)


def read(storage: Storage, name: str = VAULT) -> bytes:
    """Return the header of the vault; empty where there is none."""
    try:
        with storage.open(name) as stream:
            return stream.read(_MAX_BYTES)
    except FileNotFoundError:
        return b""


def vault_object(header: bytes) -> dict[str, Any]:
    """Return what a manifest says of the vault."""
    return {"name": VAULT, "size": len(header), "sha256": hashlib.sha256(header).hexdigest(), "records": []}


def _check_new(ctx: Context, storage: Storage) -> None:
    first = next(iter(manifests.numbers(storage)), 0)
    if not first:
        return
    if any(made["name"] == VAULT for made in manifests.load(storage, first)[0].objects):
        raise FatalError(_missing(VAULT))
    raise ConfigError(
        f"{ctx.path}: this target was begun without `encryption`, and is encrypted from its beginning or never; write"
        " to a new place and bring over what is here with the source `archive`, or leave `encryption` out"
    )


def _make(sink: "ObjectSink", ctx: Context, storage: Storage, name: str) -> None:
    """Put a new vault there unless somebody else does at the same time; theirs counts then."""
    assert sink.encryption is not None
    made = Vault.new(open_keyring(sink.encryption, ctx), content_type=CONTENT_TYPE)
    staged = storage.stage(name)
    try:
        staged.write(made.header)
        staged.close()
        storage.sync()
        try:
            storage.publish(staged.token, name, if_absent=storage.capabilities.if_absent)
        except FileExistsError:
            storage.delete(staged.token)
        storage.sync()
    except BaseException:
        staged.discard()
        raise


def _opened(sink: "ObjectSink", ctx: Context, storage: Storage, header: bytes) -> Encrypted:
    assert sink.encryption is not None
    keyring = open_keyring(sink.encryption, ctx)
    return Encrypted(keyring, Vault.open(header, keyring), KeyObjects(storage.open, keyring))


def _missing(name: str) -> str:
    return f"`{name}` is missing, without which nothing finds what it holds; restore it from a copy"
