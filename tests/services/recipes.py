"""How a kind of server is found, prepared, started and recognised; the kinds are in the modules beside this."""

import importlib.metadata
import os
import pwd
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import Factory, define

from services.server import BrokenServerError, MissingServerError, Server

READY_SECONDS = 60
LOG_TAIL = 1500
Ask = Callable[..., dict[str, Any]]


@define
class Place:
    """Where one server lives: its folder, its ports, its processes."""

    name: str
    folder: Path
    ports: tuple[int, ...]
    durable: bool
    _ask: Ask
    pids: list[int] = Factory(list)
    ids: tuple[int, int] | None = None

    @property
    def user_name(self) -> str:
        """Who runs what is started here."""
        return pwd.getpwuid(self.ids[0] if self.ids else os.geteuid()).pw_name

    def run_as(self, *names: str) -> None:
        """Give the folder, and what is started or run from here on, to the first of these users, if we are root."""
        if os.geteuid() == 0:
            user = next(found for name in (*names, "nobody") if (found := find_user(name)))
            self.ids = (user.pw_uid, user.pw_gid)
            self.own(".")

    def own(self, *names: str) -> None:
        """Give these, below the folder, to the server's user."""
        if self.ids:
            for name in names:
                os.chown(self.folder / name, *self.ids)

    def reachable(self, programs: Path) -> Path:
        """Return `programs`, a folder, or a copy of it where the user that runs them may not look into it."""
        if self.ids is None or self._run(["test", "-x", programs]).returncode == 0:
            return programs
        copy = self.folder / "programs"
        return Path(shutil.copytree(programs, copy, symlinks=True))

    def run(self, *command: str | Path) -> None:
        """Run a program to its end, as the server's user."""
        done = self._run(command)
        if done.returncode != 0:
            raise BrokenServerError(f"`{self.name}`: {command[0]} failed: {done.stdout[-LOG_TAIL:]}")

    def _run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        ids = {"user": self.ids[0], "group": self.ids[1], "extra_groups": []} if self.ids else {}
        return subprocess.run(
            list(map(str, command)),
            env=self.environment({}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            **ids,
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return what a server sees: none of our own variables, no proxy, its folder as home."""
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
        home = str(self.folder)
        return {"PATH": path, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", **more}

    def spawn(
        self, *command: str | Path, env: Mapping[str, str] | None = None, stop: int = signal.SIGKILL, grace: float = 5
    ) -> None:
        """Start a process of the server; `stop` is the signal that ends it when nothing of it is needed any more."""
        answer = self._ask(
            "spawn",
            command=list(map(str, command)),
            env=self.environment(env or {}),
            log=str(self.log),
            ids=self.ids,
            stop=int(stop),
            grace=grace,
        )
        self.pids.append(answer["pid"])

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"

    def wait(self, is_ready: Callable[[], bool]) -> None:
        """Return when it answers; raise with its log when it has ended or never does."""
        until = time.monotonic() + READY_SECONDS
        pause = 0.01
        while True:
            try:
                ready = is_ready()
            except OSError:
                ready = False
            alive = self._ask("check", pids=self.pids)["alive"]
            if alive and ready:
                return
            if not alive or time.monotonic() > until:
                what = f"does not answer within {READY_SECONDS} s" if alive else "has ended"
                raise BrokenServerError(f"`{self.name}` {what}: {self.log.read_text(errors='replace')[-LOG_TAIL:]}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def end(self, *, kill: bool) -> None:
        """End its processes; return when they are gone."""
        self._ask("end", pids=self.pids, kill=kill)
        self.pids = []


class Recipe:
    """One kind of server."""

    name: ClassVar[str]
    required: ClassVar[bool] = True
    # Costly ones run only where they are asked for; the others run wherever they are found.
    asked_for: ClassVar[bool] = False
    ports: ClassVar[int] = 1
    also: ClassVar[int] = 0
    user: ClassVar[str] = ""
    password: ClassVar[str] = ""
    # What brings it: a distribution of pip's, packages of Debian's; see `fetch` for the rest.
    wheel: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()

    def find(self) -> Path:
        """Return its program; raise `MissingServerError` with how to get it."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `MissingServerError` when it could not be started; slower and surer than `find`."""
        self.find()

    def fetch(self) -> None:
        """Get what neither pip nor the distribution has."""

    def prepare(self, place: Place) -> None:
        """Fill a fresh folder."""

    def start(self, place: Place) -> None:
        """Spawn its processes and wait until it answers; called again, on the same folder and ports, for a restart."""
        raise NotImplementedError

    def extra(self, place: Place) -> dict[str, Any]:
        """Return what else a client needs to know."""
        return {}

    def describe(self, place: Place) -> Server:
        """Return what tests get."""
        return Server(
            name=self.name,
            port=place.ports[0],
            user=self.user,
            password=self.password,
            root=place.folder,
            pid=place.pids[0],
            extra=self.extra(place),
        )

    def missing(self, what: str) -> MissingServerError:
        """Return the error that says what is not here."""
        return MissingServerError(f"`{self.name}`: {what}; run `python tests/services/manage.py install {self.name}`")

    def program(self, *names: str | Path) -> Path:
        """Return the first of these programs that is there."""
        for name in names:
            if found := shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])):
                return Path(found)
        raise self.missing(f"no `{names[0]}` on this machine")

    def wheel_file(self, ending: str) -> Path:
        """Return a file of the installed wheel, made executable."""
        try:
            files = importlib.metadata.distribution(self.wheel).files or []
        except importlib.metadata.PackageNotFoundError:
            raise self.missing(f"the wheel `{self.wheel}` is not installed") from None
        found = next(Path(file.locate()).resolve() for file in files if str(file).endswith(ending))
        if not os.access(found, os.X_OK):
            found.chmod(0o755)
        return found


def find_user(name: str) -> pwd.struct_passwd | None:
    """Return a user of this machine."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def answers(url: str, *others: int, text: bytes = b"") -> bool:
    """Tell whether a GET gives 200 and this text, or one of the other states."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as response:
            return bool(response.status == 200) and text in response.read()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code in others
