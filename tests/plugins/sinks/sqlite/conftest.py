"""Keys for encrypted archives."""

import pytest

from muniment.crypto import Encryption, Key
from muniment.secrets import Secret


@pytest.fixture(scope="session")
def key():
    return Key.new()


@pytest.fixture(scope="session")
def key_file(key, tmp_path_factory):
    return _written(key, tmp_path_factory.mktemp("keys") / "archive.key")


@pytest.fixture(scope="session")
def other_key_file(tmp_path_factory):
    return _written(Key.new(), tmp_path_factory.mktemp("keys") / "other.key")


@pytest.fixture(scope="session")
def encryption(key_file):
    return Encryption(key=Secret(f"file:{key_file}"))


def _written(key, path):
    path.touch(0o600)
    path.write_text(key.text())
    return path
