"""How is one object written whole from a full read, and swapped in at the end?"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from muniment.components import Context, Target, Writer
from muniment.errors import FatalError
from muniment.model import Record, Rejected
from muniment.objects import ObjectStream, Part, compressing
from muniment.sinks._object_assets import AssetCopies
from muniment.sinks._object_parts import begin_body
from muniment.sinks._object_payload import Entry, Payload
from muniment.sinks._object_read import digest, merged_versions, read_object
from muniment.sinks._object_target import lock
from muniment.sinks._object_vault import begin_cover
from muniment.sinks.cover import Cover
from muniment.tables import TableFormat, TablePart
from muniment.units import Checkpoint, Fence, Orphan, Prepared, Receipt, Unit

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

_open_targets: "WeakValueDictionary[tuple[str, str], SnapshotTarget]" = WeakValueDictionary()
"""The targets of running runs, by run and sink: all partitions of a snapshot go into one stream."""


class SnapshotTarget(Target):
    """The object while it grows, in a staged file.  Nothing is kept of it when the run does not end."""

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        self.sink = sink
        self.ctx = ctx
        self.name = sink.snapshot_name()
        self._form = sink.make_format()
        self._body: Part | TablePart | None = None
        self._stream: ObjectStream | None = None
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
            self._cover = begin_cover(sink, ctx, self.storage)
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
            prefix = self.sink.layout.assets
            self._assets = AssetCopies(self.storage, prefix, ctx.open_asset, self._cover, has_manifests=False)
        self._assets.open_asset = ctx.open_asset
        new: list[Entry] = []
        added: list[bytes] = []
        rejected: list[Rejected] = []
        for entry in payload.entries:
            mark = hashlib.sha256(f"{entry.source_hash}{entry.key}".encode("utf-8", "surrogatepass")).digest()[:12]
            if mark in self._seen or mark in added:
                continue
            if entry.assets and (problem := self._assets.add(entry.assets)):
                rejected.append(Rejected(entry.origin, "write", problem, entry.key))
                continue
            new.append(entry)
            added.append(mark)
        body, _ = self._begun()
        if new:
            body.add(payload.batch_of(new, self._form))
        self._seen.update(added)
        return Receipt(len(new), len(payload.entries) - len(new) - len(rejected), tuple(rejected))

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        if self._done:
            return
        body, stream = self._begun()
        body.close()
        stream.close()
        self.storage.sync()
        if self._assets:
            self._assets.publish()
            self.storage.sync()
        if not self._published:
            self.storage.publish(stream.token, self.name)
            self._published = True
        self.storage.sync()
        self._done = True

    def abort(self, prepared: Sequence[Prepared]) -> None:
        if self._stream is not None and not self._published:
            self._stream.discard()
            self._stream = self._body = None
        if self._assets is not None:
            self._assets.discard()

    def orphans(self) -> Iterator[Orphan]:
        own = self._stream.token if self._stream else ""
        return (Orphan(s.name, s.size) for s in self.storage.staged() if s.name != own)

    def read_back(self) -> Iterator[Record]:
        if not self._form.reads_back:
            raise NotImplementedError(f"format `{self.sink.layout.format}` cannot be read back")
        if not self.storage.exists(self.name):
            return iter(())
        versions = Counter(digest(r.key) for r in read_object(self.storage, self._form, self.name, self._cover))
        several = {key: count for key, count in versions.items() if count > 1}
        return merged_versions(read_object(self.storage, self._form, self.name, self._cover), several, Cover())

    def close(self) -> None:
        try:
            # What stopped the run (a full disk, say) is told by its own error.
            with suppress(FatalError):
                self.abort(())
        finally:
            self.storage.close()
            if self._lock:
                self._lock.release()

    def _begun(self) -> tuple[Part | TablePart, ObjectStream]:
        if self._body is None or self._stream is None:
            wrappers = [compressing(self.sink.layout.compression), *self._cover.wrappers(self._form.media_type)]
            self._stream = ObjectStream(self.storage.stage(self.name), wrappers)
            table = self._form.table_names[0] if isinstance(self._form, TableFormat) else ""
            self._body = begin_body(self._form, {table: self._stream})
        return self._body, self._stream


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
