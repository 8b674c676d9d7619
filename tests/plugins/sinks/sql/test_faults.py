"""What happens when the server says no, or says nothing at all."""

import contextlib
import random
import threading

import pytest

from muniment.components import Context
from muniment.errors import FatalError, PluginError, TargetBusyError, TransientError
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.faults import Faults as Strikes
from muniment.testing.faults import FaultySink, Point
from muniment.testing.runs import NAME, archive
from muniment.units import Batch, Checkpoint, Counts, Unit
from muniment.verification import Inspection
from muniment_plugins.sinks.sql import SQL
from services.proxy import ChaosProxy, Faults

WHERE = r"sinks\[0\] \(contract\)"


@pytest.fixture
def store(tmp_path):
    def store(sink, *records, **more):
        return archive(sink, records, state_dir=tmp_path, **more).sinks[NAME]

    return store


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits of the engine's retries shrink; their number stays."""
    import time

    import muniment.retry

    sleep = time.sleep
    monkeypatch.setitem(muniment.retry.retry.__kwdefaults__, "sleep", lambda seconds: sleep(min(seconds, 0.2)))


def read_ids(sink):
    with sink.open_target(Context(run="reader")) as target:
        return sorted(r.conversation.id for r in target.read_back())


def some(count):
    return [make_record(f"c{i:03}", ["Hello " * 200, f"Hi {i}"]) for i in range(count)]


class TestConnecting:
    def test_a_server_that_is_not_there(self, store, unused_port):
        """The message says where it was looked for."""
        for scheme in ("postgresql", "mysql"):
            sink = SQL(url=f"{scheme}://ada@127.0.0.1:{unused_port}/x", connect_timeout_seconds=2)
            with pytest.raises(TransientError, match=f"{WHERE}: `{scheme}://ada@.*` cannot be reached"):
                store(sink, make_record())

    def test_a_database_that_is_not_there(self, store, postgresql, mariadb):
        """The message says what to do."""
        for server, scheme in ((postgresql, "postgresql"), (mariadb, "mysql")):
            sink = SQL(url=f"{scheme}://{server.user}@{server.host}:{server.port}/nowhere")
            with pytest.raises(
                FatalError, match=f"{WHERE}: .*does not let us in: .*create(d)? the database or role|create it"
            ):
                store(sink, make_record())

    def test_a_wrong_password(self, store, mariadb_database, own_postgresql, monkeypatch):
        """Neither the right nor the wrong one is in the message."""
        monkeypatch.setenv("PASSWORD", "wrong-hunter2")
        mariadb_database.run("CREATE OR REPLACE USER wrongpass@'%' IDENTIFIED BY 'right-hunter2'")
        server = own_postgresql()
        (server.root / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        server.restart()
        urls = (
            mariadb_database.url.replace("root@", "wrongpass@"),
            f"postgresql://postgres@127.0.0.1:{server.port}/postgres",
        )
        for url in urls:
            with pytest.raises(FatalError, match="check the user in `url` and `password`") as caught:
                store(SQL(url=url, password=Secret("env:PASSWORD")), make_record())
            assert "hunter2" not in str(caught.value)

    def test_tls_that_the_server_lacks(self, store, postgresql, mariadb):
        """Nothing is sent in the clear where TLS was asked for."""
        for server, scheme in ((postgresql, "postgresql"), (mariadb, "mysql")):
            sink = SQL(url=f"{scheme}://{server.user}@{server.host}:{server.port}/postgres", sslmode="require")
            with pytest.raises(FatalError, match=f"{WHERE}: .*`sslmode`"):
                store(sink, make_record())

    def test_a_module_that_is_not_installed(self, store, monkeypatch):
        """The message says what to install."""
        import sys

        monkeypatch.delitem(sys.modules, "muniment_plugins.sinks.sql.postgresql", raising=False)
        monkeypatch.setitem(sys.modules, "psycopg", None)

        with pytest.raises(PluginError, match=r'needs the module `psycopg` .*: pip install "muniment\[postgresql\]"'):
            store(SQL(url="postgresql://x/y"), make_record())


class TestRefusals:
    def test_a_second_run_is_refused(self, database):
        """While the first one holds the target."""
        sink = database.sink()
        with sink.open_target(Context(run="one", path="sinks[0]")), pytest.raises(TargetBusyError, match="another run"):
            sink.open_target(Context(run="two", path="sinks[0]"))

    def test_a_run_that_lost_its_place_stores_nothing(self, postgresql_database):
        """The lock went with a connection and another run has begun: the unit is not committed."""
        sink = postgresql_database.sink()
        first = Context(run="one", path="sinks[0]")
        sink.open_target(first).close()
        writer = sink.open(first)
        sink.open_target(Context(run="two", path="sinks[0]")).close()
        writer.write(sink.encode(Batch("p", 1, [make_record()])))

        with pytest.raises(TargetBusyError, match="run `two` has taken over"):
            writer.seal(Unit("one", 1, Checkpoint("p", "f", 1, 1, run="one"), Counts(1, 1)))
        writer.close()
        assert read_ids(sink) == []

    def test_a_read_only_database(self, store, postgresql_database, mariadb_database):
        """It is said at the start."""
        schema = postgresql_database.options["schema"]
        store(postgresql_database.sink(), make_record("c1"))
        role = f"ro_{schema}"
        postgresql_database.run(
            f"CREATE ROLE {role} LOGIN SUPERUSER", f"ALTER ROLE {role} SET default_transaction_read_only=on"
        )
        sink = postgresql_database.sink(url=postgresql_database.url.replace("postgres@", f"{role}@"))
        try:
            with pytest.raises(FatalError, match=f"{WHERE}: .* is read-only"):
                store(sink, make_record("c2"))
        finally:
            postgresql_database.run(f"DROP ROLE {role}")

    def test_a_missing_right_on_the_way(self, store, postgresql_database):
        """With `create: true` the tables are ours; a right that is gone is named when it is needed."""
        schema = postgresql_database.options["schema"]
        store(postgresql_database.sink(), make_record("c1"))
        role = f"r{schema}"
        postgresql_database.run(
            f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}", f"REVOKE INSERT ON {schema}.messages FROM {role}",
        )  # fmt: skip
        sink = postgresql_database.sink(url=postgresql_database.url.replace("postgres@", f"{role}@"))
        try:
            with pytest.raises(FatalError, match="permission denied for table messages; grant the right"):
                store(sink, make_record("c2"))
        finally:
            postgresql_database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    def test_a_record_that_is_too_large(self, store, own_mariadb):
        """Larger than the server takes at once: quarantined alone, with the setting to raise."""
        import pymysql

        server = own_mariadb()
        with pymysql.connect(host=server.host, port=server.port, user="root") as connection:
            connection.cursor().execute("SET GLOBAL max_allowed_packet=4194304")
            connection.cursor().execute("CREATE DATABASE x")
        sink = SQL(url=f"mysql://root@{server.host}:{server.port}/x")
        records = [make_record("c0"), make_record("c1", ["x" * 5_000_000]), make_record("c2")]

        counts = store(sink, *records, chunk_records=3)

        assert counts == Counts(3, 2, quarantined=1)
        assert read_ids(sink) == ["c0", "c2"]


class TestLostConnections:
    @pytest.mark.parametrize("own", ["own_postgresql", "own_mariadb"])
    @pytest.mark.parametrize("step", ["write", "seal"])
    def test_it_goes_on_after_the_server_was_killed(self, own, step, request, store):
        """In the middle of a unit: the run connects anew and makes the unit again."""
        server = request.getfixturevalue(own)()
        sink = own_sink(server)

        def strike(point):
            if point == Point(step, 2):
                server.kill()
                server.restart()

        counts = store(FaultySink(sink=sink, faults=Strikes(strike)), *some(6), max_unit_records=3)

        assert counts == Counts(6, 6)
        assert read_ids(sink) == [f"c{i:03}" for i in range(6)]

    @pytest.mark.parametrize("own", ["own_postgresql", "own_mariadb"])
    def test_it_goes_on_after_the_server_stood_still(self, own, request, store):
        """For longer than `timeout_seconds`."""
        server = request.getfixturevalue(own)()
        sink = own_sink(server, timeout_seconds=1.0, connect_timeout_seconds=2.0)

        def strike(point):
            if point == Point("write", 2):
                server.pause()
                threading.Timer(2.5, server.resume).start()

        counts = store(FaultySink(sink=sink, faults=Strikes(strike)), *some(6), max_unit_records=3)

        assert counts.holds and counts.quarantined == 0
        assert read_ids(sink) == [f"c{i:03}" for i in range(6)]

    def test_a_commit_whose_answer_was_lost_is_not_made_twice(self, postgresql_database, monkeypatch):
        """The unit's row tells that it was committed."""
        sink = postgresql_database.sink()
        ctx = Context(run="one", path="sinks[0]")
        sink.open_target(ctx).close()
        with sink.open(ctx) as writer:
            writer.write(sink.encode(Batch("p", 1, [make_record()])))
            session = writer.connection.session
            commit = session.commit

            def lost():
                commit()
                session.connection.close()
                raise TransientError("lost", retry_after_seconds=0)

            monkeypatch.setattr(session, "commit", lost)
            writer.seal(Unit("one", 1, Checkpoint("p", "f", 1, 1, run="one"), Counts(1, 1)))

        schema = postgresql_database.options["schema"]
        assert postgresql_database.ask(f"SELECT stored_count FROM {schema}.runs WHERE run='one'") == [(1,)]
        assert postgresql_database.ask(f"SELECT count(*) FROM {schema}.units") == [(1,)]

    @pytest.mark.parametrize("name", ["postgresql", "mariadb"])
    @pytest.mark.parametrize("faults", [10, pytest.param(100, marks=pytest.mark.slow)])
    def test_it_survives_random_cuts(self, name, faults, request, store):
        """Connections are reset after random numbers of bytes: nothing is lost, doubled or torn."""
        server, database = (request.getfixturevalue(n) for n in (name, f"{name}_database"))
        chance = random.Random(faults)
        records = some(12)
        with ChaosProxy(server.host, server.port) as proxy:
            sink = database.sink(
                url=database.url.replace(f":{server.port}", f":{proxy.port}"),
                sslmode="disable",
                index="none",
                connect_timeout_seconds=5,
            )
            cuts = number = 0
            while cuts < faults:
                proxy.faults = Faults(direction="up", cut_after=chance.randrange(500, 60_000))
                number += 1
                new = make_record(f"n{number:03}")
                records.append(new)
                with contextlib.suppress(TransientError, FatalError):
                    store(sink, *records, chunk_records=3, max_unit_records=4)
                cuts = proxy.cuts
            proxy.faults = Faults()
            counts = store(sink, *records, chunk_records=3)

        assert counts.holds and counts.quarantined == 0
        assert read_ids(database.sink()) == sorted(r.conversation.id for r in records)
        assert list(database.sink().verify(Context(run="", path="sinks[0]"), Inspection())) == []


def own_sink(server, **options):
    if server.name == "mariadb":
        import pymysql

        with pymysql.connect(host=server.host, port=server.port, user="root") as connection:
            connection.cursor().execute("CREATE DATABASE IF NOT EXISTS x")
        return SQL(url=f"mysql://root@{server.host}:{server.port}/x", **options)
    return SQL(url=f"postgresql://postgres@{server.host}:{server.port}/postgres", **options)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
