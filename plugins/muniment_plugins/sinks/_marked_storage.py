"""What is common to stores whose objects grow in chunks that nobody sees, and are published by one marked request?"""

import io
import json
import secrets
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, TypeVar
from weakref import WeakValueDictionary

from muniment import TransientError
from muniment.retry import retry
from muniment.storage import Capabilities, Staged, Storage, Stored, check_name
from muniment_plugins.sinks._background import Background
from muniment_plugins.sinks._marked import ChangedError, Marked

T = TypeVar("T")

_READ_BUFFER = 2**20
_MAX_OPEN_BYTES = 32 * 2**20
"""What may fill up in objects that are staged at once, beside what is on its way."""


class Api(Protocol):
    """What both stores can be asked in the same way."""

    place: str

    def find(self, name: str) -> Marked | None: ...

    def delete(self, name: str, version: str) -> None:
        """Delete a version of an object.

        Raises:
            ChangedError: another stands there.
        """

    def close(self) -> None: ...


class MarkedStorage(Storage):
    """Objects whose names begin with ``prefix``; requests go on beside the caller until `sync`."""

    def __init__(
        self,
        api: Api,
        prefix: str,
        *,
        part_bytes: int,
        concurrency: int,
        replaces: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.part_bytes = part_bytes
        self.sleep = sleep
        self.background = Background(concurrency, concurrency)
        max_open = max(2, _MAX_OPEN_BYTES // part_bytes)
        self.capabilities = Capabilities(True, replaces, reads_staged=False, max_open=max_open)
        self._api = api
        self._prefix = prefix
        self._at_close: list[Callable[[], object]] = []
        self._staged: WeakValueDictionary[str, ChunkedStaged] = WeakValueDictionary()

    # --- what a subclass says ---------------------------------------------------------------

    @abstractmethod
    def _new(self, name: str) -> "ChunkedStaged":
        """Return an object that can be written to."""

    @abstractmethod
    def _write(self, token: dict[str, Any], name: str, *, if_absent: bool) -> None:
        """Let a staged object appear.

        Raises:
            FileExistsError: ``if_absent``, and the name is another's.
        """

    @abstractmethod
    def _drop(self, token: dict[str, Any]) -> None:
        """Do away with what a staged object has sent."""

    @abstractmethod
    def _download(self, name: str) -> io.RawIOBase:
        """Return the bytes of an object, by its full name."""

    # --- what it makes of that --------------------------------------------------------------

    def stage(self, name: str) -> Staged:
        staged = self._new(check_name(name))
        self._staged[staged.mark] = staged
        return staged

    def sync(self) -> None:
        self.background.settle()

    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        found = json.loads(token)
        if found["name"] != check_name(name):
            raise ValueError(f"`{found['name']}` cannot be published as `{name}`")
        self._staged.pop(found["mark"], None)
        self.background.settle(name)
        if if_absent:
            self._write(found, name, if_absent=True)
        else:
            self.background.submit(name, lambda: self._write(found, name, if_absent=False))

    def open(self, name: str) -> BinaryIO:
        self.background.settle(name)
        return io.BufferedReader(self._download(self.full_name(check_name(name))), _READ_BUFFER)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        self.background.settle()
        return self._listing(prefix)

    def keeps_deleted(self) -> str:
        return "" if self.capabilities.replaces else "object lock, or a right to delete that is missing"

    def keeps_replaced(self) -> str:
        return "versions and soft delete of this store may keep what was replaced"

    def exists(self, name: str) -> bool:
        self.background.settle(name)
        return self._call(lambda: self._api.find(self.full_name(check_name(name)))) is not None

    def delete(self, name: str) -> None:
        if name.startswith("{"):
            token = json.loads(name)
            self._staged.pop(token.get("mark", ""), None)
            self._drop(token)
            return
        there = self.full_name(check_name(name))
        self.background.settle(name)

        def delete() -> None:
            found = self._api.find(there)
            if found is not None:
                try:
                    self._api.delete(there, found.version)
                except ChangedError:
                    raise TransientError(f"`{self._api.place}`: object `{name}` is being written by another") from None

        self._call(delete)

    def close(self) -> None:
        try:
            self.background.close()
        finally:
            self._api.close()
            for call in self._at_close:
                call()

    def at_close(self, call: Callable[[], object]) -> None:
        """Have a call made when this session is closed."""
        self._at_close.append(call)

    def full_name(self, name: str) -> str:
        """Return the name of an object in its store."""
        return self._prefix + name

    def forget(self, staged: "ChunkedStaged") -> None:
        """Hear that an object is not wanted any more; none of its chunks is on its way."""
        self._staged.pop(staged.mark, None)

    @abstractmethod
    def _listing(self, prefix: str) -> Iterator[Stored]:
        """Yield the published objects below ``prefix``."""

    def _call(self, call: Callable[[], T]) -> T:
        return retry(call, sleep=self.sleep)


class ChunkedStaged(Staged):
    """An object that grows.  One chunk is on its way while the next one fills."""

    def __init__(self, storage: MarkedStorage, name: str) -> None:
        self.mark = secrets.token_hex(8)
        self._owner = storage
        self._name = name
        self._pieces: list[bytes] = []
        self._held = 0
        self._sent = 0
        self._ended = False

    @property
    def size(self) -> int:
        """Bytes that were written so far."""
        return self._sent + self._held

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        while self._held >= self._owner.part_bytes + self._kept_back:
            self._send(self._owner.part_bytes)

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        if size := self._last():
            self._send(size)

    def discard(self) -> None:
        self._ended = True
        self._pieces, self._held = [], 0
        # Whatever becomes of what is on its way does not matter any more.
        self._owner.background.forget(self.mark)
        self._owner.forget(self)

    _kept_back = 0
    """Bytes beyond a chunk that are there before it is sent."""

    @abstractmethod
    def _last(self) -> int:
        """Return how many of the bytes that are left are to be sent when the object ends."""

    @abstractmethod
    def _send_chunk(self, chunk: bytes, offset: int) -> Callable[[], None]:
        """Return what makes the bytes at ``offset`` durable."""

    def _send(self, size: int) -> None:
        """Begin to send the next ``size`` bytes, when those before them are durable."""
        self._owner.background.settle(self.mark)
        held = b"".join(self._pieces)
        chunk, rest = held[:size], held[size:]
        self._pieces, self._held = [rest], len(rest)
        offset, self._sent = self._sent, self._sent + size
        self._owner.background.submit(self.mark, self._send_chunk(chunk, offset), large=True)
