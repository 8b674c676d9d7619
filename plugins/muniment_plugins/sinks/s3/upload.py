"""How does an object reach a bucket before anybody sees it?

Small objects wait in their token and become one PutObject at `Storage.publish`: one request instead of the
three of a multipart upload, and nothing to clean up after a kill.  Their number is bounded by bytes
between two syncs; beyond that, and for what is larger, an object is a multipart upload at its final key,
whose parts are sent while it is written.
"""

import json
import secrets
import threading
from typing import TYPE_CHECKING, Any

from attrs import frozen

from muniment.errors import FatalError
from muniment.storage import Staged
from muniment_plugins.sinks._inline import from_text, to_text
from muniment_plugins.sinks.s3.checksums import PART_BYTES, encoded, verify

if TYPE_CHECKING:
    from muniment_plugins.sinks.s3.storage import S3Storage

HELD_BYTES = 2**20
"""The largest object that waits in its token."""
MAX_PARTS = 10_000
STAGED = "muniment-staged"
"""The metadata that says which staged object this was: how a lost answer is told from another run's object."""

_MARK = '{"key":'


@frozen
class Token:
    """A staged object as text.  It holds either ``data`` or ``upload`` with its parts.

    ``parts`` are (ETag, checksum), in their order; ``full`` is the checksum of the whole, where it has one.
    ``checked``: the store knows the checksums, and wants to hear them again at the end.
    """

    key: str
    id: str
    data: bytes | None = None
    upload: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    full: str = ""
    checked: bool = True

    @classmethod
    def parse(cls, text: str) -> "Token":
        value = json.loads(text)
        data = value.get("data")
        return cls(
            value["key"],
            value.get("id", ""),
            None if data is None else from_text(data),
            value.get("upload", ""),
            tuple((e, c) for e, c in value.get("parts", ())),
            value.get("full", ""),
            value.get("checked", True),
        )

    def text(self) -> str:
        if self.data is None:
            rest: dict[str, Any] = {
                "upload": self.upload,
                "parts": self.parts,
                "full": self.full,
                "checked": self.checked,
            }
        else:
            rest = {"data": to_text([self.data])}
        return json.dumps({"key": self.key, "id": self.id, **rest}, separators=(",", ":"))


def is_token(text: str) -> bool:
    return text.startswith(_MARK)


class S3Staged(Staged):
    """An object on its way.  It is written by one thread; parts are sent by others."""

    def __init__(self, storage: "S3Storage", name: str) -> None:
        self._storage = storage
        self._name = name
        self._id = secrets.token_hex(8)
        self._pending: list[bytes] = []
        self._pending_bytes = self._size = self._number = 0
        self._full = None if storage.checksum.composite else storage.checksum.new()
        self._data: bytes | None = None
        self._upload = ""
        self._creating = threading.Lock()
        self._parts: dict[int, tuple[str, str]] = {}
        self._checked = True
        self._closed = self._discarded = False

    @property
    def token(self) -> str:  # type: ignore[override]
        parts = tuple(self._parts[n] for n in sorted(self._parts))
        full = encoded(self._full) if self._full else ""
        return Token(self._name, self._id, self._data, self._upload, parts, full, self._checked).text()

    def write(self, data: bytes) -> None:
        self._storage.background.check()
        self._size += len(data)
        if self._full:
            self._full.update(data)
        if self._storage.is_put_whole(self._name):
            self._pending.append(data)
            return
        view = memoryview(data)
        while self._pending_bytes + len(view) >= self._storage.part_bytes:
            room = self._storage.part_bytes - self._pending_bytes
            self._pending.append(bytes(view[:room]))
            view = view[room:]
            self._send()
        if view:
            self._pending.append(data if len(view) == len(data) else bytes(view))
            self._pending_bytes += len(view)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        whole = self._storage.is_put_whole(self._name)
        if not self._number and (whole or self._storage.holds(self._size)):
            self._data = b"".join(self._pending)
        elif self._pending or not self._number:
            self._send()
        self._pending = []

    def discard(self) -> None:
        if self._discarded:
            return
        self._closed = self._discarded = True
        self._pending, self._data = [], None
        if self._number:
            self._storage.background.forget(self._id)
            with self._creating:
                upload = self._upload
            if upload:
                self._storage.abort(self._name, upload)

    def _send(self) -> None:
        """Hand the pending bytes over as the next part."""
        self._number += 1
        number, data = self._number, b"".join(self._pending)
        if number > MAX_PARTS:
            raise FatalError(
                f"{self._storage.bucket.place}: an object has more than {MAX_PARTS} parts; raise `part_bytes`"
            )
        self._pending, self._pending_bytes = [], 0
        self._storage.background.submit(self._id, lambda: self._send_part(number, data), large=len(data) > HELD_BYTES)

    def _send_part(self, number: int, data: bytes) -> None:
        storage, kind = self._storage, self._storage.checksum
        with self._creating:
            if self._discarded:
                return
            if not self._upload:
                self._upload = self._create()
        checksum = kind.of(data)
        answer = storage.bucket.call(
            "upload_part",
            Key=storage.key(self._name),
            UploadId=self._upload,
            PartNumber=number,
            Body=data,
            **kind.given(checksum),
            **storage.bucket.customer,
        )
        verify(storage.bucket.place, self._name, answer, kind.field, checksum)
        self._checked = self._checked and bool(answer.get(kind.field))
        self._parts[number] = (answer["ETag"], checksum)

    def _create(self) -> str:
        storage, kind = self._storage, self._storage.checksum
        answer = storage.bucket.call(
            "create_multipart_upload",
            Key=storage.key(self._name),
            **kind.begin,
            Metadata={STAGED: self._id, PART_BYTES: str(storage.part_bytes)},
            **storage.settings.of(self._name),
            **storage.bucket.customer,
        )
        upload: str = answer["UploadId"]
        return upload
