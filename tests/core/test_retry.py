"""A call that failed for the moment is tried again, with patience and an end."""

import pytest

from muniment.errors import FatalError, TransientError
from muniment.retry import MAX_ATTEMPTS, MAX_RETRY_AFTER_SECONDS, retry


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
