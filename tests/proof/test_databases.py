"""`verify` finds what was done to an archive in a database, and raises no false alarm."""

import secrets
from contextlib import contextmanager

import pytest
from attrs import evolve

from muniment import Rejected, TargetBusyError
from muniment.components import Context
from muniment.manifest import Manifest
from muniment.model import Origin
from muniment.proof import SignedHead, SigningKey
from muniment.testing import make_record
from muniment.testing.records import changed
from muniment.units import Batch, Checkpoint, Counts, Unit
from muniment.verification import Inspection, Sample
from muniment_plugins.sinks.mongodb import MongoDB
from muniment_plugins.sinks.mongodb.manifests import ManifestCollections
from muniment_plugins.sinks.sql import SQL


@pytest.fixture
def postgresql_place(postgresql, databases):
    """A store and a sink of one schema."""
    import psycopg
    from psycopg.types.json import Jsonb

    url = f"postgresql://{postgresql.user}@{postgresql.host}:{postgresql.port}/postgres"
    name = f"t{secrets.token_hex(6)}"

    @contextmanager
    def connect():
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    with connect() as connection:
        connection.execute(f"CREATE SCHEMA {name}")

    def adapt(value):
        return Jsonb(value) if isinstance(value, dict | list) else value

    yield databases.SQLStore(connect, name, adapt=adapt), SQL(url=url, schema=name)
    with connect() as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def mariadb_place(mariadb, databases):
    import pymysql

    name = f"t{secrets.token_hex(6)}"

    @contextmanager
    def connect(database=name):
        connection = pymysql.connect(host=mariadb.host, port=mariadb.port, user=mariadb.user, database=database)
        try:
            yield connection
        finally:
            connection.close()

    with connect("mysql") as connection:
        connection.cursor().execute(f"CREATE DATABASE {name}")
    url = f"mysql://{mariadb.user}@{mariadb.host}:{mariadb.port}/{name}"
    yield databases.SQLStore(connect, quote="`"), SQL(url=url)
    with connect() as connection:
        connection.cursor().execute(f"DROP DATABASE {name}")


@pytest.fixture
def duckdb_place(tmp_path, databases):
    import duckdb

    path = tmp_path / "archive.duckdb"

    @contextmanager
    def connect():
        with duckdb.connect(str(path)) as connection:
            yield connection

    return databases.SQLStore(connect, mark="?"), SQL(url=f"duckdb:///{path}")


def mongodb_places(server, databases, documents):
    import pymongo

    name = f"proof_{secrets.token_hex(6)}"
    with pymongo.MongoClient(server.extra["url"]) as client:
        sink = MongoDB(uri=server.extra["url"], database=name, documents=documents)
        yield databases.MongoStore(client[name]), sink
        client.drop_database(name)


@pytest.fixture
def mongodb_place(mongodb, databases):
    yield from mongodb_places(mongodb, databases, "conversation")


@pytest.fixture
def mongodb_messages_place(mongodb, databases):
    yield from mongodb_places(mongodb, databases, "message")


@pytest.fixture(params=["postgresql", "mariadb", "duckdb", "mongodb", "mongodb_messages"])
def place(request):
    return request.getfixturevalue(f"{request.param}_place")


@pytest.fixture
def store(place):
    return place[0]


@pytest.fixture
def sink(place):
    return place[1]


@pytest.fixture
def archive(archives, sink):
    """Return a function that runs records into the sink."""

    def archive(*records, into=None, assets=None):
        archives.archive(into or sink, list(records), assets or {}, max_unit_records=2)

    return archive


@pytest.fixture
def verify(archives, sink):
    """Return a function that verifies, and gives (kind, where) of what is wrong."""

    def verify(of=None, **asked):
        return [(f.kind, f.where) for f in archives.verify(of or sink, **asked)]

    return verify


@pytest.fixture
def put(sink):
    """Return a function that stores records as one unit of a run of its own."""

    def put(run, *records, ended=True, **context):
        ctx = Context(run=run, path="sinks[0]", **context)
        checkpoint = Checkpoint("list", "f", len(records), 1, ended, len(records), ctx.plan_hash, run)
        counts = Counts(len(records), len(records))
        with sink.open_target(ctx) as target:
            with sink.open(ctx) as writer:
                writer.write(sink.encode(Batch("list", 1, list(records))))
                writer.seal(Unit(run, 1, checkpoint, counts))
            if ended:
                target.end_run(run, 0, counts)

    return put


def manifests(sink):
    files = dict(sink.proof_files(Context(run="", path="sinks[0]")))
    return [Manifest.from_json(data) for name, data in sorted(files.items()) if name.startswith("manifests/")]


class TestManifests:
    def test_they_say_what_was_stored_and_how_the_run_ended(self, archive, sink, verify):
        """One for each unit, one for the end; a hand-over has all of them."""
        archive(*(make_record(f"c{i}") for i in range(3)))

        files = dict(sink.proof_files(Context(run="", path="sinks[0]")))
        made = manifests(sink)

        assert [m.records.get("count") for m in made] == [2, 1, None]
        assert (made[-1].report["exit_code"], made[-1].report["counts"]["stored"]) == (0, 3)
        assert len(files["receipts.jsonl"].splitlines()) == 3
        assert SignedHead.parse(files["checkpoint"]).head.size == 3

    def test_a_run_without_news_adds_no_end(self, archive, sink, verify):
        """The second run stores nothing."""
        archive(make_record())
        before = manifests(sink)
        archive(make_record())

        assert manifests(sink) == before
        assert verify() == []

    def test_the_number_is_the_fence(self, archive, sink):
        """Of two runs that would write the same manifest one fails."""
        archive(make_record())
        ctx = Context(run="second", path="sinks[0]")
        with sink.open_target(ctx) as target:
            kept = target.connection.stored if isinstance(sink, SQL) else ManifestCollections(target._connection)
            with pytest.raises(TargetBusyError, match="another run has written manifest 2") as caught:
                kept.add(kept.entry(2))

        assert caught.value.exit_code == 11

    def test_the_signature_is_checked(self, archive, sink, verify, databases, tmp_path):
        """With another key, or an older copy, it is not what was signed."""
        signed = evolve(sink, proof=databases.archives._secret(tmp_path))
        archive(make_record("c1"), into=signed)
        inspection = Inspection()
        assert list(signed.verify(Context(run="", path="sinks[0]"), inspection)) == []
        archive(make_record("c2"), into=signed)
        other = SigningKey("example.org/other", b"\x08" * 32).verifier

        assert inspection.is_signed
        assert verify(signed, public_key=databases.archives.KEY.verifier, since=inspection.head) == []
        assert ("unsigned", "checkpoint") in verify(signed, public_key=other)

    def test_another_archive_is_told_apart(self, archive, verify, store):
        """A checkpoint of before does not fit an archive that was made anew."""
        archive(make_record("c1"))
        empty = {t: [] for t in store.dump()}
        kept = SignedHead.parse(store.read("manifests")[-1]["checkpoint"].encode()).head
        store.restore(empty, store.dump())
        archive(make_record("c1"))

        assert verify() == []
        assert [kind for kind, _ in verify(since=kept)] == ["swapped"]


class TestSound:
    def test_after_another_plan(self, put, verify):
        """A state that a rewrite took away, one that stands beside the new one."""
        old, new = make_record("c1", ["one", "two"]), make_record("c2", ["one"])
        put("r1", old, new, plan_hash="p1")
        put("r2", changed(old), new, plan_hash="p1")
        assert verify() == []
        put("r3", changed(old, title="Other"), new, plan_hash="p2", on_plan_change="new_version")
        assert verify() == []
        put("r4", changed(old, title="Another"), plan_hash="p3", on_plan_change="rewrite")

        assert verify() == []

    def test_after_a_conversation_that_came_thrice_at_once(self, put, verify):
        """Its states of one unit have receipts, too."""
        first = make_record("c1", ["one"])
        second = changed(first, title="Second")
        put("r1", first, second, changed(second, title="Third"), make_record("c2"))

        assert verify() == []

    def test_after_a_run_that_was_killed(self, put, archive, verify):
        """Its units stand; the next run goes on."""
        records = [make_record(f"c{i}") for i in range(5)]
        put("killed", *records[:2], ended=False)
        assert verify() == []
        archive(*records)

        assert verify() == []

    def test_with_a_quarantined_record(self, archive, verify, store):
        """Its entry is what the manifest says."""
        archive(make_record("c1"), Rejected(Origin("export", "list", 1, 2, "ab"), "decode", "no id", ""))
        assert verify() == []
        (entry,) = store.read("quarantine")
        store.write("quarantine", [{**entry, "reason": "other"}])

        assert [kind for kind, _ in verify()] == ["changed"]

    def test_after_a_repair(self, put, verify, store, sink):
        """What was gone or damaged and is stored again counts as what it is now."""
        records = [make_record(f"c{i}") for i in range(4)]
        put("r1", *records, plan_hash="p")
        rows = store.read(store.records)
        rows[0][store.blob] = rows[0][store.blob][:-1] + b"x"
        del rows[2]
        store.write(store.records, rows)
        keys = [f"test:c{i}" for i in range(4)]
        assert sorted(kind for kind, _ in verify() if kind != "extra") == ["changed", "missing"]
        with sink.open_target(Context(run="repair", plan_hash="p", path="sinks[0]")) as target:
            target.forget(keys[2:3], keys[:1], ())
        put("r2", *records, plan_hash="p")

        assert verify() == []

    def test_of_a_sample(self, archive, verify, sink):
        """Only so many records are read; all manifests are checked."""
        archive(*(make_record(f"c{i}") for i in range(6)))
        inspection = Inspection(sample=Sample(count=2))

        assert list(sink.verify(Context(run="", path="sinks[0]"), inspection)) == []
        assert (inspection.records, inspection.skipped, inspection.manifests) == (2, 4, 5)


class TestOlder:
    def test_an_archive_without_manifests_gets_a_first_one(self, archive, verify, store, sink):
        """It says what the archive holds now; before, nothing can be proved."""
        record = make_record("c1", ["one"])
        archive(record, make_record("c2"))
        archive(changed(record, title="Newer"))
        store.forget_manifests()
        assert verify() == []
        assert verify(since=SignedHead.parse(b"muniment/log/a\n1\n" + b"A" * 43 + b"=\n\n").head) != []
        archive(make_record("c3"))

        first = manifests(sink)[0]
        assert verify() == []
        assert (first.report["adopted"], first.records["count"]) == (3, 3)


class TestVerify:
    def test_it_finds_a_few_mutations(self, databases, place):
        """Of what chance does to an archive all is found; of the archive as each run left it nothing."""
        tally = databases.run(*place, rounds=12, seed=20260103, tally=databases.Tally())

        assert (tally.alarms, tally.missed, tally.found) == ([], [], 12)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_it_finds_many_mutations(self, databases, place, seed):
        """Thirty in each of three archives."""
        tally = databases.run(*place, rounds=30, seed=seed, tally=databases.Tally())

        assert (tally.alarms, tally.missed, tally.found) == ([], [], 30)
