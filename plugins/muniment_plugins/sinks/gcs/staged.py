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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from muniment import TransientError
from muniment.retry import retry
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked import ABSENT, ChangedError
from muniment_plugins.sinks._marked_storage import ChunkedStaged
from muniment_plugins.sinks.gcs import GRAIN
from muniment_plugins.sinks.gcs.upload import Checksum, Session

if TYPE_CHECKING:
    from muniment_plugins.sinks.gcs.storage import GCSStorage


class GCSStaged(ChunkedStaged):
    """An object that goes to a session, or waits in its token."""

    _kept_back = GRAIN + 1

    def __init__(self, storage: "GCSStorage", name: str) -> None:
        super().__init__(storage, name)
        self._storage = storage
        self._options = storage.options()
        self._checksum = Checksum()
        self._session: Session | None = None
        self._version = ABSENT

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
        super().write(data)

    def discard(self) -> None:
        super().discard()
        session, self._session = self._session, None
        if session is not None:
            session.cancel()

    def _last(self) -> int:
        # At least one byte is kept back: the one that completes the upload.
        return max(self._held - 1, 0) // GRAIN * GRAIN

    def _send_chunk(self, chunk: bytes, offset: int) -> Callable[[], None]:
        def send() -> None:
            if self._session is None:
                self._session = self._begin()
            self._session.send(chunk, offset)

        return send

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
