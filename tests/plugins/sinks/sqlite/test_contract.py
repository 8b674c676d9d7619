"""The sink `sqlite` keeps the contract of sinks."""

from pathlib import Path

import pytest

from muniment.testing import SinkContract
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.read import open_asset


class TestSQLite(SinkContract):
    locks = True

    @pytest.fixture
    def sink(self, tmp_path):
        return SQLite(path=str(tmp_path / "archive.db"))

    def read_asset(self, sink, asset):
        try:
            with open_asset(Path(sink.path), asset.sha256) as stream:
                return stream.read()
        except FileNotFoundError:
            return None
