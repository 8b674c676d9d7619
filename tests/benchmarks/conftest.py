"""The benchmark's modules, which are scripts beside each other and not a package."""

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def benchmark_module():
    """Return a function that imports one of them by name."""
    folder = str(Path(__file__).parent)

    def load(name):
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(folder)

    return load
