"""How do the bytes of an object come, in bounded memory, all of one version, and checked at the end?"""

import io
import time
from collections.abc import Callable
from typing import Any

from muniment import FatalError
from muniment.retry import retry
from muniment_plugins.sinks.gcs.client import Api
from muniment_plugins.sinks.gcs.errors import explain
from muniment_plugins.sinks.gcs.upload import Checksum


class Download(io.RawIOBase):
    """A stream that goes on where a broken connection left it.

    Raises:
        FileNotFoundError: there is no such object; already when it is made.
        FatalError: the bytes are not those of the object's checksum; at the end.
    """

    def __init__(self, api: Api, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api = api
        self._name = name
        self._sleep = sleep
        self._position = 0
        self._version: str | None = None
        self._expected = ""
        self._checksum = Checksum()
        self._done = False
        self._response: Any = None
        retry(self._connect, sleep=sleep)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = b"" if self._done else retry(lambda: self._read(len(buffer)), sleep=self._sleep)
        if not data:
            self._end()
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        super().close()

    def _connect(self) -> None:
        response = self._api.read(self._name, start=self._position, version=self._version or "")
        if response is None:
            raise FileNotFoundError(self._name)
        if self._position and response.status_code != 206:
            # The whole object comes again: what was read already is passed over.
            response.raw.read(self._position, decode_content=False)
        if self._version is None:
            self._version = response.headers.get("X-Goog-Generation", "")
            hashes = response.headers.get("X-Goog-Hash", "").split(",")
            self._expected = next((h.strip()[7:] for h in hashes if h.strip().startswith("crc32c=")), "")
        self._response = response

    def _read(self, size: int) -> bytes:
        if self._response is None:
            self._connect()
        try:
            data: bytes = self._response.raw.read(size, decode_content=False)
        except Exception as error:
            self._response.close()
            self._response = None
            translated = explain(error, self._api.place, self._name)
            if translated is error:
                raise
            raise translated from error
        self._position += len(data)
        self._checksum.update(data)
        return data

    def _end(self) -> None:
        if not self._done and self._expected and self._expected != self._checksum.text():
            raise FatalError(
                f"`{self._api.place}`: object `{self._name}` is damaged: its bytes do not have its checksum"
            )
        self._done = True
