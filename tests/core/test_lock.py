"""One run at a time on a target."""

import pytest

from muniment.errors import TargetBusyError
from muniment.lock import TargetLock


class TestTargetLock:
    def test_a_second_holder_is_refused(self, tmp_path):
        """The second run is told at once, with its own exit code."""
        first, second = TargetLock(tmp_path / "archive.db"), TargetLock(tmp_path / "archive.db")
        first.acquire()

        with pytest.raises(TargetBusyError, match="^another run writes to `archive.db`; wait until it") as caught:
            second.acquire()

        assert caught.value.exit_code == 11
        first.release()

    def test_a_released_lock_can_be_taken_and_leaves_no_file(self, tmp_path):
        """Nothing stays behind."""
        for _ in range(2):
            lock = TargetLock(tmp_path / "archive.db")
            lock.acquire()
            lock.release()
            lock.release()

        assert list(tmp_path.iterdir()) == []
