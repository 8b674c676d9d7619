"""How are the tables of a unit written, when the records of many keys come mixed?"""

import pickle
import tempfile
from typing import IO, Any

from attrs import define, field

from muniment.errors import FatalError
from muniment.sinks._object_parts import Group, Parts, Taken
from muniment.sinks._object_payload import Payload
from muniment.sinks.cover import Cover
from muniment.tables import TableFormat

_SORTED_BYTES = 32 * 2**20
_WRITTEN_BYTES = 16 * 2**20


class TableParts(Parts):
    """Parts of formats that encode many records at once.

    What comes for one key only is written as it comes.  Batches with records of several keys wait
    until it is worth to sort them; what was sorted waits in a temporary file until a key has enough for
    a good piece of a table, or the unit ends.  So no table is cut into crumbs, and few are open at once.
    """

    _form: TableFormat

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._tables = self._form.table_names
        self._mixed = _Mixed()
        self._spool = _Spool(self._cover)

    def add(self, payload: Payload, taken: Taken) -> None:
        groups = {key: self._group(key) for key in taken}
        whole = len(taken) == 1 and len(payload.entries) == len(next(iter(taken.values())))
        if whole and not self._mixed.batches:
            ((key, some),) = taken.items()
            self._write(groups[key], payload.batch, [row for _, row in some])
            self._flush_others(groups[key])
            return
        start = self._mixed.add(payload.batch, len(payload.entries), self._form.size_of(payload.batch))
        for key, some in taken.items():
            groups[key].waiting += [start + entry.index for entry, _ in some]
            groups[key].waiting_rows += [row for _, row in some]
        if self._mixed.size > _SORTED_BYTES:
            self._sort()

    def discard(self) -> None:
        self._mixed = _Mixed()
        self._spool.close()
        super().discard()

    def _sort(self) -> None:
        """Part what waits by key; a key that has enough then is written."""
        mixed, self._mixed = self._mixed, _Mixed()
        if not mixed.batches:
            return
        joined = self._form.join(mixed.batches)
        for group in self._groups.values():
            if not group.waiting:
                continue
            batch = self._form.select(joined, group.waiting)
            group.spooled.append((self._spool.put(batch), group.waiting_rows))
            group.waiting_bytes += self._form.size_of(batch)
            group.waiting, group.waiting_rows = [], []
        del joined
        for group in self._groups.values():
            if group.waiting_bytes >= _WRITTEN_BYTES:
                self._write_spooled(group)

    def _write_waiting(self) -> None:
        self._sort()
        # Those that are open first: they have their last rows, and make room.
        for group in sorted(self._groups.values(), key=lambda g: g.part is None):
            self._write_spooled(group)
            if group.part is not None:
                self._close(group)
        self._spool.clear()

    def _write_spooled(self, group: Group) -> None:
        spooled, group.spooled, group.waiting_bytes = group.spooled, [], 0
        for place, rows in spooled:
            self._write(group, self._spool.get(place), rows)
        self._flush_others(group)

    def _flush_others(self, group: Group) -> None:
        """Leave the memory of what is held back to one part."""
        for other in self._open:
            if other is not group and other.part is not None and other.part.body.held:
                other.part.body.flush()

    def _some_of(self, batch: Any, start: int, end: int) -> Any:
        return self._form.select(batch, range(start, end))


@define(eq=False)
class _Mixed:
    """Batches that wait to be sorted; their records are counted through."""

    batches: list[Any] = field(factory=list)
    records: int = 0
    size: int = 0

    def add(self, batch: Any, records: int, size: int) -> int:
        """Return the place of the batch's first record."""
        start = self.records
        self.batches.append(batch)
        self.records += records
        self.size += size
        return start


class _Spool:
    """Batches in a temporary file that has no name."""

    def __init__(self, cover: Cover) -> None:
        self._file: IO[bytes] | None = None
        self._cover = cover

    def put(self, batch: Any) -> int:
        """Return the place to get the batch from."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="muniment-")  # noqa: SIM115 - closed with its unit
            place = self._file.seek(0, 2)
            if self._cover.hides:
                data = self._cover.spooled(pickle.dumps(batch, pickle.HIGHEST_PROTOCOL))
                self._file.write(len(data).to_bytes(8, "big"))
                self._file.write(data)
            else:
                pickle.dump(batch, self._file, pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise FatalError(
                f"`{tempfile.gettempdir()}` cannot hold what waits to be written: {error.strerror}; free some space"
                " or name another folder with TMPDIR, then run the same command again"
            ) from error
        return place

    def get(self, place: int) -> Any:
        assert self._file is not None
        self._file.seek(place)
        if self._cover.hides:
            size = int.from_bytes(self._file.read(8), "big")
            return pickle.loads(self._cover.unspooled(self._file.read(size)))  # noqa: S301 - as below
        return pickle.load(self._file)  # noqa: S301 - what `put` has written, in a file without a name

    def clear(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
