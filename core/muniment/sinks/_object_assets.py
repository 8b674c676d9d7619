"""How do the files that conversations name get into the target, once each and checked?"""

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from muniment import names
from muniment.errors import FatalError, InputError
from muniment.model import Asset
from muniment.objects import ObjectStream, digest_of
from muniment.sinks import _object_manifest as manifests
from muniment.sinks.cover import Cover
from muniment.storage import Staged, Storage

_HELD_BYTES = 8 * 2**20
"""Where staged objects wait in memory: when so many bytes of copies do, they are published before their unit."""


class AssetCopies:
    """Copies of assets, staged until `publish`; named by their digest, so a second one is no loss.

    Of an encrypted one the name says nothing of the bytes, so manifests name it as an object with its
    digest, and the copy that was there first stays.
    """

    def __init__(
        self,
        storage: Storage,
        prefix: str,
        open_asset: Callable[[Asset], BinaryIO],
        cover: Cover,
        *,
        has_manifests: bool = True,
    ) -> None:
        self.missing: dict[str, None] = {}
        self._storage = storage
        self._prefix = prefix
        self._cover = cover
        self._copies: dict[str, dict[str, Any]] = {}
        self._has_manifests = has_manifests
        self._in_manifests: set[str] | None = None
        self.open_asset = open_asset
        self._staged: dict[str, Staged] = {}
        self._named: dict[str, None] = {}
        self._held = 0

    def add(self, assets: Iterable[Asset]) -> str:
        """Stage those that the target lacks; return why it cannot be done, or nothing.

        An asset that the source cannot give any more is noted in ``missing``.
        """
        for asset in assets:
            try:
                name = self._prefix + self._cover.asset_name(asset)
            except ValueError as error:
                return f"{self._cover.called(asset)} cannot be stored: {error}"
            if name not in self._staged and not self._storage.exists(name):
                problem = self._stage(asset, name)
                if problem:
                    return problem
                if name not in self._staged:
                    continue
            if not self._cover.hides:
                self._named[name] = None
            elif name not in self._staged:
                self._find(name)
        if self._held >= _HELD_BYTES and not self._storage.capabilities.reads_staged:
            # A copy that no record names in the end does no harm: it is what its name says.
            self._storage.sync()
            self.publish()
            self._storage.sync()
        return ""

    def publish(self) -> None:
        """Make the copies visible; they must be synced before, and their names after."""
        while self._staged:
            name, staged = next(iter(self._staged.items()))
            if self._cover.hides and self._storage.capabilities.if_absent:
                self._publish_first(staged, name)
            else:
                self._storage.publish(staged.token, name)
            del self._staged[name]
        self._held = 0

    def discard(self) -> None:
        while self._staged:
            self._staged.popitem()[1].discard()

    def take_missing(self) -> tuple[str, ...]:
        """Return the digests of the assets that were missing since the last call."""
        missing, self.missing = tuple(self.missing), {}
        return missing

    def take_copies(self) -> tuple[dict[str, Any], ...]:
        """Return what a manifest says of encrypted copies that records have asked for since the last call."""
        copies, self._copies = tuple(self._copies.values()), {}
        if self._in_manifests is not None:
            self._in_manifests.update(c["name"] for c in copies)
        return copies

    def take_named(self) -> tuple[str, ...]:
        """Return the names of the copies that records have asked for since the last call, new ones or old."""
        named, self._named = tuple(self._named), {}
        return named

    def __len__(self) -> int:
        return len(self._staged)

    def _stage(self, asset: Asset, name: str) -> str:
        try:
            source = self.open_asset(asset)
        except FileNotFoundError:
            self.missing[self._cover.digest(asset.sha256 or "")] = None
            return ""
        staged = self._storage.stage(name)
        try:
            stream = self._covered(staged, asset) if self._cover.hides else staged
            with source:
                size, digest = digest_of(_Reading(source), stream.write)  # type: ignore[arg-type]
        except _UnreadableError as error:
            staged.discard()
            return f"{self._cover.called(asset)} cannot be read: {error}"
        except BaseException:
            staged.discard()
            raise
        if digest != asset.sha256:
            staged.discard()
            return f"{self._cover.called(asset)} is not what its digest says; the source changed while it was read"
        stream.close()
        if isinstance(stream, ObjectStream):
            self._copies[name] = _named(name, stream.size, stream.sha256)
        self._held += size
        self._staged[name] = staged
        return ""

    def _covered(self, staged: Staged, asset: Asset) -> ObjectStream:
        true_name = self._prefix + names.asset_name(asset.sha256 or "", asset.name, asset.mime_type)
        return ObjectStream(staged, self._cover.wrappers("application/octet-stream", true_name))

    def _publish_first(self, staged: Staged, name: str) -> None:
        try:
            self._storage.publish(staged.token, name, if_absent=True)
        except FileExistsError:
            self._storage.delete(staged.token)
            with self._storage.open(name) as stream:
                self._copies[name] = _named(name, *digest_of(stream))

    def _find(self, name: str) -> None:
        """See to it that some manifest names a copy that was there before, perhaps by a killed attempt."""
        if not self._has_manifests:
            return
        if self._in_manifests is None:
            self._in_manifests = {made["name"] for m in manifests.load_all(self._storage) for made in m.objects}
        if name not in self._in_manifests and name not in self._copies:
            with self._storage.open(name) as stream:
                self._copies[name] = _named(name, *digest_of(stream))


def _named(name: str, size: int, sha256: str) -> dict[str, Any]:
    return {"name": name, "size": size, "sha256": sha256, "records": []}


class _UnreadableError(Exception):
    pass


class _Reading:
    """Tells errors of the source, which reject one record, from those of the target."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except InputError as error:
            raise _UnreadableError(str(error)) from error
        except FatalError:
            raise
        except Exception as error:
            raise _UnreadableError(f"{type(error).__name__} was raised") from error
