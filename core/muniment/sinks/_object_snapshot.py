"""How is one object written whole from a full read, and swapped in at the end?"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from muniment.components import Checkpoint, Context, Fence, Orphan, Prepared, Receipt, Target, Unit, Writer
from muniment.errors import FatalError
from muniment.model import Record, Rejected
from muniment.objects import Part
from muniment.sinks._object_assets import AssetCopies
from muniment.sinks._object_payload import Payload
from muniment.sinks._object_read import digest, merged_versions, read_object
from muniment.sinks._object_target import lock

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

_open_targets: "WeakValueDictionary[tuple[str, str], SnapshotTarget]" = WeakValueDictionary()
"""The targets of running runs, by run and sink: all partitions of a snapshot go into one stream."""


class SnapshotTarget(Target):
    """The object while it grows, in a staged file.  Nothing is kept of it when the run does not end."""

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        self.sink = sink
        self.name = sink.snapshot_name()
        self._form = sink.make_format()
        self._part: Part | None = None
        self._assets: AssetCopies | None = None
        self._seen: set[bytes] = set()
        self._published = self._done = False
        path = sink.lock_path(ctx)
        self._lock = lock(path)
        self.storage = sink.storage()
        try:
            if self._lock:
                for orphan in list(self.orphans()):
                    self.storage.delete(orphan.where)
        except BaseException:
            self.close()
            raise
        _open_targets[ctx.run, ctx.path] = self

    @property
    def whole_run(self) -> bool:
        return True

    def committed(self) -> Mapping[str, Checkpoint]:
        return {}

    def write(self, payload: Payload, ctx: Context) -> Receipt:
        """Add what is not there yet; a second version of a conversation is added beside the first."""
        if self._assets is None:
            self._assets = AssetCopies(self.storage, self.sink.layout.assets, ctx.open_asset)
        self._assets.open_asset = ctx.open_asset
        pieces: list[bytes] = []
        added: list[bytes] = []
        rejected: list[Rejected] = []
        for entry in payload.entries:
            mark = hashlib.sha256(f"{entry.source_hash}{entry.key}".encode("utf-8", "surrogatepass")).digest()[:12]
            if mark in self._seen or mark in added:
                continue
            if entry.assets and (problem := self._assets.add(entry.assets)):
                rejected.append(Rejected(entry.origin, "write", problem, entry.key))
                continue
            pieces.append(entry.piece)
            added.append(mark)
        self._stream().add(pieces)
        self._seen.update(added)
        return Receipt(len(pieces), len(payload.entries) - len(pieces) - len(rejected), tuple(rejected))

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        if self._done:
            return
        part = self._stream()
        part.close()
        self.storage.sync()
        if self._assets:
            self._assets.publish()
            self.storage.sync()
        if not self._published:
            self.storage.publish(part.token, self.name)
            self._published = True
        self.storage.sync()
        self._done = True

    def abort(self, prepared: Sequence[Prepared]) -> None:
        if self._part is not None and not self._published:
            self._part.discard()
            self._part = None
        if self._assets is not None:
            self._assets.discard()

    def orphans(self) -> Iterator[Orphan]:
        own = self._part.token if self._part else ""
        return (Orphan(s.name, s.size) for s in self.storage.staged() if s.name != own)

    def read_back(self) -> Iterator[Record]:
        if not self._form.reads_back:
            raise NotImplementedError(f"format `{self.sink.layout.format}` cannot be read back")
        if not self.storage.exists(self.name):
            return iter(())
        versions = Counter(digest(r.key) for r in read_object(self.storage, self._form, self.name))
        several = {key: count for key, count in versions.items() if count > 1}
        return merged_versions(read_object(self.storage, self._form, self.name), several)

    def close(self) -> None:
        try:
            # What stopped the run (a full disk, say) is told by its own error.
            with suppress(FatalError):
                self.abort(())
        finally:
            self.storage.close()
            if self._lock:
                self._lock.release()

    def _stream(self) -> Part:
        if self._part is None:
            self._part = Part(self.storage.stage(self.name), self._form, self.sink.wrappers())
        return self._part


class SnapshotWriter(Writer):
    """One partition's way into the run's stream."""

    def __init__(self, ctx: Context) -> None:
        target = _open_targets.get((ctx.run, ctx.path))
        if target is None:
            raise FatalError(
                "a snapshot is written where its run is driven; use `mode: append` to write from several machines"
            )
        self._ctx = ctx
        self._target = target

    def write(self, payload: Payload) -> Receipt:
        return self._target.write(payload, self._ctx)

    def seal(self, unit: Unit) -> Prepared:
        return Prepared(unit)
