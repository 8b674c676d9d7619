"""How do the bytes of an object come back, whole and checked, although connections break?"""

import io
from typing import Any, BinaryIO, cast

from muniment.errors import FatalError, TransientError
from muniment_plugins.sinks.s3.checksums import Check
from muniment_plugins.sinks.s3.client import Bucket, RefusedError
from muniment_plugins.sinks.s3.errors import explain

_BUFFER_BYTES = 256 * 2**10


def open_object(bucket: Bucket, key: str, name: str) -> BinaryIO:
    """Return a stream that ends in an error if what came is not what was stored.

    Raises:
        FileNotFoundError: there is no such object.
    """
    return cast(BinaryIO, io.BufferedReader(_Reading(bucket, key, name), _BUFFER_BYTES))


class _Reading(io.RawIOBase):
    def __init__(self, bucket: Bucket, key: str, name: str) -> None:
        super().__init__()
        self._bucket = bucket
        self._key = key
        self._name = name
        self._position = 0
        self._failures = 0
        self._checked = False
        self._body: Any = None
        answer = self._get()
        self._etag = answer.get("ETag")
        self._length: int = answer["ContentLength"]
        self._check = Check(answer)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data and self._position < self._length:
            data = self._read(min(len(buffer), self._length - self._position))
        if not data and not self._checked:
            self._checked = True
            if not self._check.matches():
                raise FatalError(
                    f"{self._bucket.place}: `{self._name}` is damaged: its checksum is not the one it was stored with;"
                    " restore it from a copy"
                )
        self._check.update(data)
        self._position += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
        super().close()

    def _read(self, size: int) -> bytes:
        """Return some bytes, or nothing where the connection broke and the next call goes on."""
        try:
            if self._body is None:
                self._resume()
            data: bytes = self._body.read(size)
            if not data:
                raise ConnectionError("the answer ended too soon")
        except (FatalError, TransientError):
            raise
        except Exception as error:
            found = explain(error, self._bucket.place, "get_object")
            self._failures += 1
            if not isinstance(found, TransientError) or self._failures >= self._bucket.max_attempts:
                raise found from error
            self._body = None
            self._bucket.pause(self._failures)
            return b""
        self._failures = 0
        return data

    def _resume(self) -> None:
        answer = self._get(Range=f"bytes={self._position}-")
        if answer.get("ETag") != self._etag or answer["ContentLength"] != self._length - self._position:
            raise FatalError(f"{self._bucket.place}: `{self._name}` was replaced while it was read; try again")

    def _get(self, **parameters: Any) -> Any:
        try:
            answer = self._bucket.call(
                "get_object", allow=("404", "NoSuchKey"), Key=self._key, **self._bucket.customer, **parameters
            )
        except RefusedError:
            raise FileNotFoundError(self._name) from None
        self._body = answer["Body"]
        return answer
