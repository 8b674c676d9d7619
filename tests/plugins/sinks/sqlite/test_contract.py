"""The sink `sqlite` keeps the contract of sinks, encrypted or not."""

from pathlib import Path

import pytest

from muniment import Context
from muniment.testing import SinkContract
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.read import cover_of, open_asset


class TestSQLite(SinkContract):
    locks = True

    @pytest.fixture
    def sink(self, tmp_path):
        return SQLite(path=str(tmp_path / "archive.db"))

    def read_asset(self, sink, asset):
        cover = cover_of(Path(sink.path), sink.keyring(Context(run="")))
        try:
            with open_asset(Path(sink.path), asset.sha256, cover) as stream:
                return stream.read()
        except FileNotFoundError:
            return None


class TestEncryptedSQLite(TestSQLite):
    @pytest.fixture
    def sink(self, tmp_path, encryption):
        return SQLite(path=str(tmp_path / "archive.db"), encryption=encryption)
