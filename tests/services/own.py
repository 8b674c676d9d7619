"""Servers that a test may break: end, kill, pause and start again."""

import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

from attrs import define

from services.document_servers import SET, find_primary, form, is_whole
from services.keeper import runs, send, state, tree
from services.recipes import Place, Recipe
from services.server import BrokenServerError, Server

PRIMARY_SECONDS = 20


@define
class OwnServer:
    """A server that a test may break; what a `Server` tells, it tells as well, as of the last start."""

    _recipe: Recipe
    _place: Place
    server: Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.server, name)

    def stop(self) -> None:
        """End it the quick way that leaves nothing behind; return when it is gone."""
        self._place.end(kill=False)

    def kill(self) -> None:
        """SIGKILL it and its children; return when they are gone."""
        self._place.end(kill=True)

    def pause(self) -> None:
        """SIGSTOP it and its children; return when they stand still."""
        pids = self._pids()
        send(pids, signal.SIGSTOP)
        while any(state(pid) not in ("T", "t", "Z", "", "?") for pid in pids):
            time.sleep(0.001)

    def resume(self) -> None:
        """Let them go on."""
        send(self._pids(), signal.SIGCONT)

    def restart(self) -> None:
        """Start it again, on the same port and data; end it before, if it runs."""
        self.stop()
        self._recipe.start(self._place)
        self.server = self._recipe.describe(self._place)

    def discard(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self._place.folder, ignore_errors=True)

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return bool(self._place.pids) and all(map(runs, self._place.pids))

    def _pids(self) -> list[int]:
        return [each for pid in self._place.pids for each in tree(pid)]


@define
class OwnSet:
    """A MongoDB replica set of three."""

    members: list[OwnServer]

    @classmethod
    def begin(cls, launch: Callable[[str], OwnServer]) -> "OwnSet":
        """Start three members with `launch`, make a set of them, and wait until each is ready."""
        replicas = cls([launch("mongodb_member") for _ in range(3)])
        form([member.port for member in replicas.members])
        until = time.monotonic() + PRIMARY_SECONDS
        while not is_whole(replicas.primary().port):
            if time.monotonic() > until:
                raise BrokenServerError(f"a member lacks data after {PRIMARY_SECONDS} s")
            time.sleep(0.05)
        return replicas

    @property
    def url(self) -> str:
        """What `pymongo.MongoClient` takes."""
        return f"mongodb://{','.join(member.address for member in self.members)}/?replicaSet={SET}"

    def primary(self) -> OwnServer:
        """Return the member that takes writes, as soon as there is one."""
        until = time.monotonic() + PRIMARY_SECONDS
        while time.monotonic() < until:
            if found := find_primary([member.port for member in self.members if member.is_running]):
                return next(member for member in self.members if member.port == found)
            time.sleep(0.05)
        raise BrokenServerError(f"no primary within {PRIMARY_SECONDS} s")
