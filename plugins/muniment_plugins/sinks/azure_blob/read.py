"""How do the bytes of an object come, in bounded memory, all of one version, each range checked?"""

import io
import time
from collections.abc import Callable
from typing import Any

from muniment import FatalError
from muniment.retry import retry
from muniment_plugins.sinks._marked import ChangedError
from muniment_plugins.sinks.azure_blob.client import Api

_RANGE_BYTES = 4 * 2**20
"""What Azure gives a checksum of at most."""


class Download(io.RawIOBase):
    """A stream of ranges, each with its checksum.

    Raises:
        FileNotFoundError: there is no such object; already when it is made.
    """

    def __init__(self, api: Api, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api = api
        self._name = name
        self._sleep = sleep
        self._version = ""
        self._size = self._next = self._taken = 0
        self._range = b""
        self._fetch()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._taken == len(self._range) and self._next < self._size:
            self._fetch()
        data = self._range[self._taken : self._taken + len(buffer)]
        self._taken += len(data)
        buffer[: len(data)] = data
        return len(data)

    def _fetch(self) -> None:
        try:
            got = retry(lambda: self._api.read(self._name, self._next, _RANGE_BYTES, self._version), sleep=self._sleep)
        except ChangedError:
            raise FatalError(
                f"`{self._api.place}`: object `{self._name}` was replaced while it was read; run the same command again"
            ) from None
        if got is None:
            raise FileNotFoundError(self._name)
        self._range, self._size, self._version = got
        self._next += len(self._range)
        self._taken = 0
