"""What a test gets to know of a server that runs."""

from pathlib import Path
from typing import Any

from attrs import Factory, frozen


class MissingServerError(Exception):
    """A server is not on this machine; the words say what is, and how to get it."""


class BrokenServerError(Exception):
    """A server is on this machine, but does not start; the words end with its log."""


@frozen(kw_only=True)
class Server:
    """A server on the loopback; `extra` has `endpoint` (HTTP) or `url` (for SQLAlchemy or the driver), and more."""

    name: str
    host: str = "127.0.0.1"
    port: int
    user: str = ""
    password: str = ""
    root: Path
    pid: int
    extra: dict[str, Any] = Factory(dict)

    @property
    def address(self) -> str:
        """Host and port, joined by a colon."""
        return f"{self.host}:{self.port}"
