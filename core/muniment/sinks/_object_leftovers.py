"""What did killed attempts leave in a store of objects?  Looked for without opening it as a target."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from muniment.components import Context, Target
from muniment.errors import FatalError
from muniment.lock import TargetLock
from muniment.sinks import _object_manifest as manifests
from muniment.units import Checkpoint, Fence, Orphan, Prepared

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

_PART = re.compile(r"(?:^|[^0-9A-Za-z])part-([0-9]{8,})-([0-9]{8}T[0-9]{6}-[0-9a-f]{8})(?![0-9A-Za-z])")
_NO_MANIFEST = "no manifest says what belongs to this archive; restore `.muniment` from a copy"
_BEFORE_THE_LAST = "a later unit of the same run is stored: a manifest may be missing"


class ObjectLeftovers(Target):
    """Staged objects, and parts that no manifest names."""

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        self._sink = sink
        path = sink.lock_path(ctx)
        self._lock = TargetLock(path) if path else None
        if self._lock:
            self._lock.acquire()
        self._storage = sink.storage()

    def committed(self) -> Mapping[str, Checkpoint]:
        return {}

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        raise FatalError("this target was opened to look for leftovers only")

    def orphans(self) -> Iterator[Orphan]:
        """Yield leftovers; of a part that may be archived data all the same, say why.

        Raises:
            FatalError: a manifest is damaged or missing.
        """
        for stored in self._storage.staged():
            yield Orphan(stored.name, stored.size)
        if self._sink.layout.mode != "append":
            return
        named: set[str] = set()
        last: dict[str, int] = {}
        for number, manifest in enumerate(manifests.load_all(self._storage), 1):
            if manifest.number != number:
                raise FatalError(f"manifest `{manifests.name_of(number)}` is missing; restore it from a copy")
            named.update(made["name"] for made in manifest.objects)
            if manifest.unit is not None:
                last[manifest.unit.run] = manifest.unit.number
        for prefix in self._sink.part_prefixes():
            for stored in self._storage.list(prefix):
                part = _PART.search(stored.name)
                if part and stored.name not in named:
                    doubt = (
                        _NO_MANIFEST if not last else _BEFORE_THE_LAST if int(part[1]) <= last.get(part[2], 0) else ""
                    )
                    yield Orphan(stored.name, stored.size, doubt)

    def collect(self, orphan: Orphan) -> None:
        self._storage.delete(orphan.where)

    def close(self) -> None:
        try:
            self._storage.sync()
        finally:
            self._storage.close()
            if self._lock:
                self._lock.release()
