"""How does an object wait in Azure Blob Storage until it is published?

A small one waits in its token and is uploaded when it is published.  A large one is sent as blocks to its
final name.  Blocks are durable, in no listing of objects, and no part of what stands at the name; publishing
is the one request that makes an object of them.  So there is no second object to copy and to delete, which
an immutability policy would forbid.  Azure cannot be told to drop blocks: it does so itself after a week.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from muniment.retry import retry
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked_storage import ChunkedStaged

if TYPE_CHECKING:
    from muniment_plugins.sinks.azure_blob.storage import AzureStorage


class AzureStaged(ChunkedStaged):
    """An object that becomes blocks, or waits in its token."""

    def __init__(self, storage: "AzureStorage", name: str) -> None:
        super().__init__(storage, name)
        self._storage = storage
        self._scope = storage.options().encryption_scope
        self._blocks = 0

    @property
    def token(self) -> str:  # type: ignore[override]
        """What publishes the object: JSON, final after `Storage.sync`."""
        token: dict[str, Any] = {"name": self._name, "mark": self.mark}
        if self._blocks:
            return json.dumps({**token, "blocks": self._blocks})
        return json.dumps({**token, "data": _inline.to_text(self._pieces)})

    def _last(self) -> int:
        return self._held if self._blocks or self._held > _inline.MAX_BYTES else 0

    def _send_chunk(self, chunk: bytes, offset: int) -> Callable[[], None]:
        storage, name, block = self._storage, self._storage.full_name(self._name), block_id(self.mark, self._blocks)
        self._blocks += 1

        def send() -> None:
            retry(lambda: storage.api.put_block(name, block, chunk, self._scope), sleep=storage.sleep)

        return send


def block_id(mark: str, number: int) -> str:
    """Return the name of a block; all those of one blob must be of one length."""
    return f"{mark}-{number:05}"
