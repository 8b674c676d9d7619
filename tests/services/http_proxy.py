"""A proxy in front of an object store that answers some requests itself, with the store's own word for "later".

    with ThrottlingProxy(seaweedfs.host, seaweedfs.port, share=0.3) as proxy:
        client = boto3.client("s3", endpoint_url=proxy.endpoint, ...)

Requests pass as they are, `Host` included, so that signatures stay valid; what a `ChaosProxy` does, this does too.
"""

import asyncio
import json
import random
from collections.abc import Callable

from services.proxy import PIECE, ChaosProxy, Link

REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Slow Down"}
Request = tuple[str, str]


class ThrottlingProxy(ChaosProxy):
    """Answers `share` of the requests with `status`, drawn with `seed`, and lists what came by.

    `only` gets the method and the target (`"PUT"`, `"/bucket/key?uploadId=..."`) and tells whether that request may be
    refused; `times` limits how many are; `retry_after` is a header, in seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        share: float = 1.0,
        status: int = 503,
        seed: int = 0,
        times: int | None = None,
        only: Callable[[str, str], bool] = lambda method, target: True,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(host, port)
        self.share = share
        self.passed: list[Request] = []
        self.refused: list[Request] = []
        self._status = status
        self._random = random.Random(seed)
        self._times = times
        self._only = only
        self._retry_after = retry_after

    async def _send_up(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, down: asyncio.StreamWriter, link: Link
    ) -> None:
        while head := await read_head(reader):
            method, target = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[:2]
            refuses = self._refuses(method, target)
            (self.refused if refuses else self.passed).append((method, target))
            if refuses:
                # A client that waits for permission to send its body gets the answer instead, and keeps the body.
                waits = header(head, b"expect") == b"100-continue"
                down.write(self._answer(target, closes=waits))
                await down.drain()
                if waits:
                    down.write_eof()
                    return
                await self._body(head, reader, None, link)
            elif not await self._carry(head, up, link, "up") or not await self._body(head, reader, up, link):
                return
        if up.can_write_eof() and not up.is_closing():
            up.write_eof()

    def _refuses(self, method: str, target: str) -> bool:
        if self._times is not None and len(self.refused) >= self._times:
            return False
        return self._only(method, target) and self._random.random() < self.share

    async def _body(
        self, head: bytes, reader: asyncio.StreamReader, up: asyncio.StreamWriter | None, link: Link
    ) -> bool:
        """Carry a request's body, or swallow it where there is no `up`; tell whether the direction is still open."""
        if header(head, b"transfer-encoding") != b"chunked":
            return await self._bytes(int(header(head, b"content-length") or 0), reader, up, link)
        while True:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            if up and not await self._carry(line, up, link, "up"):
                return False
            if size == 0:
                return await self._trailers(reader, up, link)
            if not await self._bytes(size + 2, reader, up, link):
                return False

    async def _trailers(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter | None, link: Link) -> bool:
        while line := await reader.readline():
            if up and not await self._carry(line, up, link, "up"):
                return False
            if line == b"\r\n":
                return True
        return False

    async def _bytes(
        self, count: int, reader: asyncio.StreamReader, up: asyncio.StreamWriter | None, link: Link
    ) -> bool:
        while count:
            piece = await reader.read(min(count, PIECE))
            if not piece or (up and not await self._carry(piece, up, link, "up")):
                return False
            count -= len(piece)
        return True

    def _answer(self, target: str, *, closes: bool) -> bytes:
        if "/storage/v1/" in target or target.startswith(("/upload/", "/download/")):
            kind, body = "application/json", json.dumps({"error": {"code": self._status, "message": "slow down"}})
        else:
            kind = "application/xml"
            body = (
                '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'
            )
        lines = [
            f"HTTP/1.1 {self._status} {REASONS.get(self._status, 'Error')}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *([f"Retry-After: {self._retry_after}"] if self._retry_after is not None else []),
            *(["Connection: close"] if closes else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Return a request's line and headers up to the empty line; nothing at the end of the connection."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def header(head: bytes, name: bytes) -> bytes:
    """Return a header's value in lower case, or nothing."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return b""
