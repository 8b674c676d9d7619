"""How does an object wait in Google Cloud Storage until it is published?

A small one waits in its token and is uploaded when it is published.  A large one is sent to a resumable
session at its final name as it grows.  The session keeps what it has acknowledged for a week, and nobody
sees it; only the last 256 KiB, at most, stay in the token: they are what completes the object.  So there
is no second object to copy from and to delete afterwards, which a retention policy would forbid, a soft
delete policy would keep, and a cold storage class would charge for.

The session is begun on the condition that its name still stands for what it stood for then.  So of two
runs that publish one name, one wins, and the other is told.
"""

import base64
import json
import secrets
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from muniment import TransientError
from muniment.retry import retry
from muniment.storage import Staged
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked import ABSENT, ChangedError
from muniment_plugins.sinks.gcs import GRAIN
from muniment_plugins.sinks.gcs.upload import Checksum, Session

if TYPE_CHECKING:
    from muniment_plugins.sinks.gcs.storage import GCSStorage


class GCSStaged(Staged):
    """An object that grows.  One chunk is on its way while the next one fills."""

    def __init__(self, storage: "GCSStorage", name: str) -> None:
        self._storage = storage
        self._name = name
        self.mark = secrets.token_hex(8)
        self._options = storage.options()
        self._pieces: list[bytes] = []
        self._held = 0
        self._sent = 0
        self._checksum = Checksum()
        self._session: Session | None = None
        self._version = ABSENT
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
        token: dict[str, Any] = {"name": self._name, "mark": self.mark, "size": self.size}
        if self._session is None:
            token["data"] = _inline.to_text(self._pieces)
        else:
            token |= {"session": self._session.address, "version": self._version, "offset": self._sent}
            token["data"] = base64.b64encode(b"".join(self._pieces)).decode("ascii")
        return json.dumps({**token, "crc32c": self._checksum.text()})

    def write(self, data: bytes) -> None:
        self._checksum.update(data)
        self._pieces.append(data)
        self._held += len(data)
        size = self._storage.part_bytes
        while self._held > size + GRAIN:
            self._send(size)

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        # At least one byte is kept back: the one that completes the upload.
        whole = max(self._held - 1, 0) // GRAIN * GRAIN
        if whole:
            self._send(whole)
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
        session, self._session = self._session, None
        if session is not None:
            session.cancel()
        self._storage.forget(self)

    def _send(self, size: int) -> None:
        """Begin to send the next ``size`` bytes, when those before them are durable."""
        if self._running is not None:
            self._running.result()
        held = b"".join(self._pieces)
        chunk, rest = held[:size], held[size:]
        self._pieces, self._held = [rest], len(rest)
        offset, self._sent = self._sent, self._sent + size

        def send() -> None:
            if self._session is None:
                self._session = self._begin()
            self._session.send(chunk, offset)

        self._call = send
        self._running = self._storage.begin(send)

    def _begin(self) -> Session:
        storage = self._storage

        def attempt() -> str:
            found = storage.api.find(self._name_there)
            self._version = found.version if found else ABSENT
            try:
                return storage.api.start(self._name_there, self._options, self.mark, self._version)
            except ChangedError:
                raise TransientError(
                    f"`{storage.api.place}`: object `{self._name}` is being written by another"
                ) from None

        address = retry(attempt, sleep=storage.sleep)
        return Session(storage.api, self._name_there, address, storage.sleep)

    @property
    def _name_there(self) -> str:
        return self._storage.full_name(self._name)
