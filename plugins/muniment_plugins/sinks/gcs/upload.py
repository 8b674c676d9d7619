"""How do the bytes of a large object get into a resumable session, and what if an answer is lost?

The protocol is that of the JSON API: a chunk is answered by 308 with the bytes that are kept so far, the
last one by 200 with the object.  Where an answer does not come, the session is asked what it holds, and
the upload goes on from there.
"""

import base64
import re
import time
from collections.abc import Callable
from typing import Any

from muniment import FatalError
from muniment.retry import retry
from muniment_plugins.sinks._marked import UnclearError
from muniment_plugins.sinks.gcs.client import Api
from muniment_plugins.sinks.gcs.objects import Found

_RANGE = re.compile(r"bytes=0-([0-9]+)")


class Session:
    """A resumable upload.  ``address`` is all that it takes to write to it: never show it."""

    def __init__(self, api: Api, name: str, address: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.address = address
        self._api = api
        self._name = name
        self._sleep = sleep

    def send(self, data: bytes, offset: int) -> None:
        """Make ``data``, which stands at ``offset``, durable in the session.

        Raises:
            TransientError: it was tried for a while; the same call may work later.
            FatalError: the session is gone, or does not hold any more what it held.
        """
        self._put(data, offset, total=None, crc32c="")

    def finish(self, data: bytes, offset: int, crc32c: str) -> Found:
        """Send the last bytes and let the object appear; ``crc32c`` is of the whole of it.

        Raises:
            ChangedError: what it would replace is not what it was when the session began.
            TransientError, FatalError: as `send`.
        """
        found = self._put(data, offset, total=offset + len(data), crc32c=crc32c)
        assert found is not None
        return found

    def cancel(self) -> None:
        self._api.cancel(self.address, self._name)

    def _put(self, data: bytes, offset: int, *, total: int | None, crc32c: str) -> Found | None:
        end = offset + len(data)
        kept, unclear = offset, False

        def ended(answer: Any) -> Found:
            if total is None:
                raise FatalError(
                    f"`{self._api.place}`: the store has ended the upload of `{self._name}` before its end; run the"
                    " same command again to resume"
                )
            return Found.of(answer.json())

        def attempt() -> Found | None:
            nonlocal kept, unclear
            try:
                if unclear:
                    answer = self._api.put(self.address, self._name, b"", {"Content-Range": "bytes */*"})
                    if answer.status_code != 308:
                        return ended(answer)
                    kept, unclear = self._kept(answer), False
                while total is not None or kept < end:
                    if not offset <= kept <= end:
                        raise FatalError(
                            f"`{self._api.place}`: the upload of `{self._name}` has lost what it held; run the same"
                            " command again to resume"
                        )
                    # An empty body ends an upload that holds all of its bytes.
                    span = f"{kept}-{end - 1}" if kept < end else "*"
                    headers = {"Content-Range": f"bytes {span}/{'*' if total is None else total}"}
                    if total is not None and crc32c:
                        headers["X-Goog-Hash"] = f"crc32c={crc32c}"
                    answer = self._api.put(self.address, self._name, data[kept - offset :], headers)
                    if answer.status_code != 308:
                        return ended(answer)
                    kept = self._kept(answer)
                return None
            except UnclearError:
                unclear = True
                raise

        return retry(attempt, sleep=self._sleep)

    def _kept(self, answer: Any) -> int:
        found = _RANGE.fullmatch(answer.headers.get("Range", ""))
        return int(found[1]) + 1 if found else 0


class Checksum:
    """The CRC32C of bytes that come piece by piece, in Base64."""

    def __init__(self) -> None:
        import google_crc32c

        self._sum = google_crc32c.Checksum()  # type: ignore[no-untyped-call]

    def update(self, data: bytes) -> None:
        self._sum.update(data)  # type: ignore[no-untyped-call]

    def text(self) -> str:
        return base64.b64encode(self._sum.digest()).decode("ascii")  # type: ignore[no-untyped-call]


def crc32c_of(data: bytes) -> str:
    """Return the CRC32C of ``data``, in Base64."""
    checksum = Checksum()
    checksum.update(data)
    return checksum.text()
