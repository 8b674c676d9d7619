"""A measurement covers the whole process tree."""

import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is read from /proc")

CHILD = "x = bytes([1]) * 60_000_000; sum(range(15_000_000))"  # long enough to be sampled several times


@pytest.fixture
def measure(benchmark_module):
    return benchmark_module("measure").measure


class TestMeasure:
    def test_counts_the_memory_and_time_of_children(self, measure, tmp_path):
        """What a child process uses is part of the cost."""
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
        cost = measure([sys.executable, "-c", parent], directory=tmp_path)

        assert (cost.exit_code, cost.peak_mb > 60, cost.cpu_seconds > 0) == (0, True, True)

    def test_tells_why_a_command_failed(self, measure, tmp_path):
        """The last line of its errors comes back with the exit code."""
        cost = measure([sys.executable, "-c", "import sys; sys.exit('no input')"], directory=tmp_path)

        assert (cost.exit_code, cost.error) == (1, "no input")
