"""Fixtures for servers: `postgresql` is shared by the whole test session, `own_postgresql()` belongs to one test.

Those that the chosen tests ask for are started at once, before the first test. A required one that is not on this
machine fails its tests where `CI` is set and skips them elsewhere; the end of the run says which tests did without.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.kinds import KINDS
from services.own import OwnServer, OwnSet
from services.server import BrokenServerError, MissingServerError, Server
from services.session import Session

NO_SERVER = "no server "
PREFIX = "own_"
SESSION = pytest.StashKey[Session]()
T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--optional-servers",
        action="store_true",
        default=bool(os.environ.get("MUNIMENT_OPTIONAL_SERVERS")),
        help="start the servers, too, that take long or much memory",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "optional_server: needs a server that not every machine has")
    given = getattr(config, "workerinput", {}).get("services") or os.environ.get("MUNIMENT_TEST_SERVERS")
    config.stash[SESSION] = Session.join(Path(given)) if given else Session.new()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the servers are."""
    node.workerinput["services"] = str(node.config.stash[SESSION].folder)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SESSION].quit()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        owned = {name.removeprefix(PREFIX) for name in getattr(item, "fixturenames", ())}
        if any(not KINDS[name].required for name in wanted(item) | (owned & KINDS.keys())):
            item.add_marker(pytest.mark.optional_server)


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    names = {name for item in session.items for name in wanted(item) if may_start(config, name)}
    if len(names) < 2 or config.option.collectonly or config.pluginmanager.hasplugin("dsession"):
        return
    with ThreadPoolExecutor(len(names)) as pool:
        for outcome in [pool.submit(config.stash[SESSION].get, name) for name in names]:
            outcome.exception()  # the fixture raises it again, for each test


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [
        report.longrepr[2].partition(NO_SERVER)[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and NO_SERVER in report.longrepr[2]
    ]
    if reasons:
        terminalreporter.section("tests that went without their server", yellow=True)
        for reason, count in sorted(Counter(reasons).items()):
            terminalreporter.write_line(f"{count} skipped: {reason}")


def wanted(item: pytest.Item) -> set[str]:
    """Return the shared servers that a test names, as a fixture or as a parameter for `request.getfixturevalue`."""
    names = set(getattr(item, "fixturenames", ()))
    if "request" in names and (callspec := getattr(item, "callspec", None)):
        names |= {value for value in callspec.params.values() if isinstance(value, str)}
    return names & KINDS.keys()


def may_start(config: pytest.Config, name: str) -> bool:
    """Tell whether this run is meant to have the server."""
    return not KINDS[name].asked_for or bool(config.option.optional_servers)


def shared(name: str) -> Any:
    """Return a fixture for the server that all tests share: make a database or bucket of your own in it."""

    @pytest.fixture(scope="session", name=name)
    def server(request: pytest.FixtureRequest) -> Server:
        session = request.config.stash[SESSION]
        return start(request.config, name, lambda: session.get(name))

    return server


def own(name: str) -> Any:
    """Return a fixture for a function that starts a server to break."""

    @pytest.fixture(name=PREFIX + name)
    def factory(request: pytest.FixtureRequest) -> Iterator[Callable[[], OwnServer]]:
        session = request.config.stash[SESSION]
        started: list[OwnServer] = []

        def begin() -> OwnServer:
            started.append(start(request.config, name, lambda: session.own(name)))
            return started[-1]

        yield begin
        for server in started:
            server.discard()

    return factory


def start(config: pytest.Config, name: str, get: Callable[[], T]) -> T:
    """Return the server, or end the test in the way that suits the server and the place."""
    if not may_start(config, name):
        pytest.skip(f"{NO_SERVER}`{name}`: started only by `make test-optional-servers`")
    try:
        return get()
    except MissingServerError as error:
        if KINDS[name].required and os.environ.get("CI"):
            pytest.fail(NO_SERVER + str(error), pytrace=False)
        pytest.skip(NO_SERVER + str(error))
    except BrokenServerError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def server_session(request: pytest.FixtureRequest) -> Session:
    """All servers of this test session."""
    return request.config.stash[SESSION]


postgresql, own_postgresql = shared("postgresql"), own("postgresql")
mariadb, own_mariadb = shared("mariadb"), own("mariadb")
mongodb, own_mongodb = shared("mongodb"), own("mongodb")
seaweedfs, own_seaweedfs = shared("seaweedfs"), own("seaweedfs")
fake_gcs, own_fake_gcs = shared("fake_gcs"), own("fake_gcs")
gcs_emulator, own_gcs_emulator = shared("gcs_emulator"), own("gcs_emulator")
postgresql18, own_postgresql18 = shared("postgresql18"), own("postgresql18")
mysql, own_mysql = shared("mysql"), own("mysql")
azurite, own_azurite = shared("azurite"), own("azurite")
rclone_s3, own_rclone_s3 = shared("rclone_s3"), own("rclone_s3")
swift_s3, own_swift_s3 = shared("swift_s3"), own("swift_s3")
ceph_s3, own_ceph_s3 = shared("ceph_s3"), own("ceph_s3")


@pytest.fixture
def own_mongodb_set(request: pytest.FixtureRequest) -> Iterator[Callable[[], OwnSet]]:
    """A function that starts a replica set of three, whose members a test may break."""
    session = request.config.stash[SESSION]
    started: list[OwnSet] = []

    def begin() -> OwnSet:
        started.append(start(request.config, "mongodb", lambda: OwnSet.begin(session.own)))
        return started[-1]

    yield begin
    for replicas in started:
        for member in replicas.members:
            member.discard()
