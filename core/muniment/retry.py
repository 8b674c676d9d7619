"""How is a call that failed for the moment tried again?"""

import time
from collections.abc import Callable
from typing import TypeVar

from muniment.errors import TransientError

T = TypeVar("T")

MAX_ATTEMPTS = 6
MAX_TOTAL_SECONDS = 120.0
MAX_RETRY_AFTER_SECONDS = 60.0


def retry(call: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what ``call`` returns, trying again on `TransientError`.

    Waits 0.5 s, 1 s, 2 s ... with full jitter, or as long as the other side asked for (at most a
    minute); at most 6 attempts and two minutes.  The last error is raised.
    """
    import tenacity

    jitter = tenacity.wait_random_exponential(multiplier=0.5, max=30)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after_seconds", None)
        return jitter(state) if asked is None else min(float(asked), MAX_RETRY_AFTER_SECONDS)

    controller = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=tenacity.stop_after_attempt(MAX_ATTEMPTS) | tenacity.stop_after_delay(MAX_TOTAL_SECONDS),
        wait=wait,
        sleep=sleep,
        reraise=True,
    )
    return controller(call)
