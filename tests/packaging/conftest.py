"""Builds of the distributions, made without the network."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _pip(*args: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def pip():
    """Return a function that runs pip and fails with its words; skip where a build needs what is not installed."""
    pytest.importorskip("pip")
    pytest.importorskip("hatchling", reason="building without isolation needs hatchling")
    return _pip


@pytest.fixture(scope="session")
def wheel(pip, tmp_path_factory):
    """Return the path of our wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("muniment-*.whl")
    return path
