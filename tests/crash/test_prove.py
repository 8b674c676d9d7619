"""Disturb it in any way: the next run ends as if nobody had.  A little of each; `make prove` does it all."""

import subprocess
import sys
from pathlib import Path

import pytest

PROVE = Path(__file__).with_name("prove.py")
NOT_HERE = 3


def prove(mode, *options):
    command = [sys.executable, str(PROVE), "--mode", mode, "--json-kb", "400", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    closing = (done.stdout.splitlines() or [""])[-1]
    if done.returncode == NOT_HERE:
        reason = closing.partition("NOT RUN: ")[2]
        pytest.skip(f"this machine cannot run it: {reason}")
    return done


def is_clean(done):
    wrong = [line for line in done.stdout.splitlines() if "WRONG" in line or line.startswith("  ")]
    return (done.returncode, wrong, done.stderr[-2000:]) == (0, [], "")


class TestTheSuite:
    def test_it_finds_writers_that_are_broken(self):
        """No fsync, in place, checkpoint first, no last unit, no checkpoint: each is found; a sound one is not."""
        assert is_clean(prove("self", "--rounds", "3"))


@pytest.mark.timeout(300)
class TestARun:
    @pytest.mark.parametrize(
        "sinks", ["sqlite,sqlite encrypted", "files,files zstd encrypted", "files zstd,mirror,mirror encrypted"]
    )
    def test_it_survives_kills(self, sinks):
        """First loads and top-ups, in one process and in several, sometimes several times in a row."""
        assert is_clean(prove("kill", "--sinks", sinks, "--rounds", "17"))

    def test_it_survives_power_cuts(self):
        """What it reported as committed is on the disk; what is visible is whole."""
        assert is_clean(prove("power", "--rounds", "20", "--sinks", "sqlite,files zstd encrypted,mirror"))

    def test_it_stops_when_asked(self):
        """Within ten seconds, with the exit code that says so, resumable."""
        assert is_clean(prove("stop", "--rounds", "8", "--sinks", "sqlite,mirror"))

    def test_it_survives_a_full_disk(self):
        """It says so, keeps what was there, and goes on when there is room."""
        assert is_clean(prove("full", "--rounds", "8", "--sinks", "sqlite,files"))

    def test_it_survives_failing_system_calls(self):
        """No failure is taken for a success, least of all that of an fsync."""
        assert is_clean(prove("syscalls", "--rounds", "24", "--sinks", "sqlite,files,mirror encrypted"))

    def test_it_survives_a_crowd(self):
        """Of eight runs on one target one writes at a time; the others exit with 11."""
        assert is_clean(prove("crowd", "--rounds", "2", "--sinks", "files"))

    def test_it_survives_clock_jumps(self):
        """Nothing is skipped or taken away, whatever the clock says."""
        assert is_clean(prove("clock", "--rounds", "4", "--sinks", "sqlite,files zstd encrypted"))


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_everything():
    """The promise, at the size that it is made for."""
    assert is_clean(prove("all", "--full"))
