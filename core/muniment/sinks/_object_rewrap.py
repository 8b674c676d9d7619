"""How do other keys open an encrypted target of objects, while its manifests go on to be true?

Objects get new headers, so their digests change.  A manifest says the new ones before the objects are
replaced: killed in between, the objects are still what an earlier manifest says, and the same call
goes on with them.
"""

import getpass
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from attrs import define, field

from muniment.components import Context
from muniment.crypto import SUFFIX, NewHeader
from muniment.crypto.folders import VAULT
from muniment.errors import ConfigError, FatalError, TargetBusyError
from muniment.manifest import Log, Manifest, now
from muniment.objects import ObjectStream, digest_of
from muniment.proof import SigningKey, open_signer
from muniment.sinks import _object_manifest as manifests
from muniment.sinks import _object_vault as vaults
from muniment.sinks._object_latest import NOTE
from muniment.sinks._object_target import lock
from muniment.storage import Storage

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

Change = Callable[[BinaryIO], NewHeader]

_BATCH_OBJECTS = 256
_BATCH_BYTES = 256 * 2**20
_COPY_BYTES = 2**20


def rewrap(sink: "ObjectSink", ctx: Context, change: Change) -> bool:
    """Give the vault and every encrypted object the header that ``change`` makes; return whether one changed.

    The latest view goes; the next run makes it anew.

    Raises:
        ConfigError: the target is not encrypted.
        WrongKeyError: the keys of ``change`` do not open an object.
        FatalError: an object is damaged; those before it have their new headers.
        TargetBusyError: another run writes.
    """
    with ExitStack() as stack:
        if held := lock(sink.lock_path(ctx)):
            stack.callback(held.release)
        storage = stack.enter_context(sink.storage())
        if not storage.capabilities.replaces:
            raise ConfigError(
                f"{ctx.path}: this storage does not replace objects, so their keys cannot be changed; make a new"
                " archive with the new keys from this one"
            )
        if not vaults.read(storage, vaults.name_of(sink)):
            raise ConfigError(f"{ctx.path}: this target is not encrypted, so no key opens it")
        return _Rewrap(sink, ctx, storage, change).run()


@define(eq=False)
class _Rewrap:
    sink: "ObjectSink"
    ctx: Context
    storage: Storage
    change: Change
    log: Log = field(factory=Log)
    signer: SigningKey | None = None
    run_id: str = field(factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
    _earlier: dict[str, set[str]] = field(factory=dict)
    _staged: list[tuple[dict[str, Any], ObjectStream]] = field(factory=list)
    _size: int = 0
    _changed: bool = False

    def run(self) -> bool:
        found = manifests.numbers(self.storage)
        if found:
            last, data = manifests.load(self.storage, found[-1])
            if last.number != len(found):
                raise FatalError("a manifest is missing; restore it from a copy before the keys are changed")
            self.log = manifests.log_of(self.storage, last, data)
            self.signer = self._find_signer(last)
        objects = list(self._encrypted()) or list(self._unnamed())
        try:
            for made in objects:
                self._take(made)
                if len(self._staged) >= _BATCH_OBJECTS or self._size >= _BATCH_BYTES:
                    self._commit()
            self._commit()
        except BaseException:
            for _, stream in self._staged:
                stream.discard()
            raise
        return self._changed

    # --- what is to be changed --------------------------------------------------------------

    def _encrypted(self) -> Iterator[dict[str, Any]]:
        """Yield what manifests say of the encrypted objects that count, with where their records come from."""
        standing = list(manifests.Standing(self.storage).objects())
        for manifest in manifests.load_all(self.storage):
            for made in manifest.objects:
                self._earlier.setdefault(made["name"], set()).add(made["sha256"])
        for manifest, made in standing:
            if made["name"].endswith(SUFFIX) or made["name"] == VAULT:
                yield {**made, "of": manifest.made_by(made).of()}

    def _unnamed(self) -> Iterator[dict[str, Any]]:
        """Yield the objects of a target without manifests: a snapshot, or one where nothing was stored yet."""
        vault = vaults.name_of(self.sink)
        names = [vault]
        if self.sink.layout.mode == "snapshot":
            names += [s.name for s in self.storage.list(self.sink.layout.assets) if s.name.endswith(SUFFIX)]
            names += [n for n in [self.sink.snapshot_name()] if self.storage.exists(n)]
        for name in names:
            digest = self._digest(name)
            self._earlier[name] = {digest}
            yield {"name": name, "records": [], "sha256": digest}

    def _take(self, made: dict[str, Any]) -> None:
        """Stage an object with its new header, or nothing if it has that already."""
        name = made["name"]
        self._check_sound(made)
        with self.storage.open(name) as source:
            header = self.change(source)
        if not header.changed and self._digest(name) == made["sha256"]:
            return
        staged = ObjectStream(self.storage.stage(name))
        self._staged.append((made, staged))
        with self.storage.open(name) as source:
            _skip(source, header.body_start)
            staged.write(header.header)
            while data := source.read(_COPY_BYTES):
                staged.write(data)
        staged.close()
        self._size += staged.size

    def _check_sound(self, made: dict[str, Any]) -> None:
        """Accept what the last manifest says of an object, or an earlier one: a rotation that was cut off left it."""
        name = made["name"]
        try:
            found = self._digest(name)
        except FileNotFoundError:
            found = ""
        if found != made["sha256"] and found not in self._earlier.get(name, ()):
            raise FatalError(
                f"`{name}` is missing or not what was stored, and must not be taken for it; repair the archive or"
                " restore it from a copy, then run the same command again"
            )

    def _digest(self, name: str) -> str:
        with self.storage.open(name) as stream:
            return digest_of(stream)[1]

    # --- a commit ---------------------------------------------------------------------------

    def _commit(self) -> None:
        """Say what the staged objects are, then put them in the place of the old ones."""
        if not self._staged:
            return
        self.storage.sync()
        kept = ("name", "records", "of")
        objects = tuple(
            {**{k: made[k] for k in kept if k in made}, "size": s.size, "sha256": s.sha256} for made, s in self._staged
        )
        if self.log.number:
            self._append(objects)
        self._remove_view()
        while self._staged:
            made, stream = self._staged[0]
            self.storage.publish(stream.token, made["name"])
            del self._staged[0]
        self.storage.sync()
        if self.log.number:
            manifests.store_head(self.storage, self.log, self.log.note(self.signer))
        self._size, self._changed = 0, True

    def _append(self, objects: tuple[dict[str, Any], ...]) -> None:
        at = now()
        manifest = Manifest(
            run=self.run_id, objects=objects, at=at, pipeline=self.ctx.pipeline, sink=self.ctx.path,
            event={"kind": "rewrap", "actor": _actor(), "at": at, "reason": "other keys"},
            signer=str(self.signer.verifier) if self.signer else "", **self.log.chained(),
        )  # fmt: skip
        data = manifest.to_json()
        name = manifests.name_of(manifest.number)
        staged = self.storage.stage(name)
        try:
            staged.write(data)
            staged.close()
            self.storage.sync()
            self.storage.publish(staged.token, name, if_absent=True)
        except FileExistsError:
            staged.discard()
            raise TargetBusyError(
                f"`{name}` is there already: another run has written to this target; run the same command again"
            ) from None
        except BaseException:
            staged.discard()
            raise
        self.storage.sync()
        self.log.append(data)

    def _remove_view(self) -> None:
        """Remove `latest`, which the old keys open."""
        try:
            with self.storage.open(NOTE) as stream:
                objects = json.loads(stream.read())["objects"]
        except FileNotFoundError:
            return
        for made in objects:
            self.storage.delete(made["name"])
        self.storage.delete(NOTE)
        self.storage.sync()

    def _find_signer(self, last: Manifest) -> SigningKey | None:
        signer = open_signer(self.sink.proof, self.ctx)
        if last.signer and signer is None:
            raise ConfigError(
                f"{self.ctx.path}: this archive is signed, and so must be what is said of its new objects; name the"
                " pipeline file, whose sink has the signing key with `proof`"
            )
        return signer


def _skip(stream: BinaryIO, size: int) -> None:
    while size and (data := stream.read(min(size, _COPY_BYTES))):
        size -= len(data)


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
