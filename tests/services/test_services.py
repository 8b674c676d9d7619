"""The servers that tests run against: each answers, keeps what it was given, and ends with the session."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from services.keeper import runs, tree
from services.kinds import KINDS
from services.session import Session

REQUIRED = [name for name, recipe in KINDS.items() if recipe.required]
CHEAP = [name for name, recipe in KINDS.items() if not recipe.asked_for]


class Sql:
    """A table in a server that SQLAlchemy knows."""

    def __init__(self, server):
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        self.engine = create_engine(server.extra["url"], poolclass=NullPool)
        self.schema = "" if server.extra["url"].startswith("postgresql") else "kept."

    def put(self, text):
        with self.engine.begin() as connection:
            if self.schema:
                connection.exec_driver_sql("create database if not exists kept")
            connection.exec_driver_sql(f"create table if not exists {self.schema}kept_text (t text)")
            connection.exec_driver_sql(f"insert into {self.schema}kept_text values (%s)", (text,))

    def get(self):
        with self.engine.begin() as connection:
            return connection.exec_driver_sql(f"select t from {self.schema}kept_text").scalars().all()


class Mongo:
    """A collection."""

    def __init__(self, server):
        self.url = server.extra["url"]

    def _collection(self, client):
        from pymongo.write_concern import WriteConcern

        return client.kept.get_collection("text", write_concern=WriteConcern(w="majority", j=True))

    def put(self, text):
        import pymongo

        with pymongo.MongoClient(self.url) as client, client.start_session() as session, session.start_transaction():
            self._collection(client).insert_one({"t": text}, session=session)

    def get(self):
        import pymongo

        with pymongo.MongoClient(self.url) as client:
            return [each["t"] for each in self._collection(client).find()]


class S3:
    """A bucket."""

    def __init__(self, server):
        import boto3
        from botocore.config import Config

        self.client = boto3.client(
            "s3",
            endpoint_url=server.extra["endpoint"],
            aws_access_key_id=server.user,
            aws_secret_access_key=server.password,
            region_name=server.extra["region"],
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def put(self, text):
        self.client.create_bucket(Bucket="kept")
        self.client.put_object(Bucket="kept", Key="text", Body=text.encode())

    def get(self):
        return [self.client.get_object(Bucket="kept", Key="text")["Body"].read().decode()]


class Gcs:
    """A bucket."""

    def __init__(self, server):
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        endpoint = {"api_endpoint": server.extra["endpoint"]}
        self.client = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=endpoint)

    def put(self, text):
        self.client.create_bucket("kept").blob("text").upload_from_string(text)

    def get(self):
        return [self.client.bucket("kept").blob("text").download_as_bytes().decode()]


class Azure:
    """A container."""

    def __init__(self, server):
        from azure.storage.blob import BlobServiceClient

        service = BlobServiceClient.from_connection_string(server.extra["connection_string"])
        self.container = service.get_container_client("kept")

    def put(self, text):
        self.container.create_container()
        self.container.upload_blob("text", text.encode())

    def get(self):
        return [self.container.download_blob("text").readall().decode()]


CLIENTS = {
    **dict.fromkeys(["postgresql", "postgresql18", "mariadb", "mysql"], Sql),
    **dict.fromkeys(["seaweedfs", "rclone_s3", "swift_s3", "ceph_s3"], S3),
    **dict.fromkeys(["fake_gcs", "gcs_emulator"], Gcs),
    "mongodb": Mongo,
    "azurite": Azure,
}


def listening(pid):
    """Return the addresses that a process and its children listen on, as /proc writes them, by port."""
    own = {os.readlink(link) for each in tree(pid) for link in Path(f"/proc/{each}/fd").iterdir()}
    tables = [path.read_text() for path in Path("/proc/net").glob("tcp*")]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    mine = [line[1].split(":") for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own]
    return {int(port, 16): address for address, port in mine}


class TestServers:
    @pytest.mark.parametrize("name", KINDS)
    def test_answer(self, name, request):
        """Each keeps what its own client gives it."""
        client = CLIENTS[name](request.getfixturevalue(f"own_{name}")())

        client.put("täxt")

        assert client.get() == ["täxt"]

    @pytest.mark.parametrize("name", CHEAP)
    def test_are_shared(self, name, request):
        """Whoever asks again gets the same one."""
        server = request.getfixturevalue(name)

        assert (server.name, runs(server.pid)) == (name, True)
        assert request.getfixturevalue("server_session").get(name) == server

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only /proc says who listens")
    @pytest.mark.parametrize("name", CHEAP)
    def test_listen_on_the_loopback_alone(self, name, request):
        """Nobody else on the network meets a server without a password."""
        server = request.getfixturevalue(name)
        addresses = listening(server.pid)

        assert server.port in addresses
        assert set(addresses.values()) == {"0100007F"}


class TestOwnServers:
    @pytest.mark.parametrize("name", CHEAP)
    def test_keep_what_they_acknowledged_when_killed(self, name, request):
        """They come back on the same port, with the data."""
        server = request.getfixturevalue(f"own_{name}")()
        CLIENTS[name](server).put("kept")
        pid, port = server.pid, server.port

        server.kill()
        assert not runs(pid)
        server.restart()

        assert server.pid != pid
        assert server.port == port
        assert CLIENTS[name](server).get() == ["kept"]

    def test_stand_still_when_paused(self, own_postgresql):
        """A paused one says nothing, and goes on where it stood."""
        server = own_postgresql()
        client = Sql(server)
        client.put("a")

        server.pause()
        asking = subprocess.Popen(
            [Path(server.extra["programs"], "pg_isready"), "-q", "-t", "1", "-h", server.host, "-p", str(server.port)]
        )
        assert asking.wait() == 2
        server.resume()

        assert client.get() == ["a"]

    def test_are_gone_after_the_test(self, server_session):
        """Processes and data."""
        server = server_session.own("fake_gcs")

        server.discard()

        assert (runs(server.pid), server.root.exists(), server.is_running) == (False, False, False)


class TestReplicaSet:
    def test_survives_its_primary(self, own_mongodb_set):
        """Another member takes over, with all that a majority has."""
        import pymongo

        replicas = own_mongodb_set()
        with pymongo.MongoClient(replicas.url) as client:
            texts = client.kept.get_collection("text", write_concern=pymongo.WriteConcern(w="majority"))
            texts.insert_one({"t": "before"})
            first = replicas.primary()

            first.kill()
            texts.insert_one({"t": "after"})

            assert replicas.primary().port != first.port
            assert [each["t"] for each in texts.find().sort("_id")] == ["before", "after"]


class TestSession:
    START = textwrap.dedent("""
        import os, signal, sys, time, types
        # Whoever runs the tests in the background of a shell may have it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path[:0] = [{tests!r}]
        from services.session import Session
        session = Session.new()
        server = session.get("fake_gcs")
        print(session.folder, server.pid, flush=True)
        {then}
    """)

    def begin(self, then):
        program = self.START.format(tests=str(Path(__file__).parents[1]), then=then)
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        with process.stdout as output:
            folder, pid = output.readline().split()
        return process, Path(folder), int(pid)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_servers_end_with_their_owner(self, number):
        """However it dies."""
        process, folder, pid = self.begin("time.sleep(60)")
        assert runs(pid)

        process.send_signal(number)
        process.wait()

        wait_until(lambda: not runs(pid) and not folder.exists())

    def test_servers_end_when_it_is_told_to_quit(self):
        """And `quit` returns when they are gone."""
        session = Session.new()
        server = session.get("fake_gcs")

        session.quit()

        assert (runs(server.pid), session.folder.exists()) == (False, False)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children of a parent's death")
    def test_servers_end_with_their_keeper(self):
        """Even when nobody can end them any more."""
        session = Session.new()
        server = session.get("fake_gcs")
        keeper = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])

        os.kill(keeper, signal.SIGKILL)

        wait_until(lambda: not runs(server.pid))
        session.quit()


class TestPlugin:
    CONFTEST = """
        import sys, types
        services = sys.modules["services"] = types.ModuleType("services")
        services.__path__ = [{folder!r}]
        pytest_plugins = ["services.fixtures"]
    """

    def run(self, tmp_path, test, *options, **env):
        folder = str(Path(__file__).parent)
        (tmp_path / "conftest.py").write_text(textwrap.dedent(self.CONFTEST.format(folder=folder)))
        (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
        cleaned = {key: value for key, value in os.environ.items() if key not in ("CI", "MUNIMENT_TEST_SERVERS")}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *options, str(tmp_path)]
        done = subprocess.run(command, env={**cleaned, **env}, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout

    HIDDEN = """
        import services.fixtures
        from services.kinds import KINDS

        class Hidden(type(KINDS["mariadb"])):
            def find(self):
                raise self.missing("no `mariadbd` on this machine")

        KINDS["mariadb"] = Hidden()

        def test_one(mariadb): ...
        def test_two(own_mariadb): own_mariadb()
    """

    def test_says_which_tests_went_without(self, tmp_path):
        """Not on this machine, and no CI: a skip that nobody overlooks."""
        out = self.run(tmp_path, self.HIDDEN)

        assert "2 skipped: `mariadb`: no `mariadbd` on this machine; run `python tests/services/manage.py" in out
        assert "2 skipped in" in out

    def test_fails_in_ci(self, tmp_path):
        """A green run there means that they ran."""
        assert "1 failed, 1 error in" in self.run(tmp_path, self.HIDDEN, CI="true")

    def test_leaves_costly_ones_to_those_who_ask(self, tmp_path):
        """And says how to ask."""
        out = self.run(tmp_path, "def test_it(mysql): ...")

        assert "1 skipped: `mysql`: started only by `make test-optional-servers`" in out

    def test_shares_servers_between_workers(self, tmp_path):
        """One server for all of them, which ends when the last test has."""
        test = """
            import pytest
            from pathlib import Path

            @pytest.mark.parametrize("number", range(4))
            def test_it(number, fake_gcs):
                with open("pids", "a") as file:
                    print(fake_gcs.pid, file=file)
        """
        out = self.run(tmp_path, test, "-n", "2")
        pids = (tmp_path / "pids").read_text().split()

        assert "4 passed" in out
        assert len(pids) == 4
        assert len(set(pids)) == 1
        assert not runs(int(pids[0]))


def wait_until(holds):
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)
