"""A proxy that does to connections what networks do: delay, cut, close half of, swallow, throttle.

    with ChaosProxy(server.host, server.port) as proxy:
        client = connect(proxy.host, proxy.port)
        proxy.faults = Faults(cut_after=70_000)

Faults may change while connections are open: they hold for the next piece that passes.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal, Self

from attrs import field, frozen
from attrs.validators import in_

PIECE = 64 * 1024
Direction = Literal["up", "down", "both"]


@frozen(kw_only=True)
class Faults:
    """What goes wrong. Byte counts are those of one connection, from its start, in the named direction."""

    # "up" is from the client to the server, "down" back.
    direction: Direction = field(default="both", validator=in_(("up", "down", "both")))
    # Seconds that every piece waits.
    latency: float = 0
    # Bytes that pass before both sides get a RST; no piece passes further than that.
    cut_after: int | None = None
    # Bytes that pass before this direction ends as if its sender had closed it, while the other goes on.
    half_close_after: int | None = None
    # Nothing passes, nothing ends: what was sent meanwhile passes when this is over.
    blackhole: bool = False
    # Bytes per second, a few at a time.
    drip: float | None = None
    # New connections get a RST at once.
    refuse: bool = False

    def hit(self, direction: Direction) -> bool:
        """Tell whether they hold in this direction."""
        return self.direction in ("both", direction)


class ChaosProxy:
    """A TCP proxy on the loopback, in a thread of its own; a context manager."""

    host = "127.0.0.1"

    def __init__(self, host: str, port: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.port = 0
        # Connections that clients have made so far, and those that the faults have cut.
        self.connections = 0
        self.cuts = 0
        self._upstream = (host, port)
        self._open: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos proxy", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Host and port, joined by a colon."""
        return f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The URL, for a server that speaks HTTP."""
        return f"http://{self.address}"

    def reset(self) -> None:
        """Send a RST to both ends of every open connection."""
        self._do(self._reset())

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _reset(self) -> None:
        for link in list(self._open):
            link.cut()

    async def _close(self) -> None:
        assert self._server
        self._server.close()
        await self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        link = Link([writer])
        self._open.add(link)
        try:
            await self._serve(reader, writer, link)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            link.cut()
        finally:
            self._open.discard(link)
            self._tasks.discard(task)
            link.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: "Link") -> None:
        if self.faults.refuse:
            self.cuts += 1
            link.cut()
            return
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        link.writers.append(up_writer)
        await asyncio.gather(
            self._send_up(reader, up_writer, writer, link), self._pass(up_reader, writer, link, "down")
        )

    async def _send_up(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, down: asyncio.StreamWriter, link: "Link"
    ) -> None:
        """Carry what the client sends; `down` is where a proxy could answer itself."""
        await self._pass(reader, up, link, "up")

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: "Link", direction: Direction
    ) -> None:
        while piece := await reader.read(PIECE):
            if not await self._carry(piece, writer, link, direction):
                while await reader.read(PIECE):  # the sender is not to notice that nobody listens
                    pass
                return
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    async def _carry(self, piece: bytes, writer: asyncio.StreamWriter, link: "Link", direction: Direction) -> bool:
        """Write a piece under the faults of now; tell whether the direction is still open."""
        while self.faults.blackhole and self.faults.hit(direction):
            await asyncio.sleep(0.01)
        faults = self.faults if self.faults.hit(direction) else Faults()
        if faults.latency:
            await asyncio.sleep(faults.latency)
        passed = link.passed[direction]
        limits = [each for each in (faults.cut_after, faults.half_close_after) if each is not None]
        room = max(0, min(limits) - passed) if limits else len(piece)
        part = piece[:room]
        link.passed[direction] += len(part)
        await self._write(part, writer, faults.drip)
        if len(part) == len(piece):
            return True
        if faults.cut_after is not None and link.passed[direction] >= faults.cut_after:
            self.cuts += 1
            link.cut()
        elif writer.can_write_eof():
            writer.write_eof()
        return False

    async def _write(self, piece: bytes, writer: asyncio.StreamWriter, drip: float | None) -> None:
        step = max(1, int(drip * 0.02)) if drip else PIECE
        for start in range(0, len(piece), step):
            writer.write(piece[start : start + step])
            await writer.drain()
            if drip:
                await asyncio.sleep(step / drip)


class Link:
    """A client's connection and the one to the server behind it."""

    def __init__(self, writers: list[asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.passed: dict[str, int] = {"up": 0, "down": 0}

    def cut(self) -> None:
        """Send a RST both ways."""
        for writer in self.writers:
            if (raw := writer.get_extra_info("socket")) and raw.fileno() != -1:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close(self) -> None:
        """Close both, in peace."""
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.close()
