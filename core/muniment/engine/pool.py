"""All cores of this machine: one process reads, all processes decode, this one writes.

The reader hands a chunk to whoever asks for one, and works on it itself when nobody does; this process
asks when it has nothing to write.  A window bounds the chunks that are under way.
"""

import contextlib
import gc
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnProcess
from typing import Any

from attrs import frozen

from muniment.components import Engine, Reader, Replay
from muniment.engine import Workers, numbered
from muniment.engine.local import LocalWorkers
from muniment.errors import FatalError, MunimentError
from muniment.options import option
from muniment.process import GC_THRESHOLDS, Job, Processed, Processor
from muniment.tracebacks import describe_error, install_hooks
from muniment.units import Chunk, Idle, Partition, Position

# Spawned, not forked: a forked child would inherit SQLite handles and the progress bar's thread.
_SPAWN = get_context("spawn")
_CHUNKS_UNDER_WAY = 12
_LOOK_SECONDS = 0.5


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@frozen(kw_only=True)
class Pool(Engine):
    """Run in several processes; ``workers`` counts this one too.

    A source that cannot be opened twice (its replay is not exact) is read and processed here.
    """

    workers: int = option("Processes in all, this one included.", factory=_cores, identity=False)

    def open(self, job: Job, reader: Reader) -> Workers:
        if self.workers < 2 or job.source.replay is not Replay.EXACT:
            return LocalWorkers(job, reader)
        return _PoolWorkers(job, self.workers - 1)


@frozen
class _Order:
    """What the reading process is asked for."""

    partition: Partition
    after: Position | None
    sequence: int


@frozen
class _End:
    """Behind the last chunk of an order; ``error`` is what ended it early."""

    error: Exception | None = None


class _Channels:
    """What the processes share.

    ``window`` is taken for each chunk that is read and given back when its result is taken to be
    written.  ``workers_ask`` and ``driver_asks`` count chunks that are asked for.  ``results`` carries
    (number, pickled result), to the driver also (number, chunk) and (number, end).
    """

    def __init__(self, processes: int) -> None:
        self.orders: Any = _SPAWN.SimpleQueue()
        self.tasks: Any = _SPAWN.Queue()
        self.results: Any = _SPAWN.Queue()
        self.window = _SPAWN.Semaphore(_CHUNKS_UNDER_WAY * processes)
        self.workers_ask = _SPAWN.Semaphore(0)
        self.driver_asks = _SPAWN.Semaphore(0)


class _PoolWorkers(Workers):
    def __init__(self, job: Job, processes: int) -> None:
        self._channels = _Channels(processes)
        self._own = Processor(job)
        self._asked = False
        self._processes = [
            _SPAWN.Process(target=_run, args=(_read_and_work if n == 0 else _work, job, self._channels), daemon=True)
            for n in range(processes)
        ]
        with _signals_held():
            for process in self._processes:
                process.start()

    def process(self, partition: Partition, after: Position | None, sequence: int) -> Iterator[Processed | Idle]:
        channels = self._channels
        channels.orders.put(_Order(partition, after, sequence))
        done: dict[int, bytes | Processed | _End] = {}
        while True:
            sequence += 1
            while sequence not in done:
                self._receive(done)
            item = done.pop(sequence)
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            channels.window.release()
            yield pickle.loads(item) if isinstance(item, bytes) else item  # noqa: S301 - from our own worker

    def close(self) -> None:
        for process in self._processes:
            # Not SIGTERM, which they leave to the driver.
            process.kill()
        for process in self._processes:
            process.join()
        for channel in (self._channels.tasks, self._channels.results):
            channel.close()
            channel.cancel_join_thread()
        self._own.close()

    def _receive(self, done: "dict[int, bytes | Processed | _End]") -> None:
        """Take what has come; with nothing there, ask for work."""
        channels = self._channels
        if channels.results.empty() and not self._asked:
            channels.driver_asks.release()
            self._asked = True
        try:
            number, item = channels.results.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            self._check_alive()
            return
        if isinstance(item, Chunk):
            self._asked = False
            item = self._own.process(item)
        done[number] = item

    def _check_alive(self) -> None:
        dead: list[SpawnProcess] = [p for p in self._processes if not p.is_alive()]
        if dead:
            raise FatalError(
                f"a worker process died (exit code {dead[0].exitcode}; out of memory?); what was committed"
                " stands: run again to resume, with fewer workers if it happens again"
            )


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Start processes which never see these signals, whoever sends them to the whole group.

    They are for the driver, which commits what it has and then ends the workers.  Children inherit
    what is blocked; whatever comes meanwhile is delivered to this process afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in the other processes -----------------------------------------------------------------


def _run(work: Callable[[Job, _Channels], None], job: Job, channels: _Channels) -> None:
    """Do ``work``; what ends it is shown without its text, which `multiprocessing` would print."""
    install_hooks()
    try:
        work(job, channels)
    except Exception as error:  # noqa: BLE001 - nobody above could do anything about it
        sys.stderr.write(describe_error(error))
        raise SystemExit(1) from None


def _read_and_work(job: Job, channels: _Channels) -> None:
    processor = _open_worker(job)
    with job.source.open(job.routes[0].context) as reader:
        while True:
            _read(channels.orders.get(), reader, processor, channels)


def _read(order: _Order, reader: Reader, processor: Processor, channels: _Channels) -> None:
    number = order.sequence
    error: Exception | None = None
    try:
        for chunk in numbered(reader, order.partition, order.after, order.sequence):
            if isinstance(chunk, Idle):
                continue
            number = chunk.sequence
            channels.window.acquire()
            if channels.workers_ask.acquire(block=False):
                channels.tasks.put(chunk)
            elif channels.driver_asks.acquire(block=False):
                channels.results.put((number, chunk))
            else:
                channels.results.put((number, _process(processor, chunk)))
    except Exception as caught:  # noqa: BLE001 - it is raised again where the run is
        error = caught if isinstance(caught, MunimentError) else FatalError(_named(caught))
    channels.results.put((number + 1, _End(error)))


def _work(job: Job, channels: _Channels) -> None:
    processor = _open_worker(job)
    channels.workers_ask.release()
    while True:
        # One is asked for ahead, so that it is there when this one is done.
        channels.workers_ask.release()
        chunk: Chunk = channels.tasks.get()
        try:
            result: Any = _process(processor, chunk)
        except Exception as caught:  # noqa: BLE001 - it is raised again where the run is
            result = _End(caught if isinstance(caught, MunimentError) else FatalError(_named(caught)))
        channels.results.put((chunk.sequence, result))


def _open_worker(job: Job) -> Processor:
    threading.Thread(target=_exit_with_driver, daemon=True).start()
    gc.set_threshold(*GC_THRESHOLDS)
    return Processor(job)


def _named(error: Exception) -> str:
    """Return what an error is; its text may quote a conversation."""
    said = error.strerror if isinstance(error, OSError) else ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _exit_with_driver() -> None:
    """End this process when the driver has ended in whatever way: nobody else would."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _process(processor: Processor, chunk: Chunk) -> bytes:
    """Return the pickled result: bytes pass a queue's thread without holding up the process."""
    return pickle.dumps(processor.process(chunk), pickle.HIGHEST_PROTOCOL)
