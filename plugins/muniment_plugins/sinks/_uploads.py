"""How do requests to a store go on beside the caller, a bounded number at a time, until `Uploads.wait`?"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from muniment import TransientError

Call = Callable[[], object]


class Uploads:
    """Calls that run in ``concurrency`` threads, in any order.

    What a call raises is raised again by the next `submit` or `wait`.  A call that failed for the
    moment is not lost: the next `wait` runs it again.  Not thread-safe itself.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._threads: ThreadPoolExecutor | None = None
        self._running: deque[tuple[Call, Future[object]]] = deque()
        self._again: list[Call] = []

    def submit(self, call: Call) -> "Future[object]":
        """Begin a call; waits while twice as many as there are threads have not ended."""
        while self._running and (len(self._running) >= 2 * self._concurrency or self._running[0][1].done()):
            self._finish_oldest()
        future = self._start(call)
        self._running.append((call, future))
        return future

    def begin(self, call: Call) -> "Future[object]":
        """Begin a call whose result its caller waits for itself."""
        return self._start(call)

    def wait(self) -> None:
        """Return when every call has ended well.

        Raises:
            TransientError: some failed for the moment; the next `wait` runs those again.
            FatalError: one cannot end well.
        """
        again, self._again = self._again, []
        failed: list[Exception] = []
        for call in again:
            self._running.append((call, self._start(call)))
        while self._running:
            try:
                self._finish_oldest()
            except Exception as error:  # noqa: BLE001 - raised below, when no thread works any more
                failed.append(error)
        if failed:
            raise next((e for e in failed if not isinstance(e, TransientError)), failed[0])

    def close(self) -> None:
        """Wait for what runs; forget what has not begun."""
        self._running.clear()
        self._again.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None

    def _start(self, call: Call) -> "Future[object]":
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="upload")
        return self._threads.submit(call)

    def _finish_oldest(self) -> None:
        call, future = self._running.popleft()
        try:
            future.result()
        except TransientError:
            self._again.append(call)
            raise
