"""What the sink does when the server or the network fails."""

import random
import threading
from contextlib import contextmanager

import pymongo
import pytest
from attrs import evolve, field, frozen

from muniment import Context, Counts, FatalError, MunimentError, Secret, TransientError
from muniment.pipeline import run
from muniment.testing import ListSource, make_record
from muniment.testing.records import _ListReader
from muniment.testing.runs import Quiet
from muniment.verification import Inspection
from muniment_plugins.sinks.mongodb import MongoDB
from muniment_plugins.sinks.mongodb.refusals import meaning
from services.proxy import ChaosProxy

GRANT = 'db.grantRolesToUser("<user>", [{role: "readWrite", db: "archive"}])'


def some(count):
    return [make_record(f"c{i}", [f"text {i} " * 20] * 4) for i in range(count)]


@contextmanager
def failing(place, mode, **data):
    """Let commands on the test's own collections fail."""
    place.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
    try:
        yield
    finally:
        place.client.admin.command("configureFailPoint", "failCommand", mode="off")


@frozen(kw_only=True)
class Interrupted(ListSource):
    """A source that calls ``act`` with a record's number before it reads it."""

    act: object = field(default=None, eq=False)

    def open(self, ctx):
        return _InterruptedReader(self)


class _InterruptedReader(_ListReader):
    def read(self, partition, after):
        for number, chunk in enumerate(super().read(partition, after), after or 0):
            self._source.act(number)
            yield chunk


class TestErrors:
    def test_no_server(self):
        """It names the place and what to look at, within the time that was given."""
        sink = MongoDB(uri="mongodb://127.0.0.1:9/?w=1", database="archive", server_selection_timeout_seconds=0.2)

        with pytest.raises(TransientError) as caught:
            sink.open_target(Context(run="r"))
        assert str(caught.value) == (
            "`mongodb://127.0.0.1:9/archive` does not answer (127.0.0.1:9: [Errno 111] Connection refused); check that"
            " the server runs and can be reached, then run again: what was committed stands"
        )

    def test_a_wrong_password(self, place, monkeypatch):
        """It says which options to look at, and holds no password."""
        monkeypatch.setenv("MONGODB_PASSWORD", "hunter2")
        place.db.command("createUser", "archiver", pwd="right", roles=["readWrite"])
        address = place.uri.removeprefix("mongodb://").partition("/")[0]
        sink = MongoDB(
            uri=f"mongodb://archiver@{address}/?authSource={place.name}",
            password=Secret("env:MONGODB_PASSWORD"),
            database=place.name,
        )

        try:
            with pytest.raises(FatalError, match="refuses the user or the password; check the user in `uri`") as caught:
                place.run(some(1), sink=sink)
            assert "hunter2" not in str(caught.value)
            monkeypatch.setenv("MONGODB_PASSWORD", "right")
            assert place.store(some(1), sink=sink).stored == 1
        finally:
            place.db.command("dropUser", "archiver")

    def test_no_tls_on_the_other_side(self, place, tmp_path):
        """The handshake's failure is no mere silence."""
        import ssl

        authorities = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
        with pytest.raises(MunimentError, match=r"TLS|does not answer"):
            place.run(some(1), sink=place.sink(tls_ca_file=authorities, server_selection_timeout_seconds=0.5))

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            (14031, "the disk of `mongodb://h/archive` is full; free some space and run again"),
            (100, "`mongodb://h/archive` has too few members for this `write_concern`; lower it or add members"),
            (12345, "`mongodb://h/archive` refuses an operation (code 12345)"),
        ],
    )
    def test_what_ends_the_run(self, code, message):
        """Each says what to do."""
        error = meaning(pymongo.errors.OperationFailure("text of a document", code), "mongodb://h/archive", "archive")

        assert isinstance(error, FatalError)
        assert str(error).startswith(message) and "document" not in str(error)

    @pytest.mark.parametrize("code", [91, 112, 189, 251, 10107, 11600, 13435])
    def test_what_passes(self, code):
        """A member that stops or steps down is tried again."""
        error = meaning(pymongo.errors.OperationFailure("", code), "mongodb://h/archive", "archive")

        assert isinstance(error, TransientError)

    def test_a_missing_grant(self):
        """The server's text holds the documents of the command: only its name is told."""
        text = 'not authorized on archive to execute command { insert: "conversations", documents: [ { title: "x" } ] }'
        error = meaning(pymongo.errors.OperationFailure(text, 13), "mongodb://h/archive", "archive")

        assert str(error) == (
            "`mongodb://h/archive`: the user may not do `insert` on `conversations`; an administrator grants it with"
            f" `{GRANT}`"
        )

    def test_a_full_disk_leaves_what_was_committed(self, own_mongodb, make_place):
        """The run ends; the next one goes on behind it."""
        place = make_place(own_mongodb().extra["url"])
        records = some(6)
        full = {"failCommands": ["insert", "update"], "errorCode": 14031, "appName": "muniment"}

        def fill():
            place.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=full)

        with pytest.raises(FatalError, match="is full"):
            interrupted(place, records, before(4, fill))
        place.client.admin.command("configureFailPoint", "failCommand", mode="off")
        held = place.db.conversations.count_documents({})
        assert 0 < held < 6

        assert place.store(records) == Counts(read=6 - held, stored=6 - held)


def interrupted(place, records, act, **more):
    """Run with ``act`` called before each record is read."""
    plan = place.plan(records, **more)
    step = evolve(plan.sources[0], component=Interrupted(records=tuple(records), act=act))
    return run(evolve(plan, sources=(step,)), Quiet())


def before(number, act):
    """Return what does something before one record."""
    return lambda at: act() if at == number else None


def check_all(place, records):
    """Everything is stored, once, and the manifests say so."""
    assert {k: r.conversation for k, r in place.stored().items()} == {
        r.conversation.id: r.conversation for r in records
    }
    checkpoint = place.db.checkpoints.find_one()
    assert checkpoint["finished"] and checkpoint["records"] == len(records)
    assert list(place.sink().verify(Context(run="", path="sinks[0]"), Inspection())) == []


class TestNetwork:
    def test_ten_cuts(self, mongodb, place):
        """Connections are reset at random moments: nothing is lost or doubled."""
        self.disturb(mongodb, place, 10)

    @pytest.mark.slow
    def test_a_hundred_cuts(self, mongodb, place):
        """The same, ten times as often."""
        self.disturb(mongodb, place, 100)

    def disturb(self, mongodb, place, cuts):
        chance = random.Random(20260102)
        records = some(cuts * 8)
        chosen = set(chance.sample(range(len(records)), cuts))
        timers = []

        def cut_soon(number):
            if number in chosen:
                # Wherever the sink is by then: looking up, writing, committing, waiting for an answer.
                timers.append(threading.Timer(chance.uniform(0, 0.05), proxy.reset))
                timers[-1].start()

        with ChaosProxy(mongodb.host, mongodb.port) as proxy:
            sink = place.sink(uri=f"mongodb://{proxy.address}/?directConnection=true")
            try:
                report = self.until_it_ends(place, records, cut_soon, sink)
            finally:
                for timer in timers:
                    timer.join()
        assert len(timers) >= cuts
        assert report.sinks["contract"].holds
        check_all(place, records)

    def until_it_ends(self, place, records, act, sink):
        """Run again where a run gave up: that is what the message tells a person to do."""
        for _ in range(20):
            try:
                return interrupted(place, records, act, sink=sink, max_unit_records=3)
            except TransientError:
                continue
        raise AssertionError("no run came to its end")


class TestFailOver:
    def test_of_a_killed_primary(self, own_mongodb_set, make_place):
        """Another member takes over within the run; nothing is lost or doubled."""
        replicas = own_mongodb_set()
        place = make_place(replicas.url)
        records = some(60)

        report = interrupted(place, records, before(31, lambda: replicas.primary().kill()), max_unit_records=10)

        assert report.sinks["contract"] == Counts(read=60, stored=60)
        check_all(place, records)
        secondary = next(m for m in replicas.members if m.is_running and m is not replicas.primary())
        with pytest.raises(MunimentError, match=r"is not the primary of its set.*`replicaSet=...`, no"):
            place.run(some(1), sink=MongoDB(uri=f"mongodb://{secondary.address}/?directConnection=true"))

    @pytest.mark.slow
    def test_of_a_primary_that_stands_still(self, own_mongodb_set, make_place):
        """It answers nothing and closes nothing: its silence is noticed."""
        replicas = own_mongodb_set()
        place = make_place(replicas.url)
        records = some(60)
        still = replicas.primary()
        try:
            report = interrupted(place, records, before(31, still.pause), max_unit_records=10)
        finally:
            still.resume()

        assert report.sinks["contract"] == Counts(read=60, stored=60)
        check_all(place, records)


class TestStandalone:
    def test_stores_everything_without_transactions(self, standalone, make_place):
        """Each write can be repeated, and the checkpoint comes last."""
        place = make_place(standalone)
        records = some(20)

        assert place.store(records) == Counts(read=20, stored=20)
        check_all(place, records)
        assert place.store(records) == Counts(read=20, unchanged=20)

    def test_a_unit_that_was_half_written_is_made_whole(self, standalone, make_place):
        """What the killed attempt has stored counts as unchanged; nothing is doubled."""
        place = make_place(standalone)
        records = some(6)
        sink = place.sink(documents="message")
        place.store(records, sink=sink)
        place.db.checkpoints.delete_many({})
        place.db.conversations.delete_one({"_id": "test:c3"})
        place.db.messages.delete_one({"conversation": "test:c3", "position": 3})

        assert place.store(records, sink=sink) == Counts(read=6, stored=1, unchanged=5)
        assert place.db.messages.count_documents({}) == 24
