"""Who may write to a target on this machine?  One run at a time."""

import fcntl
import os
from pathlib import Path

from muniment.errors import TargetBusyError
from muniment.local_storage import make_folder


class TargetLock:
    """An exclusive lock on a path that no crash can leave behind: the kernel drops it with the process.

    The lock is on a hidden file beside the path, never on an SQLite file itself: closing another
    descriptor of such a file would drop SQLite's own locks.  It stands beside what a symbolic link leads
    to, so that two names of one target are one.  A holder that is stopped (SIGSTOP) keeps it.
    """

    def __init__(self, target: Path) -> None:
        target = target.resolve()
        self.path = target.parent / f".{target.name}.lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock at once.

        Raises:
            TargetBusyError: another run holds it.
            FatalError: its folder cannot be made.
        """
        make_folder(self.path.parent)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise TargetBusyError(
                    f"another run writes to `{self.path.name[1:-5]}`; wait until it has finished"
                ) from None
            if self._is_current(descriptor):
                self._descriptor = descriptor
                return
            # The holder before us removed the file between our open and our lock: take the new one.
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back and remove its file; harmless when it is not held."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False
