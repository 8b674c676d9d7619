"""Which run may write to an archive?  One at a time: a lease that it renews, and a fence that it cannot pass late.

The lease keeps other runs away while one is alive.  The fence is what makes it safe: every unit is
committed only if no later run has moved it on, in the same transaction.
"""

import contextlib
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

from muniment import MunimentError, TargetBusyError
from muniment.retry import retry
from muniment_plugins.sinks.mongodb.connection import Connection

LEASE_SECONDS = 60.0
_RELEASE_SECONDS = 5.0
_RENEWALS = 4  # in the time that a lease lasts


class Lease:
    """The right of a run to write, held from `acquire` to `release`."""

    def __init__(self, connection: Connection, run: str, seconds: float = LEASE_SECONDS) -> None:
        self._connection = connection
        self._run = run
        self._holder = uuid.uuid4().hex
        self._seconds = seconds
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lease at once, and move the fence on.

        Raises:
            TargetBusyError: another run holds it, and it has not expired.
        """
        with self._connection.translated():
            if not self._take({"$expr": {"$lt": ["$until", "$$NOW"]}}) and not self._make():
                self._take_from_the_dead()
            retry(self._move_fence)
        self._thread = threading.Thread(target=self._renew, name="muniment-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back; harmless when another run has taken it."""
        import pymongo

        self._ends.set()
        if self._thread is not None:
            self._thread.join(_RELEASE_SECONDS)
            # Where the server is gone, the lease ends by itself.
            with contextlib.suppress(MunimentError), self._connection.translated(), pymongo.timeout(_RELEASE_SECONDS):
                self._meta.delete_one({"_id": "lease", "holder": self._holder})

    @property
    def _meta(self) -> Any:
        return self._connection.collection("meta")

    def _make(self) -> bool:
        """Make the lease; False where there is one."""
        from pymongo.errors import DuplicateKeyError

        try:
            self._meta.update_one({"_id": "lease", "until": None}, self._ours(), upsert=True)
        except DuplicateKeyError:
            return False
        return True

    def _take(self, condition: dict[str, Any]) -> bool:
        return bool(self._meta.update_one({"_id": "lease", **condition}, self._ours()).matched_count)

    def _ours(self) -> list[dict[str, Any]]:
        fields = {"run": self._run, "holder": self._holder, "owner": _owner(), "sessions": []}
        return [{"$set": {k: {"$literal": v} for k, v in fields.items()} | self._until()}]

    def _take_from_the_dead(self) -> None:
        held = self._meta.find_one({"_id": "lease"})
        # After a lost answer it may be our own.
        if held is not None and held["holder"] != self._holder:
            if not _is_dead(held["owner"]) or not self._take({"holder": held["holder"]}):
                raise TargetBusyError(
                    f"another run writes to `{self._connection.place}` ({held['run']}, on"
                    f" {held['owner']['name']}); wait until it has finished, or, if it was killed, until"
                    f" {held['until']:%H:%M:%S} UTC"
                )
            self._end_sessions(held.get("sessions", ()))

    def _end_sessions(self, sessions: Any) -> None:
        """Undo the transaction that a killed run left open; the server would wait a minute for its end."""
        from pymongo.errors import PyMongoError

        if sessions and self._connection.transactions:
            with contextlib.suppress(PyMongoError):
                self._connection.client.admin.command("killSessions", [{"id": s} for s in sessions])

    def _move_fence(self) -> None:
        with self._connection.translated():
            self._meta.update_one({"_id": "fence"}, {"$inc": {"token": 1}, "$set": {"run": self._run}}, upsert=True)

    def _renew(self) -> None:
        while not self._ends.wait(self._seconds / _RENEWALS):
            # One that fails is made up for by the next; if all do, the fence decides.
            with contextlib.suppress(MunimentError), self._connection.translated():
                self._meta.update_one({"_id": "lease", "holder": self._holder}, [{"$set": self._until()}])

    def _until(self) -> dict[str, Any]:
        # By the server's clock, so that no other has to be right.
        return {"until": {"$add": ["$$NOW", int(self._seconds * 1000)]}}


class Fence:
    """A run's pass: good until another run has taken the archive over."""

    def __init__(self, connection: Connection, run: str) -> None:
        self._connection = connection
        self._run = run

    def note_session(self, session: Any) -> None:
        """Say which session this run's transactions have, so that a successor can end them."""
        meta = self._connection.collection("meta")
        meta.update_one({"_id": "lease", "run": self._run}, {"$set": {"sessions": [session.session_id["id"]]}})

    def check(self, unit: int, session: Any) -> None:
        """Pass the fence, inside the transaction where there is one.

        Raises:
            TargetBusyError: another run has taken over.
        """
        meta = self._connection.collection("meta")
        found = meta.update_one({"_id": "fence", "run": self._run}, {"$set": {"unit": unit}}, session=session)
        if not found.matched_count:
            raise TargetBusyError(
                f"another run has taken `{self._connection.place}` over; nothing was stored after that; run again"
                " when it has finished"
            )


def _owner() -> dict[str, Any]:
    return {"name": socket.gethostname(), "host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(owner: dict[str, Any]) -> bool:
    """Say whether the owner was a process of this machine that is no more."""
    return bool(owner["host"]) and owner["host"] == _host() and _started(owner["pid"]) != owner["started"]


def _host() -> str:
    """Return what tells this boot of this machine (and this container) from all others; empty if nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
