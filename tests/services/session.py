"""The servers of one test session, shared by all its processes: each is started once, by the first that needs it."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from services.kinds import KINDS, PARTS
from services.own import OwnServer
from services.recipes import Place, Recipe
from services.server import BrokenServerError, MissingServerError, Server

TRIES = 3
QUIT_SECONDS = 30
KEEPER = Path(__file__).with_name("keeper.py")


@frozen
class Session:
    """A folder, and a keeper that lives in it as long as the owner, a process, does."""

    folder: Path
    owner: int

    @classmethod
    def new(cls) -> "Session":
        """Make a folder that this process owns; the servers' own users can pass through it."""
        folder = Path(tempfile.mkdtemp(prefix="muniment-servers-"))
        folder.chmod(0o711)
        (folder / "owner").write_text(str(os.getpid()))
        return cls(folder, os.getpid())

    @classmethod
    def join(cls, folder: Path) -> "Session":
        """Return the session that another process has made."""
        return cls(folder, int((folder / "owner").read_text()))

    def get(self, name: str) -> Server:
        """Return the shared server, started if it is not; raise `MissingServerError` or `BrokenServerError`."""
        path = self.folder / f"{name}.json"
        with self._lock(name):
            if not path.exists():
                path.write_text(json.dumps(self._outcome(name)))
            outcome = json.loads(path.read_text())
        if "missing" in outcome:
            raise MissingServerError(outcome["missing"])
        if "broken" in outcome:
            raise BrokenServerError(outcome["broken"])
        return Server(**{**outcome, "root": Path(outcome["root"])})

    def own(self, name: str) -> OwnServer:
        """Start a server that belongs to the caller alone, and whose data outlives its death."""
        recipe = {**KINDS, **PARTS}[name]
        place = self._launch(recipe, f"{name}-{secrets.token_hex(4)}", durable=True)
        return OwnServer(recipe, place, recipe.describe(place))

    def quit(self) -> None:
        """End all servers and remove the folder, if this process is the owner."""
        if self.owner != os.getpid():
            return
        with contextlib.suppress(OSError, BrokenServerError):  # the keeper is gone, and the servers with it
            if (self.folder / "keeper").exists():
                self.ask("quit")
                self._wait_until_gone()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_gone(self) -> None:
        until = time.monotonic() + QUIT_SECONDS
        while self.folder.exists() and time.monotonic() < until:
            time.sleep(0.01)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have the keeper do something."""
        self._ensure_keeper()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "keeper"))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps({"do": do, **arguments}) + "\n")
                stream.flush()
                line = stream.readline()
        answer: dict[str, Any] = json.loads(line or '{"error": "it is gone"}')
        if "error" in answer:
            raise BrokenServerError(f"the keeper of the servers could not {do}: {answer['error']}")
        return answer

    def _ensure_keeper(self) -> None:
        if (self.folder / "keeper").exists():
            return
        with self._lock("keeper"):
            if (self.folder / "keeper").exists():
                return
            # It leaves a child behind as soon as it listens, so that nobody has to wait for it.
            subprocess.run(
                [sys.executable, "-I", "-S", str(KEEPER), str(self.folder), str(self.owner)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=True,
            )

    def _outcome(self, name: str) -> dict[str, Any]:
        recipe = KINDS[name]
        try:
            server = recipe.describe(self._launch(recipe, name, durable=False))
        except MissingServerError as error:
            return {"missing": str(error)}
        except BrokenServerError as error:
            return {"broken": str(error)}
        return {**asdict(server), "root": str(server.root)}

    def _launch(self, recipe: Recipe, label: str, *, durable: bool) -> Place:
        recipe.find()
        for attempt in range(1, TRIES + 1):
            ports = self.ask("reserve", count=recipe.ports, also=recipe.also)["ports"]
            folder = self.folder / f"{label}.{attempt}"
            folder.mkdir(mode=0o755)
            place = Place(recipe.name, folder, tuple(ports), durable, self.ask)
            try:
                recipe.prepare(place)
                recipe.start(place)
            except BrokenServerError:
                place.end(kill=True)
                if attempt == TRIES:
                    raise
            else:
                break
        return place

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
