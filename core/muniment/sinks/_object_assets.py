"""How do the files that conversations name get into the target, once each and checked?"""

from collections.abc import Callable, Iterable
from typing import BinaryIO

from muniment import names
from muniment.errors import FatalError, InputError
from muniment.model import Asset
from muniment.objects import digest_of
from muniment.storage import Staged, Storage

_HELD_BYTES = 8 * 2**20
"""Where staged objects wait in memory: when so many bytes of copies do, they are published before their unit."""


class AssetCopies:
    """Copies of assets, staged until `publish`; named by their digest, so a second one is no loss."""

    def __init__(self, storage: Storage, prefix: str, open_asset: Callable[[Asset], BinaryIO]) -> None:
        self.missing: dict[str, None] = {}
        self._storage = storage
        self._prefix = prefix
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
                name = self._prefix + names.asset_name(asset.sha256 or "", asset.name, asset.mime_type)
            except ValueError as error:
                return f"asset `{asset.id}` cannot be stored: {error}"
            if name not in self._staged and not self._storage.exists(name):
                problem = self._stage(asset, name)
                if problem:
                    return problem
                if name not in self._staged:
                    continue
            self._named[name] = None
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
            self.missing[asset.sha256 or ""] = None
            return ""
        staged = self._storage.stage(name)
        try:
            with source:
                size, digest = digest_of(_Reading(source), staged.write)  # type: ignore[arg-type]
        except _UnreadableError as error:
            staged.discard()
            return f"asset `{asset.id}` cannot be read: {error}"
        except BaseException:
            staged.discard()
            raise
        if digest != asset.sha256:
            staged.discard()
            return f"asset `{asset.id}` is not what its digest says; the source changed while it was read"
        staged.close()
        self._held += size
        self._staged[name] = staged
        return ""


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
