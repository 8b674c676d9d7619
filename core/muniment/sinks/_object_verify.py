"""Is a store of objects what its manifests say?  Every object read, compared, decoded; nothing written."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from attrs import define, field, frozen

from muniment import names
from muniment.components import Context, Format
from muniment.crypto import SUFFIX, Vault, open_keyring
from muniment.crypto.folders import VAULT
from muniment.crypto.frames import KeyObjects
from muniment.errors import (
    DamagedError,
    FatalError,
    InputError,
    MunimentError,
    PluginError,
    TransientError,
    WrongKeyError,
)
from muniment.manifest import Log, Manifest
from muniment.model import Origin
from muniment.objects import digest_of
from muniment.proof import MAX_BYTES, SignedHead
from muniment.sinks import _object_manifest as manifests
from muniment.sinks import _object_vault as vaults
from muniment.sinks._object_latest import NOTE, noted
from muniment.sinks.cover import Cover, Encrypted, read_opened
from muniment.storage import Storage
from muniment.verification import Entries, Finding, Inspection, Purges, check_log

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

_DIGEST = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.[^/]*)?$")


def verify(sink: "ObjectSink", ctx: Context, inspection: Inspection) -> Iterator[Finding]:
    """Yield what is wrong with a target of objects.

    Raises:
        NotImplementedError: it is a snapshot.
        InputError: it holds no manifests.
        TransientError: the storage cannot be reached.
    """
    if sink.layout.mode == "snapshot":
        raise NotImplementedError(
            f"{ctx.path} is one file, written whole, without manifests; archive to a folder or an archive to verify it"
        )
    with sink.storage() as storage:
        check = _Check(sink, storage, inspection)
        yield from check.open_vault(ctx)
        yield from check.findings()


@frozen
class _Named:
    """What a manifest says of an object."""

    manifest: int
    size: int
    sha256: str
    keys: tuple[str, ...]


@define(eq=False)
class _Check:
    sink: "ObjectSink"
    storage: Storage
    inspection: Inspection
    last: dict[str, int] = field(factory=dict)
    assets: set[str] = field(factory=set)
    missing_assets: set[str] = field(factory=set)
    has_older: bool = False
    cover: Cover | None = None
    purges: Purges = field(factory=Purges)
    _by_digest: dict[str, list[tuple[str, int]]] | None = None

    def open_vault(self, ctx: Context) -> Iterator[Finding]:
        """Take the keys that there are; without any, encrypted objects are compared by their digests only.

        Raises:
            ConfigError: a key cannot be had.
            WrongKeyError: no key opens the vault.
        """
        keyring, options = self.inspection.keyring, self.sink.encryption
        if keyring is None and options is not None:
            keyring = open_keyring(options, ctx)
        header = vaults.read(self.storage) if keyring else b""
        if keyring is not None and header:
            try:
                self.cover = Encrypted(keyring, Vault.open(header, keyring), KeyObjects(self.storage.open, keyring))
            except DamagedError as error:
                yield Finding("unreadable", VAULT, str(error))

    def findings(self) -> Iterator[Finding]:
        numbers = manifests.numbers(self.storage)
        name, note = manifests.load_head(self.storage)
        if not numbers and not note:
            raise InputError("it holds no manifests, so there is nothing to verify; is this the right place?")
        entries = Entries(numbers, self._read, manifests.name_of, name or manifests.HEAD, note)
        yield from check_log(entries, self.inspection)
        yield from self._older_heads(numbers, name)
        for manifest in self._manifests(numbers):
            self._collect(manifest)
        view = self._view()
        chosen = set(self.inspection.choose(sorted(self.last)))
        for manifest in self._manifests(numbers):
            for made in manifest.objects:
                self.purges.object(manifest.number, made)
                if self.last.get(made["name"]) == manifest.number:
                    yield from self._purged(made)
                    if made["name"] in chosen:
                        yield from self._object(manifest, made)
        yield from self.purges.findings(manifests.name_of)
        yield from self._old_view()
        for asset in self.inspection.choose(sorted(self.assets)):
            yield from self._asset(asset)
        for made in view:
            yield from self._differs(made["name"], _Named(0, made["size"], made["sha256"], ()))
        yield from self._extra({made["name"] for made in view})

    # --- manifests --------------------------------------------------------------------------

    def _read(self, number: int) -> bytes:
        with self.storage.open(manifests.name_of(number)) as stream:
            return stream.read()

    def _older_heads(self, numbers: list[int], newest: str) -> Iterator[Finding]:
        """Compare the heads that were never replaced with the log as it was then."""
        kept = {name for name in manifests.heads(self.storage) if name != newest}
        log = Log()
        for number in numbers if kept else ():
            with contextlib.suppress(FileNotFoundError, FatalError):
                log.append(self._read(number))
            name = f"{manifests.HEADS}{number:08}"
            if name in kept:
                kept.remove(name)
                with self.storage.open(name) as stream:
                    yield from _differing_head(stream.read(MAX_BYTES + 1), log, name)
        for name in sorted(kept):
            yield Finding("extra", name, "there is no manifest of its number")

    def _manifests(self, numbers: list[int]) -> Iterator[Manifest]:
        """Yield those that can be read; `check_log` has named the others."""
        for number in numbers:
            with contextlib.suppress(FatalError, AttributeError, RecursionError):
                manifest = manifests.load(self.storage, number)[0]
                if manifest.number == number:
                    yield manifest

    def _collect(self, manifest: Manifest) -> None:
        self.last.update((made["name"], manifest.number) for made in manifest.objects)
        self.assets.update(manifest.assets)
        for name in manifest.removed:
            self.last.pop(name, None)
            self.assets.discard(name)
        self.purges.hear(manifest)
        self.missing_assets.update(manifest.missing_assets)
        self.has_older = self.has_older or manifest.version == 1

    # --- objects ----------------------------------------------------------------------------

    def _purged(self, made: dict[str, Any]) -> Iterator[Finding]:
        """Name the records that an object holds though they were purged."""
        for row in made["records"] if self.purges.keys else ():
            if (number := self.purges.keys.get(row[0])) and (row[0], made["name"]) not in self.purges.shredded:
                yield Finding("extra", made["name"], f"it holds `{row[0]}`, which manifest {number} purged")

    def _object(self, manifest: Manifest, made: dict[str, Any]) -> Iterator[Finding]:
        keys = tuple(row[0] for row in made["records"])
        named = _Named(manifest.number, made["size"], made["sha256"], keys)
        differing = list(self._differs(made["name"], named))
        yield from differing
        if differing:
            return
        if not keys:
            if made["name"].startswith(self.sink.layout.assets) and made["name"].endswith(SUFFIX):
                yield from self._encrypted_asset(made["name"])
            return
        by = manifest.made_by(made)
        try:
            form = self.sink.make_format(by.format, by.format_options)
        except (PluginError, TypeError, ValueError):
            self.inspection.undecoded += 1
            return
        yield from self._decoded(form, made["name"], manifest, keys)

    def _decoded(self, form: Format, name: str, manifest: Manifest, keys: tuple[str, ...]) -> Iterator[Finding]:
        found: Counter[str] = Counter()
        try:
            with self._opened(form, name) as stream:
                if stream is None:
                    self.inspection.undecoded += 1
                    return
                key = self.cover.key if self.cover else str
                for record in form.decode(stream, Origin(name, name)):
                    found[key(record.key)] += 1
                    if manifest.version == 1:
                        self._need(record.conversation.assets)
        except (TransientError, WrongKeyError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a format makes of damaged bytes
            reason = "cannot be decrypted" if isinstance(error, DamagedError) else "cannot be decoded"
            yield Finding(
                "unreadable", name, f"its bytes are those that were stored, but it {reason} ({type(error).__name__})"
            )
            return
        self.inspection.records += found.total()
        # Of what was purged here the row stays, and no key.
        if found != Counter(k for k in keys if (k, name) not in self.purges.shredded):
            yield Finding("changed", name, "it holds other records than its manifest says")

    @contextlib.contextmanager
    def _opened(self, form: Format, name: str) -> Iterator[BinaryIO | None]:
        """Give the plain bytes of an object; None where it cannot be decoded here."""
        cover = self.cover if name.endswith(SUFFIX) else Cover()
        if not form.reads_back or cover is None:
            yield None
            return
        with self.storage.open(name) as stream, contextlib.closing(read_opened(cover, stream, name)) as plain:
            yield plain

    def _encrypted_asset(self, name: str) -> Iterator[Finding]:
        if self.cover is None:
            self.inspection.undecoded += 1
            return
        try:
            with self.storage.open(name) as stream, self.cover.opened(stream) as plain:
                _, sha256 = digest_of(plain)
        except DamagedError:
            yield Finding("unreadable", name, "its bytes are those that were stored, but it cannot be decrypted")
            return
        if not name.endswith(f"/{self.cover.digest(sha256)}{SUFFIX}"):
            yield Finding("changed", name, "it is not the file that its name stands for")

    def _need(self, assets: Any) -> None:
        for asset in assets:
            if asset.sha256 and asset.sha256 not in self.missing_assets:
                name = names.asset_name(asset.sha256, asset.name, asset.mime_type)
                self.assets.add(self.sink.layout.assets + name)

    def _asset(self, name: str) -> Iterator[Finding]:
        digest = _DIGEST.search(name)
        if digest is None:
            yield Finding("changed", name, "a manifest names a file whose name holds no digest")
        else:
            yield from self._differs(name, _Named(0, -1, digest[1], ()))

    def _differs(self, name: str, named: _Named) -> Iterator[Finding]:
        """Yield what is wrong with an object's bytes; ``size`` -1 is not known."""
        self.inspection.objects += 1
        try:
            with self.storage.open(name) as stream:
                size, sha256 = digest_of(stream)
        except FileNotFoundError:
            yield Finding("missing", name, f"it is gone, and with it {_records(named)}")
            return
        except (FatalError, OSError, ValueError) as error:
            yield Finding("unreadable", name, str(error) if isinstance(error, MunimentError) else type(error).__name__)
            return
        finally:
            self.inspection.seen()
        if sha256 != named.sha256 or size != named.size != -1:
            yield self._told(name, named, size, sha256)

    def _told(self, name: str, named: _Named, size: int, sha256: str) -> Finding:
        """Say what stands in the place of an object."""
        others = self._digests().get(sha256, [])
        if any(other == name for other, _ in others):
            return Finding("rolled back", name, f"it is an earlier version of itself, of manifest {others[0][1]}")
        if others:
            return Finding("swapped", name, f"it is a copy of `{others[0][0]}`")
        was = f" of {named.size} bytes" if named.size >= 0 else ""
        said = f"{size} bytes with other content stand in place of the ones{was} that were stored"
        return Finding("changed", name, said if size != named.size else "its content is not what was stored")

    def _digests(self) -> dict[str, list[tuple[str, int]]]:
        if self._by_digest is None:
            self._by_digest = {}
            for manifest in self._manifests(manifests.numbers(self.storage)):
                for made in manifest.objects:
                    self._by_digest.setdefault(made["sha256"], []).append((made["name"], manifest.number))
            for asset in self.assets:
                if found := _DIGEST.search(asset):
                    self._by_digest.setdefault(found[1], []).append((asset, 0))
        return self._by_digest

    # --- what nobody names ------------------------------------------------------------------

    def _view(self) -> list[dict[str, Any]]:
        """Return the objects of `latest`, which stand beside the archive."""
        try:
            with self.storage.open(NOTE) as stream:
                objects = json.loads(stream.read())["objects"]
            return msgspec.convert(objects, list[dict[str, Any]])
        except (FileNotFoundError, ValueError, KeyError, TypeError, msgspec.ValidationError):
            return []

    def _old_view(self) -> Iterator[Finding]:
        """Name the view if it was made before something was purged."""
        number = max(self.purges.keys.values(), default=0)
        if number and 0 < noted(self.storage) < number:
            reason = f"it was made before manifest {number} purged records, and shows them; run that purge again"
            yield Finding("extra", NOTE, reason)

    def _extra(self, others: set[str]) -> Iterator[Finding]:
        for stored in self.storage.list():
            name = stored.name
            if name in self.last or name in self.assets or name in others:
                continue
            if name.startswith(manifests.PREFIX):
                if not manifests.is_manifest(name):
                    yield Finding("extra", name, "it stands among the manifests and is none")
            elif any(piece.startswith(".") for piece in name.split("/")):
                # Of a file manager, an editor, or our own: no reader of the archive takes it for a part of it.
                continue
            elif not (self.has_older and name.startswith(self.sink.layout.assets) and self._is_sound_asset(name)):
                yield Finding("extra", name, "no manifest names it: it was put there, or a killed run has left it")

    def _is_sound_asset(self, name: str) -> bool:
        """Say whether a file that an older manifest may have needed is what its name says."""
        digest = _DIGEST.search(name)
        if digest is None:
            return False
        with self.storage.open(name) as stream:
            return digest_of(stream)[1] == digest[1]


def _differing_head(note: bytes, log: Log, name: str) -> Iterator[Finding]:
    try:
        head = SignedHead.parse(note).head
    except ValueError as error:
        yield Finding("changed", name, f"the checkpoint cannot be read: {error}")
        return
    if head != log.head():
        yield Finding("changed", name, "it is not the checkpoint of the manifests up to its number")


def _records(named: _Named) -> str:
    count = len(named.keys)
    return "what it held" if not count else f"{count} records" if count > 1 else f"record `{named.keys[0]}`"
