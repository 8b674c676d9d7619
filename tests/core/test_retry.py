"""A call that failed for the moment is tried again, with patience and an end."""

import time

import pytest

from muniment.errors import FatalError, TransientError
from muniment.retry import MAX_ATTEMPTS, MAX_RETRY_AFTER_SECONDS, retry, until


def failing(*errors):
    pending = list(errors)

    def call():
        if pending:
            raise pending.pop(0)
        return "done"

    return call


class TestRetry:
    def test_it_returns_the_first_success(self):
        """Transient errors in between are forgotten."""
        assert retry(failing(TransientError("a"), TransientError("b")), sleep=lambda s: None) == "done"

    def test_it_honours_what_the_other_side_asked_for_up_to_a_minute(self):
        """Retry-After is followed, but not into the next day."""
        slept: list[float] = []

        retry(failing(TransientError("a", 3.0), TransientError("b", 9999.0)), sleep=slept.append)

        assert slept == [3.0, MAX_RETRY_AFTER_SECONDS]

    def test_it_gives_up_with_the_last_error(self):
        """The caller sees what failed, not a wrapper."""
        errors = [TransientError(str(i), 0.0) for i in range(MAX_ATTEMPTS)]

        with pytest.raises(TransientError, match=f"^{MAX_ATTEMPTS - 1}$"):
            retry(failing(*errors), sleep=lambda s: None)

    def test_it_does_not_repeat_what_is_final(self):
        """Only transient errors are tried again."""
        slept: list[float] = []

        with pytest.raises(FatalError):
            retry(failing(FatalError("no")), sleep=slept.append)

        assert slept == []


class TestUntil:
    def test_a_run_that_is_asked_to_stop_waits_no_longer(self):
        """The wait that the other side asked for ends with the signal, and the error is told."""
        asked: list[bool] = []

        def call():
            asked.append(True)
            raise TransientError("later", 60.0)

        started = time.monotonic()
        with until(lambda: bool(asked)), pytest.raises(TransientError, match="^later$"):
            retry(call)

        assert (len(asked), time.monotonic() - started < 5) == (1, True)

    def test_a_signal_in_a_wait_ends_it(self):
        """The flag is looked at while it waits."""
        ends = time.monotonic() + 0.2
        with until(lambda: time.monotonic() > ends), pytest.raises(TransientError):
            retry(failing(*(TransientError("later", 60.0) for _ in range(3))))

        assert time.monotonic() - ends < 5
