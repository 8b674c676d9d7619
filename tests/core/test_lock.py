"""One run at a time on a target."""

import signal
import subprocess
import sys

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

    def test_two_names_of_a_target_share_it(self, tmp_path):
        """A symbolic link to an archive, or on the way to it, is the same target."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        (tmp_path / "other.db").symlink_to("real/archive.db")
        first = TargetLock(tmp_path / "real" / "archive.db")
        first.acquire()

        for name in ("link/archive.db", "other.db"):
            with pytest.raises(TargetBusyError):
                TargetLock(tmp_path / name).acquire()
        first.release()

    def test_a_holder_that_is_stopped_keeps_it_and_a_dead_one_does_not(self, tmp_path):
        """What wakes may go on: nobody else has written meanwhile.  What was killed holds nothing."""
        code = (
            "import sys, time\nfrom pathlib import Path\nfrom muniment.lock import TargetLock\n"
            "TargetLock(Path(sys.argv[1])).acquire()\nprint('held', flush=True)\ntime.sleep(60)\n"
        )
        target = tmp_path / "archive.db"
        with subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE, text=True) as holder:
            holder.stdout.readline()
            holder.send_signal(signal.SIGSTOP)
            with pytest.raises(TargetBusyError):
                TargetLock(target).acquire()
            holder.kill()
            holder.wait()

        lock = TargetLock(target)
        lock.acquire()
        lock.release()
