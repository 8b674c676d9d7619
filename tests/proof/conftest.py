"""What stands beside the tests, as modules."""

import importlib.util
from pathlib import Path

import pytest


def load(name):
    spec = importlib.util.spec_from_file_location(f"proof_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def mutations():
    return load("mutations")


@pytest.fixture(scope="session")
def archives(mutations):
    return mutations.archives


@pytest.fixture(scope="session")
def second_verifier(mutations):
    return mutations.load_second_verifier()


@pytest.fixture(scope="session")
def databases():
    return load("databases")
