"""A process that holds the servers of one test session, so that none of them outlives it.

It needs the standard library alone: `python keeper.py FOLDER OWNER_PID`. It listens on `FOLDER/keeper`, a Unix socket,
for one JSON object a connection and answers with one. It ends every server, removes the folder and ends itself when it
is told to or when the owner is gone; where it is killed itself, the kernel ends the servers (Linux).
"""

import contextlib
import ctypes
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

TICK = 0.2
# Below the range that kernels hand out for outgoing connections, so that a restarted server finds its port free.
PORTS = range(10_240, 32_000)
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Keeper:
    """Spawns, watches and ends servers on behalf of other processes."""

    def __init__(self, folder: Path, owner: int) -> None:
        self._folder = folder
        self._owner = owner
        self._held: dict[int, tuple[subprocess.Popen, int, float]] = {}
        self._claims: list[socket.socket] = []
        self._quits = False

    def run(self) -> None:
        """Answer until told to quit or until the owner is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self.quit())
        with socket.socket(socket.AF_UNIX) as listener:
            # The name appears when somebody listens there; then the process that the caller waits for may end.
            listener.bind(str(self._folder / "keeper.new"))
            listener.listen(64)
            (self._folder / "keeper.new").rename(self._folder / "keeper")
            if os.fork():
                os._exit(0)
            self._serve(listener)
        self._end(list(self._held), kill=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self, listener: socket.socket) -> None:
        with selectors.DefaultSelector() as waits:
            waits.register(listener, selectors.EVENT_READ)
            while not self._quits and runs(self._owner):
                for _ in waits.select(TICK):
                    self._answer(listener.accept()[0])

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError), connection.makefile("rw", encoding="utf-8") as stream:
            line = stream.readline()
            if not line:
                return
            request = json.loads(line)
            try:
                answer = getattr(self, request.pop("do"))(**request) or {}
            except Exception as error:  # it belongs to the one who asked; the other servers live on
                answer = {"error": repr(error)}
            stream.write(json.dumps(answer) + "\n")

    def spawn(self, command: list[str], env: dict, log: str, ids: list[int] | None, stop: int, grace: float) -> dict:
        """Start a server in its own session, as the user and group `ids`; `stop` is the signal that ends it in time."""
        as_user = {"user": ids[0], "group": ids[1], "extra_groups": []} if ids else {}
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=Path(log).parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **as_user,
            )
        self._held[process.pid] = (process, stop, grace)
        return {"pid": process.pid}

    def end(self, pids: list[int], kill: bool) -> None:
        """End servers; return when they are gone."""
        self._end([pid for pid in pids if pid in self._held], kill=kill)

    def check(self, pids: list[int]) -> dict:
        """Tell whether all of them run."""
        return {"alive": all(pid in self._held and self._held[pid][0].poll() is None for pid in pids)}

    def reserve(self, count: int, also: int) -> dict:
        """Find free ports on the loopback, each with a free one `also` above it, and keep other sessions off them."""
        found: list[int] = []
        while len(found) < count:
            port = random.choice(PORTS)
            if all(is_free(each) for each in {port, port + also}) and self._claim(port):
                found.append(port)
        return {"ports": found}

    def quit(self) -> None:
        """End everything, soon."""
        self._quits = True

    def _claim(self, port: int) -> bool:
        if sys.platform != "linux":
            return True
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0muniment-test-port-{port}")  # an abstract name, which the kernel frees with this process
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True

    def _end(self, pids: list[int], *, kill: bool) -> None:
        trees = {pid: tree(pid) for pid in pids}
        for pid in pids:
            stop = signal.SIGKILL if kill else self._held[pid][1]
            send(trees[pid] if kill else [pid], stop)
            send(trees[pid], signal.SIGCONT)  # a paused server ends no other way
        for pid in pids:
            process, _, grace = self._held.pop(pid)
            until = time.monotonic() + grace
            while (process.poll() is None or any(map(runs, trees[pid]))) and time.monotonic() < until:
                time.sleep(0.01)
            if process.poll() is None:
                send({*trees[pid], *tree(pid)}, signal.SIGKILL)
                process.wait()
            send(filter(runs, trees[pid]), signal.SIGKILL)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone; nothing, elsewhere than on Linux."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def tree(pid: int) -> list[int]:
    """Return the process and all its descendants, parents first; the process alone where there is no /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def state(pid: int) -> str:
    """Return the letter that /proc has for a process: "" where there is no process, "?" where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "?"
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def runs(pid: int) -> bool:
    """Tell whether a process is there and more than a zombie."""
    return state(pid) not in ("", "Z", "X")


def is_free(port: int) -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    Keeper(Path(sys.argv[1]), int(sys.argv[2])).run()
