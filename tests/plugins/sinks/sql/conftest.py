"""A database of its own for each test, on each server, and plain SQL to look into it."""

import secrets

import pytest
from attrs import define, field

from muniment_plugins.sinks.sql import SQL


@define
class Database:
    """A fresh place for one archive, and a way to ask it."""

    url: str
    options: dict = field(factory=dict)

    def sink(self, **options):
        return SQL(**{"url": self.url, **self.options, **options})

    def ask(self, sql, parameters=None):
        """Return the rows of a statement, as an administrator sees them."""
        with self._connect() as connection:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return [tuple(r) for r in rows]

    def run(self, *statements):
        for statement in statements:
            self.ask(statement)

    def _connect(self):
        raise NotImplementedError


class PostgreSQLDatabase(Database):
    def _connect(self):
        import psycopg

        return psycopg.connect(self.url)

    def explain(self, sql):
        """Return the plan of a statement that may not read whole tables."""
        with self._connect() as connection:
            connection.execute("SET enable_seqscan=off")
            return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {sql}"))


@define
class MySQLDatabase(Database):
    server: object = None
    name: str = ""

    def _connect(self):
        import pymysql

        server = self.server
        return _Closing(pymysql.connect(host=server.host, port=server.port, user=server.user, database=self.name))


class DuckDBFile(Database):
    def _connect(self):
        import duckdb

        return _Closing(duckdb.connect(self.url.removeprefix("duckdb:///")))


@define
class _Closing:
    connection: object

    def __enter__(self):
        return self.connection

    def __exit__(self, *_):
        self.connection.close()


def make_postgresql(server):
    name = f"t{secrets.token_hex(6)}"
    database = PostgreSQLDatabase(f"postgresql://{server.user}@{server.host}:{server.port}/postgres", {"schema": name})
    database.run(f"CREATE SCHEMA {name}")
    return database


def make_mysql(server):
    name = f"t{secrets.token_hex(6)}"
    database = MySQLDatabase(f"mysql://{server.user}@{server.host}:{server.port}/{name}", server=server)
    database.run(f"CREATE DATABASE {name}")
    database.name = name
    return database


def make_duckdb(folder):
    return DuckDBFile(f"duckdb:///{folder}/archive.duckdb")


@pytest.fixture
def postgresql_database(postgresql):
    database = make_postgresql(postgresql)
    yield database
    database.run(f"DROP SCHEMA {database.options['schema']} CASCADE")


@pytest.fixture
def postgresql18_database(postgresql18):
    database = make_postgresql(postgresql18)
    yield database
    database.run(f"DROP SCHEMA {database.options['schema']} CASCADE")


@pytest.fixture
def mariadb_database(mariadb):
    database = make_mysql(mariadb)
    yield database
    database.run(f"DROP DATABASE {database.name}")


@pytest.fixture
def mysql_database(mysql):
    database = make_mysql(mysql)
    yield database
    database.run(f"DROP DATABASE {database.name}")


@pytest.fixture
def duckdb_database(tmp_path):
    return make_duckdb(tmp_path)


@pytest.fixture(
    params=[
        "postgresql",
        pytest.param("postgresql18", marks=pytest.mark.optional_server),
        "mariadb",
        pytest.param("mysql", marks=pytest.mark.optional_server),
        "duckdb",
    ]
)
def database(request):
    """Every kind of database in turn."""
    return request.getfixturevalue(f"{request.param}_database")
