"""Can an archive be believed before something is added to it?  And what of a load that was killed?"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from muniment import Checkpoint, FatalError, Fence, Target
from muniment.lock import TargetLock
from muniment.units import Orphan
from muniment_plugins.sinks.sqlite.loading import discard_load, loading_path, refused

_LEDGER = ("(runs)", "(checkpoints)", "(quarantine)", "(conversations)")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into an error that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise refused(path, error) from error
    except OSError as error:
        reason = (error.strerror or "the system refused").lower()
        raise FatalError(
            f"`{path}` cannot be written: {reason}; check the disk, then run the same command again"
        ) from error


def check(path: Path, connection: sqlite3.Connection) -> None:
    """Look at the tables that say what is stored; at everything if the last run did not end.

    Raises:
        FatalError: something is damaged.
    """
    with explained(path):
        last = connection.execute("SELECT exit_code FROM runs ORDER BY started_at DESC, rowid DESC").fetchone()
        ended = last is not None and last[0] is not None
        for table in _LEDGER if ended else ("",):
            [found] = connection.execute(f"PRAGMA quick_check{table}").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(f"malformed: {' '.join(found.split())}")


class Leftovers(Target):
    """What killed first loads left beside an archive; nothing can be stored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = TargetLock(path)
        self._lock.acquire()

    def committed(self) -> Mapping[str, Checkpoint]:
        return {}

    def commit(self, prepared: object, fence: Fence) -> None:
        raise FatalError(f"`{self._path}` was opened to look for leftovers only")

    def orphans(self) -> Iterator[Orphan]:
        file = loading_path(self._path)
        for suffix in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                beside = file.with_name(file.name + suffix)
                yield Orphan(str(beside), os.lstat(beside).st_size)

    def collect(self, orphan: Orphan) -> None:
        discard_load(self._path)

    def close(self) -> None:
        self._lock.release()
