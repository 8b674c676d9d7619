"""Kill it anywhere: the next run ends as if nobody had."""

import subprocess
import sys
from pathlib import Path

import pytest

KILL = Path(__file__).with_name("kill.py")


def kill(*options):
    result = subprocess.run([sys.executable, str(KILL), *options], capture_output=True, text=True)
    return result.stdout + result.stderr


def test_a_few_kills():
    """Half of them in a top-up of an existing archive."""
    assert kill("--kills", "6", "--top-ups", "3", "--json-mb", "1") == (
        "6 kills, 3 of them in a top-up: 0 archives differ\n"
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills():
    """The promise, at the size that it is made for."""
    assert kill("--kills", "100", "--top-ups", "40", "--json-mb", "10") == (
        "100 kills, 40 of them in a top-up: 0 archives differ\n"
    )
