"""How is a call that failed for the moment tried again?"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from muniment.errors import TransientError

T = TypeVar("T")

MAX_ATTEMPTS = 6
MAX_TOTAL_SECONDS = 120.0
MAX_RETRY_AFTER_SECONDS = 60.0
_LOOK_SECONDS = 0.1

_stopping: ContextVar[Callable[[], bool]] = ContextVar("stopping", default=lambda: False)


def retry(call: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what ``call`` returns, trying again on `TransientError`.

    Waits 0.5 s, 1 s, 2 s ... with full jitter, or as long as the other side asked for (at most a
    minute); at most 6 attempts and two minutes.  The last error is raised, at once when the run is
    asked to stop (see `until`).
    """
    import tenacity

    stopping = _stopping.get()
    if sleep is time.sleep:
        sleep = _sleep

    jitter = tenacity.wait_random_exponential(multiplier=0.5, max=30)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after_seconds", None)
        return jitter(state) if asked is None else min(float(asked), MAX_RETRY_AFTER_SECONDS)

    is_enough = tenacity.stop_after_attempt(MAX_ATTEMPTS) | tenacity.stop_after_delay(MAX_TOTAL_SECONDS)
    controller = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=lambda state: stopping() or is_enough(state),
        wait=wait,
        sleep=sleep,
        reraise=True,
    )
    return controller(call)


@contextlib.contextmanager
def until(stopping: Callable[[], bool]) -> Iterator[None]:
    """Let `retry` wait no longer, in this thread, once ``stopping`` says so."""
    token = _stopping.set(stopping)
    try:
        yield
    finally:
        _stopping.reset(token)


def _sleep(seconds: float) -> None:
    """Sleep in slices: a signal only sets a flag, and `time.sleep` goes on behind it."""
    stopping, end = _stopping.get(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left, _LOOK_SECONDS))
