"""What the tests of the sink `mongodb` share: a database of their own, and runs into it."""

import contextlib
import socket
import subprocess
import uuid

import pymongo
import pytest
from attrs import define

from muniment.testing.runs import Quiet, plan_of
from muniment_plugins.sinks.mongodb import MongoDB
from services.document_servers import MongoDB as MongoServer


@define
class Place:
    """A database that a test has for itself; `options` are the sink's."""

    uri: str
    name: str
    client: pymongo.MongoClient
    state_dir: object

    @property
    def db(self):
        return self.client[self.name]

    def sink(self, **options):
        return MongoDB(**{"uri": self.uri, "database": self.name, **options})

    def plan(self, records, sink=None, on_plan_change="keep", **more):
        from attrs import evolve

        plan = plan_of(sink or self.sink(), records, state_dir=self.state_dir, **more)
        return evolve(plan, sinks=(evolve(plan.sinks[0], on_plan_change=on_plan_change),))

    def run(self, records, **more):
        from muniment.pipeline import run

        return run(self.plan(records, **more), Quiet())

    def store(self, records, **more):
        return self.run(records, **more).sinks["contract"]

    def stored(self, sink=None):
        from muniment import Context

        with (sink or self.sink()).open_target(Context(run=f"reader-{uuid.uuid4().hex}")) as target:
            return {r.conversation.id: r for r in target.read_back()}


@pytest.fixture
def make_place(tmp_path):
    """A function that gives a fresh database on a server."""
    made = []

    def make(uri):
        made.append(Place(uri, f"test_{uuid.uuid4().hex[:12]}", pymongo.MongoClient(uri), tmp_path / "state"))
        return made[-1]

    yield make
    for place in made:
        # A test that breaks its own server leaves nothing to drop.
        with place.client as client, contextlib.suppress(pymongo.errors.PyMongoError), pymongo.timeout(5):
            client.drop_database(place.name)


@pytest.fixture
def place(mongodb, make_place):
    return make_place(mongodb.extra["url"])


@pytest.fixture(scope="session")
def standalone(mongodb, tmp_path_factory):
    """The address of a server that is no replica set, so that it has no transactions."""
    folder = tmp_path_factory.mktemp("standalone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        MongoServer().find(), f"--dbpath={folder}", "--bind_ip=127.0.0.1", f"--port={port}",
        f"--unixSocketPrefix={folder}", "--wiredTigerCacheSizeGB=0.25", f"--logpath={folder / 'log'}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        uri = f"mongodb://127.0.0.1:{port}/"
        with pymongo.MongoClient(uri) as client:
            client.admin.command("ping")
        yield uri
    finally:
        process.kill()
        process.wait()
