"""A storage in memory and a sink on it, with faults on demand."""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from attrs import define, field, frozen

from muniment.components import Context, Format
from muniment.options import option
from muniment.sinks.objects import ObjectSink
from muniment.storage import Capabilities, Staged, Storage, Stored, check_name


def _no_fault(step: str, name: str) -> None:
    return None


@define(eq=False, repr=False)
class MemoryPlace:
    """What outlives a session.

    ``before`` is called with the name of a step (``stage``, ``write``, ``publish``, ``sync``,
    ``delete``) and of the object; what it raises is a fault.
    """

    objects: dict[str, bytes] = field(factory=dict)
    staged: dict[str, bytes] = field(factory=dict)
    before: Callable[[str, str], None] = _no_fault
    _number: int = 0

    def __attrs_post_init__(self) -> None:
        _places[id(self)] = self

    def __reduce__(self) -> tuple[Any, ...]:
        # A place is where it is: its pickled copy is the place itself, and exists in no other process.
        return _place_of, (id(self),)

    def next_token(self) -> str:
        self._number += 1
        return f"staged-{self._number}"


_places: "WeakValueDictionary[int, MemoryPlace]" = WeakValueDictionary()


def _place_of(number: int) -> MemoryPlace:
    return _places[number]


class MemoryStorage(Storage):
    """Objects in the dictionaries of a place."""

    def __init__(self, place: MemoryPlace, capabilities: Capabilities = Capabilities()) -> None:  # noqa: B008
        self.place = place
        self.capabilities = capabilities

    def stage(self, name: str) -> Staged:
        check_name(name)
        self.place.before("stage", name)
        return _MemoryStaged(self.place, name)

    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        self.place.before("publish", check_name(name))
        if if_absent and name in self.place.objects:
            raise FileExistsError(name)
        self.place.objects[name] = self.place.staged.pop(token)

    def sync(self) -> None:
        self.place.before("sync", "")

    def open(self, name: str) -> BinaryIO:
        place = self.place
        data = place.objects[name] if name in place.objects else place.staged.get(name)
        if data is None:
            raise FileNotFoundError(name)
        return io.BytesIO(data)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        return (Stored(n, len(d)) for n, d in list(self.place.objects.items()) if n.startswith(prefix))

    def staged(self) -> Iterator[Stored]:
        return (Stored(n, len(d)) for n, d in list(self.place.staged.items()))

    def keeps_replaced(self) -> str:
        return ""

    def delete(self, name: str) -> None:
        self.place.before("delete", name)
        self.place.objects.pop(name, None)
        self.place.staged.pop(name, None)

    def exists(self, name: str) -> bool:
        return name in self.place.objects


class _MemoryStaged(Staged):
    def __init__(self, place: MemoryPlace, name: str) -> None:
        self.token = place.next_token()
        self._place = place
        self._name = name
        self._data = bytearray()
        place.staged[self.token] = b""

    def write(self, data: bytes) -> None:
        self._place.before("write", self._name)
        self._data += data

    def close(self) -> None:
        if self.token in self._place.staged:
            self._place.staged[self.token] = bytes(self._data)

    def discard(self) -> None:
        self._place.before("delete", self.token)
        self._place.staged.pop(self.token, None)


@frozen(kw_only=True)
class MemoryObjects(ObjectSink):
    """A bucket.  ``state`` is the folder of its local state; ``formats`` stand for the registered ones."""

    place: MemoryPlace = option("The place.", identity=False)
    state: Path = option("The folder of the state.", is_path=True)
    formats: Mapping[str, type[Format]] = option("Formats, by name.", factory=dict, identity=False)

    def storage(self) -> Storage:
        return MemoryStorage(self.place)

    def state_path(self, ctx: Context) -> Path:
        return self.state / "state.db"

    def snapshot_name(self) -> str:
        return f"snapshot{self.make_format().suffix}{self.layout.ending}"

    def format_class(self, name: str) -> type[Format]:
        return self.formats[name] if name in self.formats else super().format_class(name)
