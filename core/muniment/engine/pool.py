"""All cores of this machine: worker processes decode, transform and encode; this one reads and writes."""

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

from attrs import frozen

from muniment.components import Chunk, Engine, Idle
from muniment.engine import Workers
from muniment.errors import FatalError
from muniment.options import option
from muniment.process import Job, Processed, Processor, patient_gc


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@frozen(kw_only=True)
class Pool(Engine):
    """Run in several processes; ``workers`` counts this one too."""

    workers: int = option("Processes in all, this one included.", factory=_cores, identity=False)

    def open(self, job: Job) -> Workers:
        return _PoolWorkers(job, max(1, self.workers - 1))


class _PoolWorkers(Workers):
    """A window of chunks under way.  While the oldest is not done and the window is full, this process
    takes a chunk itself instead of waiting, so that no core idles behind a sink that writes fast."""

    def __init__(self, job: Job, processes: int) -> None:
        # `spawn`: a forked child would inherit SQLite handles and the progress bar's thread.
        self._pool = ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(job,)
        )
        # Deep enough that no worker waits while this process writes what came back.
        self._window = 6 * processes
        self._own = Processor(job)

    def map(self, chunks: Iterable[Chunk | Idle]) -> Iterator[Processed | Idle]:
        pending: deque[Future[bytes] | Processed | Idle] = deque()
        under_way = 0
        try:
            for chunk in chunks:
                if isinstance(chunk, Idle):
                    pending.append(chunk)
                elif under_way >= self._window:
                    pending.append(self._own.process(chunk))
                else:
                    pending.append(self._pool.submit(_process, chunk))
                    under_way += 1
                while pending and (_is_done(pending[0]) or len(pending) > self._window + 4):
                    under_way -= isinstance(pending[0], Future)
                    yield _result(pending.popleft())
            while pending:
                yield _result(pending.popleft())
        except BrokenProcessPool as error:
            raise FatalError(
                "a worker process died (out of memory?); what was committed stands: run again to resume,"
                " with fewer workers if it happens again"
            ) from error

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._own.close()


def _is_done(item: "Future[bytes] | Processed | Idle") -> bool:
    return not isinstance(item, Future) or item.done()


def _result(item: "Future[bytes] | Processed | Idle") -> Processed | Idle:
    return pickle.loads(item.result()) if isinstance(item, Future) else item  # noqa: S301 - from our own worker


_processor: Processor


def _start_worker(job: Job) -> None:
    """Open the job once per worker; signals are for the driver, which then stops the workers."""
    global _processor
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_driver, daemon=True).start()
    patient_gc().__enter__()
    _processor = Processor(job)


def _exit_with_driver() -> None:
    """End this worker when the driver has ended in whatever way: nobody else would."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _process(chunk: Chunk) -> bytes:
    """Return the pickled result.

    The executor receives results in a thread of the driver.  Bytes cost it next to nothing; a whole
    payload, unpickled there, would fight the driver's SQLite calls for the interpreter's lock.
    """
    return pickle.dumps(_processor.process(chunk), pickle.HIGHEST_PROTOCOL)
