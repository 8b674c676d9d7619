"""The contract of every sink, on every database."""

import pytest

from muniment.testing.sink_contract import SinkContract


class SQLContract(SinkContract):
    locks = True


class TestPostgreSQL(SQLContract):
    @pytest.fixture
    def sink(self, postgresql_database):
        return postgresql_database.sink()


@pytest.mark.optional_server
class TestPostgreSQL18(SQLContract):
    @pytest.fixture
    def sink(self, postgresql18_database):
        return postgresql18_database.sink(partition_by="month")


class TestMariaDB(SQLContract):
    @pytest.fixture
    def sink(self, mariadb_database):
        return mariadb_database.sink()


@pytest.mark.optional_server
class TestMySQL(SQLContract):
    @pytest.fixture
    def sink(self, mysql_database):
        return mysql_database.sink()


class TestDuckDB(SQLContract):
    @pytest.fixture
    def sink(self, duckdb_database):
        return duckdb_database.sink()
