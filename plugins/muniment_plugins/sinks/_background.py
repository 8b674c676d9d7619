"""How does a storage work while its caller goes on, within bounds, and never forgets a failure?"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from attrs import define

from muniment.errors import TransientError


@define(eq=False)
class _Job:
    """``owner`` names what it is done for; ``error`` is how it failed, ``told`` whether that was raised."""

    owner: str
    work: Callable[[], None]
    large: bool
    error: Exception | None = None
    told: bool = False


class Background:
    """A pool of ``workers`` threads.

    ``large`` jobs, which hold a part each, take turns so that theirs and the one that the caller fills are
    at most ``parts``; small ones are more, but bounded as well.  A job that failed for the moment is
    kept, and `settle` does it again.  It is used by one thread.
    """

    def __init__(self, workers: int, parts: int) -> None:
        self._workers = workers
        self._large = threading.BoundedSemaphore(max(1, parts - 1))
        self._all = threading.BoundedSemaphore(2 * self._workers)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._running: dict[Future[None], _Job] = {}
        self._failed: list[_Job] = []

    def submit(self, owner: str, work: Callable[[], None], *, large: bool = False) -> None:
        """Do ``work`` soon; waits while enough is under way."""
        self._start(_Job(owner, work, large))

    def check(self) -> None:
        """Raise what went wrong since it was last told; `settle` says it again if it lasts."""
        with self._lock:
            fresh = [job for job in self._failed if not job.told]
        self._raise(fresh)

    def settle(self, owner: str = "") -> None:
        """Return when everything (of ``owner``) is done; what failed for the moment is done again.

        Raises:
            TransientError: some of it failed for the moment once more; the next call does that again.
            FatalError: something cannot be done.
        """
        with self._lock:
            again = [j for j in self._of(owner) if isinstance(j.error, TransientError)]
            self._failed = [j for j in self._failed if j not in again]
        for job in again:
            self._start(_Job(job.owner, job.work, job.large))
        self._wait(owner)
        with self._lock:
            failed = self._of(owner)
        self._raise(failed)

    def forget(self, owner: str) -> None:
        """Return when nothing of ``owner`` runs any more, however it ended; its failures are dropped."""
        with self._lock:
            running = [f for f, job in self._running.items() if job.owner == owner]
        # Outside the lock, which the callback of a cancelled future takes.
        for future in running:
            future.cancel()
        self._wait(owner)
        with self._lock:
            self._failed = [job for job in self._failed if job.owner != owner]

    def close(self) -> None:
        """Drop what has not begun, wait for what has."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _of(self, owner: str) -> list[_Job]:
        return [job for job in self._failed if owner in ("", job.owner)]

    def _raise(self, failed: list[_Job]) -> None:
        for job in failed:
            job.told = True
        errors = [job.error for job in failed if job.error is not None]
        if errors:
            # What trying again cannot mend is told first.
            raise next((e for e in errors if not isinstance(e, TransientError)), errors[0])

    def _start(self, job: _Job) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="upload")
        if job.large:
            self._large.acquire()
        self._all.acquire()
        with self._lock:
            future = self._pool.submit(job.work)
            self._running[future] = job
        future.add_done_callback(self._done)

    def _wait(self, owner: str) -> None:
        while True:
            with self._lock:
                waiting = [f for f, j in self._running.items() if owner in ("", j.owner)]
            if not waiting:
                return
            wait(waiting)
            # The callback of a future may come after `wait` has returned.
            for future in waiting:
                self._done(future)

    def _done(self, future: "Future[None]") -> None:
        with self._lock:
            job = self._running.pop(future, None)
            if job is None:
                return
            error = None if future.cancelled() else future.exception()
            if isinstance(error, Exception):
                job.error = error
                self._failed.append(job)
        self._all.release()
        if job.large:
            self._large.release()
