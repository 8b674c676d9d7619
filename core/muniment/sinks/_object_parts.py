"""How are the parts of a unit written side by side, in bounded memory?"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from muniment.components import Format
from muniment.objects import Compression, ObjectStream, Part, Wrapper
from muniment.options import option
from muniment.sinks._object_payload import Entry, Payload
from muniment.sinks._object_retry import retried_here
from muniment.sinks._object_sealing import SealedPart, write_keys
from muniment.sinks.cover import Cover
from muniment.storage import Staged, Storage
from muniment.tables import TableFormat, TablePart

_WAITING_BYTES = 24 * 2**20


def _at_least_one(_: Any, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"`{attribute.name}` must be 1 or more")


@frozen(kw_only=True)
class PartLimits:
    """When a part ends before its unit does."""

    max_bytes: int | None = option(
        "Bytes of the stored object, about: a part ends with the record that reaches them, and what a compressor"
        " holds back is not counted.",
        default=None,
        validator=_at_least_one,
    )
    max_records: int | None = option("Conversations.", default=None, validator=_at_least_one)


@frozen
class Ended:
    """An object that was written to its end: ``made`` is what the manifest says of it."""

    stream: ObjectStream
    made: dict[str, Any]


def begin_body(form: Format, streams: Mapping[str, ObjectStream]) -> Part | TablePart:
    """Return what assembles a part in its streams, by table; a format without tables has one, called nothing."""
    return form.begin(streams) if isinstance(form, TableFormat) else Part(streams[""], form)


Taken = Mapping[str, list[tuple[Entry, list[Any]]]]
"""What is to be stored of a payload, by key: entries with their rows in the manifest."""


class Parts(ABC):
    """The parts of the open unit, by key: the name of their objects but for ``{part}`` and ``{table}``.

    At most ``max_open`` are open.  What comes for others waits in memory; when that is too much, the
    part whose turn was longest ago is ended, and its key gets a further part if more comes.

    With ``sealing``, which is then how they are compressed, records are sealed one by one.
    """

    def __init__(
        self,
        storage: Storage,
        form: Format,
        wrappers: Sequence[Wrapper],
        name_of: Callable[[str, int, str], str],
        limits: PartLimits,
        max_open: int,
        cover: Cover,
        sealing: Compression | None = None,
    ) -> None:
        self._storage = storage
        self._form = form
        self._wrappers = wrappers
        self._name_of = name_of
        self._limits = limits
        self._max_open = max_open
        self._cover = cover
        self._sealing = sealing
        self._tables: Sequence[str] = ("",)
        self._groups: dict[str, Group] = {}
        self._open: list[Group] = []
        self._ended: list[Ended] = []
        self._number = 0

    @abstractmethod
    def add(self, payload: Payload, taken: Taken) -> None:
        """Write records, or keep them until there is room."""

    @abstractmethod
    def _write_waiting(self) -> None:
        """Write all that waits."""

    @abstractmethod
    def _some_of(self, batch: Any, start: int, end: int) -> Any:
        """Return a piece of what goes into a part."""

    def end(self) -> list[Ended]:
        """End all parts and return their objects; the next unit may begin."""
        self._write_waiting()
        for group in list(self._open):
            self._close(group)
        ended, self._ended, self._number = self._ended, [], 0
        self._groups.clear()
        return ended

    def discard(self) -> None:
        """Remove what was staged and not given away by `end`."""
        for group in self._open:
            for _, stream in group.part.objects if group.part else ():
                stream.discard()
        for ended in self._ended:
            ended.stream.discard()
        self._groups, self._open, self._ended = {}, [], []

    def _group(self, key: str) -> "Group":
        """Return the group of a key, whose turn it is now."""
        group = self._groups.pop(key, None) or Group(key)
        self._groups[key] = group
        return group

    # --- one part ---------------------------------------------------------------------------

    def _write(self, group: "Group", batch: Any, rows: list[Any]) -> None:
        if group.part is None and len(self._open) >= self._max_open:
            self._close(next(g for g in self._groups.values() if g.part is not None))
        done = 0
        while done < len(rows):
            if group.part is None:
                group.part = self._begin(group.key)
                self._open.append(group)
            part, end = group.part, len(rows)
            if self._limits.max_records is not None:
                end = min(end, done + self._limits.max_records - len(part.rows))
            some = batch if (done, end) == (0, len(rows)) else self._some_of(batch, done, end)
            if isinstance(part.body, SealedPart):
                part.body.add(zip((row[0] for row in rows[done:end]), some, strict=True))
            else:
                part.body.add(some)
            part.rows += rows[done:end]
            done = end
            if self._is_full(part):
                self._close(group)

    def _begin(self, key: str) -> "_OpenPart":
        self._number += 1
        streams: dict[str, ObjectStream] = {}
        objects = []
        try:
            for table in self._tables:
                name = self._name_of(key, self._number, table)
                streams[table] = ObjectStream(self._stage(name), self._wrappers)
                objects.append((name, streams[table]))
        except BaseException:
            for stream in streams.values():
                stream.discard()
            raise
        if self._sealing is None:
            return _OpenPart(begin_body(self._form, streams), objects)
        return _OpenPart(SealedPart(streams[""], self._form, self._sealing, objects[0][0]), objects)

    def _stage(self, name: str) -> Staged:
        return retried_here(lambda: self._storage.stage(name))

    def _is_full(self, part: "_OpenPart") -> bool:
        limits = self._limits
        if limits.max_records is not None and len(part.rows) >= limits.max_records:
            return True
        if limits.max_bytes is None or part.size + part.body.held < limits.max_bytes:
            return False
        part.body.flush()
        return part.size >= limits.max_bytes

    def _close(self, group: "Group") -> None:
        part, group.part = group.part, None
        assert part is not None
        try:
            part.body.close()
            for _, stream in part.objects:
                stream.close()
        finally:
            self._open.remove(group)
            # The records stand in the first object, whose rows name them.
            for index, (name, stream) in enumerate(part.objects):
                rows = part.rows if not index else []
                made = {"name": name, "size": stream.size, "sha256": stream.sha256, "records": rows, "if_absent": True}
                self._ended.append(Ended(stream, made))
        if isinstance(part.body, SealedPart):
            keys, made = write_keys(self._stage(part.body.name), part.body.name, part.body.keys, self._cover)
            self._ended.append(Ended(keys, {**made, "if_absent": True}))


class PieceParts(Parts):
    """Parts of formats that make a piece of each record."""

    def add(self, payload: Payload, taken: Taken) -> None:
        for key, some in taken.items():
            group = self._group(key)
            pieces, rows = [entry.body for entry, _ in some], [row for _, row in some]
            if group.part is not None or len(self._open) < self._max_open:
                self._write(group, pieces, rows)
            else:
                group.waiting += pieces
                group.waiting_rows += rows
                group.waiting_bytes += sum(map(len, pieces))
        while sum(g.waiting_bytes for g in self._groups.values()) > _WAITING_BYTES:
            self._write_waiting_of(max(self._groups.values(), key=lambda g: g.waiting_bytes))

    def _write_waiting(self) -> None:
        # Those that are open end first: there is room then, and none of them gets a further part.
        for group in list(self._open):
            self._close(group)
        for group in self._groups.values():
            if group.waiting:
                self._write_waiting_of(group)

    def _write_waiting_of(self, group: "Group") -> None:
        pieces, rows = group.waiting, group.waiting_rows
        group.waiting, group.waiting_rows, group.waiting_bytes = [], [], 0
        self._write(group, pieces, rows)

    def _some_of(self, batch: Any, start: int, end: int) -> Any:
        return batch[start:end]


@define(eq=False)
class _OpenPart:
    body: Part | TablePart | SealedPart
    objects: list[tuple[str, ObjectStream]]
    rows: list[Any] = field(factory=list)

    @property
    def size(self) -> int:
        return sum(stream.size for _, stream in self.objects)


@define(eq=False)
class Group:
    """What goes to one key: a part where one is open, and what waits.

    ``waiting`` are pieces, or places of records; ``spooled`` are places in a temporary file, with rows.
    """

    key: str
    part: _OpenPart | None = None
    waiting: list[Any] = field(factory=list)
    waiting_rows: list[list[Any]] = field(factory=list)
    waiting_bytes: int = 0
    spooled: list[tuple[int, list[list[Any]]]] = field(factory=list)
