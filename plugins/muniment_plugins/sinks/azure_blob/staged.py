"""How does an object wait in Azure Blob Storage until it is published?

A small one waits in its token and is uploaded when it is published.  A large one is sent as blocks to its
final name.  Blocks are durable, in no listing of objects, and no part of what stands at the name; publishing
is the one request that makes an object of them.  So there is no second object to copy and to delete, which
an immutability policy would forbid.  Azure cannot be told to drop blocks: it does so itself after a week.
"""

import json
import secrets
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from muniment import TransientError
from muniment.retry import retry
from muniment.storage import Staged
from muniment_plugins.sinks import _inline

if TYPE_CHECKING:
    from muniment_plugins.sinks.azure_blob.storage import AzureStorage


class AzureStaged(Staged):
    """An object that grows.  One block is on its way while the next one fills."""

    def __init__(self, storage: "AzureStorage", name: str) -> None:
        self.mark = secrets.token_hex(8)
        self._storage = storage
        self._name = name
        self._scope = storage.options().encryption_scope
        self._pieces: list[bytes] = []
        self._held = 0
        self._sent = 0
        self._blocks = 0
        self._call: Any = None
        self._running: Future[object] | None = None
        self._ended = False

    @property
    def size(self) -> int:
        """Bytes that were written so far."""
        return self._sent + self._held

    @property
    def token(self) -> str:  # type: ignore[override]
        """What publishes the object: JSON, final after `Storage.sync`."""
        token: dict[str, Any] = {"name": self._name, "mark": self.mark}
        if self._blocks:
            return json.dumps({**token, "blocks": self._blocks})
        return json.dumps({**token, "data": _inline.to_text(self._pieces)})

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        while self._held >= self._storage.part_bytes:
            self._send(self._storage.part_bytes)

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._held and (self._blocks or self._held > _inline.MAX_BYTES):
            self._send(self._held)
        self._storage.settling(self)

    def settle(self) -> None:
        """Return when what was sent is durable.

        Raises:
            TransientError: it is not yet; the next call tries again.
        """
        if self._running is None:
            return
        try:
            self._running.result()
        except TransientError:
            self._running = self._storage.begin(self._call)
            raise
        self._running = None

    def discard(self) -> None:
        self._ended = True
        self._pieces, self._held = [], 0
        if self._running is not None:
            # Whatever became of it does not matter any more.
            self._running.exception()
            self._running = None
        self._storage.forget(self)

    def _send(self, size: int) -> None:
        """Begin to send the next ``size`` bytes, when those before them are durable."""
        if self._running is not None:
            self._running.result()
        held = b"".join(self._pieces)
        chunk, rest = held[:size], held[size:]
        self._pieces, self._held = [rest], len(rest)
        storage, name, block = self._storage, self._storage.full_name(self._name), block_id(self.mark, self._blocks)
        self._sent += size
        self._blocks += 1

        def send() -> None:
            retry(lambda: storage.api.put_block(name, block, chunk, self._scope), sleep=storage.sleep)

        self._call = send
        self._running = storage.begin(send)


def block_id(mark: str, number: int) -> str:
    """Return the name of a block; all those of one blob must be of one length."""
    return f"{mark}-{number:05}"
