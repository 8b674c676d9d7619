"""What people find in the tables: rows that can be queried, search, versions, partitions."""

import hashlib
from datetime import UTC, datetime

import pytest

from muniment.model import (
    Asset,
    FilePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from muniment.testing import make_record
from muniment.testing.records import TIME, changed, make_asset
from muniment.testing.runs import NAME, archive


@pytest.fixture
def store(tmp_path):
    """Run records into a sink; return the counts."""

    def store(sink, *records, **more):
        return archive(sink, records, state_dir=tmp_path, **more).sinks[NAME]

    return store


def table(database, name):
    schema = database.options.get("schema")
    return f"{schema}.{name}" if schema else name


def rich_record():
    asset = make_asset(b"picture", "file-1", name="a.png", mime_type="image/png")
    messages = (
        Message(id="q", role="user", parts=(FilePart("file-1", "image"), TextPart("What is this?")), created_at=TIME),
        Message(
            id="a", role="assistant", parent_id="q", model="model-1", usage={"output_tokens": 3},
            parts=(ReasoningPart("Hmm"), ToolCallPart("look", {"deep": [1]}), TextPart("print(1)", "code")),
        ),
        Message(id="b", role="assistant", parent_id="q", parts=(TextPart("A cat.\n\\t 'quoted' \"too\""),)),
    )  # fmt: skip
    return make_record("c1", [], title="A cat", messages=messages, assets=(asset,), current="b", metadata={"k": [1]})


class TestRows:
    def test_it_holds_messages_as_rows(self, database, store):
        """Role, order, text, time and the visible path stand in columns of their own."""
        store(database.sink(), rich_record(), assets={hashlib.sha256(b"picture").hexdigest(): b"picture"})

        rows = database.ask(
            f"SELECT m.position, m.id, m.parent_id, m.role, m.text, m.visible FROM {table(database, 'messages')} m"
            f" JOIN {table(database, 'conversations')} c ON c.no = m.conversation WHERE c.id = 'c1' ORDER BY m.position"
        )

        assert [(*r[:5], bool(r[5])) for r in rows] == [
            (0, "q", None, "user", "What is this?", True),
            (1, "a", "q", "assistant", 'Hmm\n\n{"deep":[1]}\n\nprint(1)', False),
            (2, "b", "q", "assistant", "A cat.\n\\t 'quoted' \"too\"", True),
        ]

    def test_it_holds_times_with_microseconds(self, database, store):
        """In UTC, whatever the time zone of this machine or the server."""
        store(database.sink(), make_record("c1"))

        (time,) = database.ask(f"SELECT created_at FROM {table(database, 'conversations')}")[0]

        assert time.replace(tzinfo=UTC) == TIME == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def test_it_holds_what_text_does_not_say(self, database, store):
        """A part that is not plain text alone has a row with its JSON; assets stand beside."""
        store(database.sink(), rich_record(), assets={hashlib.sha256(b"picture").hexdigest(): b"picture"})

        parts = database.ask(
            f"SELECT message, position, type, kind, file_id FROM {table(database, 'parts')} ORDER BY message, position"
        )
        assets = database.ask(f"SELECT id, name, mime_type, size FROM {table(database, 'assets')}")
        data = database.ask(f"SELECT data FROM {table(database, 'asset_chunks')}")

        assert parts == [
            (0, 0, "file", "", "file-1"), (0, 1, "text", "", None), (1, 0, "reasoning", "", None),
            (1, 1, "tool_call", "", None), (1, 2, "text", "code", None),
        ]  # fmt: skip
        assert assets == [("file-1", "a.png", "image/png", 7)]
        assert bytes(data[0][0]) == b"picture"

    def test_it_shows_conversations_in_a_view(self, database, store):
        """`transcript` joins what most people want."""
        store(database.sink(), make_record("c1", ["Hello", "Hi"], title="A talk"))

        rows = database.ask(f"SELECT title, role, text FROM {table(database, 'transcript')} ORDER BY position")

        assert rows == [("A talk", "user", "Hello"), ("A talk", "assistant", "Hi")]

    def test_it_replaces_what_columns_cannot_hold(self, database, store):
        """NUL and lone surrogates become U+FFFD in columns; the record keeps them."""
        store(database.sink(), make_record("c1", ["a\0b\ud83d"], title="t\0", metadata={"k\0": "\ud800"}))

        assert database.ask(f"SELECT text FROM {table(database, 'messages')}") == [("a\ufffdb\ufffd",)]
        assert database.ask(f"SELECT title FROM {table(database, 'conversations')}") == [("t\ufffd",)]

    def test_it_keeps_earlier_versions(self, database, store):
        """A merged record has its rows replaced and stands in `versions` as it was."""
        old = make_record("c1", ["Hello", "Hi"])
        new = make_record("c1", ["Hello", "Hi", "More"], title="New", updated_at=TIME.replace(year=2027))
        store(database.sink(), make_record("c0"), old)
        store(database.sink(), new, make_record("c2"))

        rows = database.ask(
            f"SELECT c.no, c.id, c.title, count(*) FROM {table(database, 'conversations')} c"
            f" JOIN {table(database, 'messages')} m ON m.conversation = c.no GROUP BY c.no, c.id, c.title ORDER BY c.no"
        )
        assert rows == [(1, "c0", "A talk", 2), (2, "c1", "New", 3), (3, "c2", "A talk", 2)]
        versions = database.ask(f"SELECT no, version, position, source_hash FROM {table(database, 'versions')}")
        assert versions == [(2, 1, 0, old.source_hash)]

    def test_it_keeps_large_records_whole(self, database, store, tmp_path):
        """What is larger than one piece comes back, also from `versions`' source after a merge."""
        import random

        noise = random.Random(1).randbytes(3 * 2**20).hex()
        old = make_record("c1", [noise], raw=False)
        new = make_record("c1", [noise, "More"], raw=False, updated_at=TIME.replace(year=2027))
        store(database.sink(), old)
        assert store(database.sink(), new).stored == 1

        assert database.ask(f"SELECT max(position) FROM {table(database, 'versions')}")[0][0] >= 2
        from muniment.components import Context

        with database.sink().open_target(Context(run="reader")) as target:
            (record,) = target.read_back()
        assert record.conversation == new.conversation

    def test_it_notes_runs_units_and_checkpoints(self, database, store):
        """The ledger stands beside the data and says what was counted."""
        records = [make_record(f"c{i}") for i in range(3)]
        store(database.sink(), *records)

        runs = database.ask(f"SELECT exit_code, stored_count FROM {table(database, 'runs')}")
        units = database.ask(f"SELECT unit, stored_count FROM {table(database, 'units')} ORDER BY unit")

        assert runs == [(0, 3)]
        assert units == [(1, 2), (2, 1)]


class TestPlanChange:
    @pytest.mark.parametrize(
        ("policy", "versions", "text"),
        [("keep", 0, "secret"), ("new_version", 1, "[hidden]"), ("rewrite", 0, "[hidden]")],
    )
    def test_it_does_as_it_is_told(self, database, tmp_path, policy, versions, text):
        """With another plan `keep` leaves records, `new_version` keeps the old beside, `rewrite` removes it."""
        from muniment.components import Context
        from muniment.units import Batch, Checkpoint, Counts, Unit

        sink = database.sink()
        secret = make_record("c1", ["secret"])
        hidden = changed(secret, messages=(Message(id="m0", role="user", parts=(TextPart("[hidden]"),)),))
        hidden = type(hidden)(conversation=hidden.conversation, origin=hidden.origin, source_hash=secret.source_hash)
        for number, record in enumerate((secret, hidden), 1):
            ctx = Context(run=f"r{number}", plan_hash=f"p{number}", on_plan_change=policy)
            with sink.open_target(ctx), sink.open(ctx) as writer:
                writer.write(sink.encode(Batch("p", 1, [record])))
                checkpoint = Checkpoint("p", "f", number, number, run=ctx.run)
                writer.seal(Unit(ctx.run, number, checkpoint, Counts(1, 1)))

        assert database.ask(f"SELECT text FROM {table(database, 'messages')}") == [(text,)]
        assert database.ask(f"SELECT count(*) FROM {table(database, 'versions')}") == [(versions,)]


class TestDamage:
    def test_what_cannot_be_read_is_told_and_replaced(self, database, store):
        """A survey goes on behind it; once it is forgotten, the next write puts it right."""
        from muniment.components import Context
        from muniment.errors import InputError

        sink = database.sink()
        store(sink, make_record("c1"), make_record("c2"))
        kind = database.url.partition(":")[0]
        bytes_ = {"postgresql": "'\\xabcd'", "mysql": "0xabcd", "duckdb": "'\\xAB\\xCD'::BLOB"}[kind]
        database.run(f"UPDATE {table(database, 'records')} SET data = {bytes_} WHERE no = 1")
        told = []
        with sink.open_target(Context(run="reader")) as target:
            assert [r.conversation.id for r in target.survey(told.append)] == ["c2"]
            with pytest.raises(InputError, match="`records/1` is damaged"):
                list(target.read_back())
            target.forget(["test:c1"], (), ())

        assert told[0].keys == ("test:c1",)
        assert store(sink, make_record("c1"), make_record("c3")).stored == 2
        with sink.open_target(Context(run="reader")) as target:
            assert [r.conversation.id for r in target.read_back()] == ["c1", "c2", "c3"]


class TestSearch:
    def test_postgresql_finds_words(self, postgresql_database, store):
        """By an index, once there is enough to search."""
        schema = postgresql_database.options["schema"]
        store(postgresql_database.sink(), make_record("c1", ["A green parrot", "In a cage"]))
        query = (
            f"SELECT id FROM {schema}.messages WHERE {schema}.muniment_words(text)"
            " @@ websearch_to_tsquery('simple', 'parrot green')"
        )

        assert postgresql_database.ask(query) == [("m0",)]
        assert "messages_words" in postgresql_database.explain(query)

    def test_postgresql_finds_any_substring(self, postgresql_database, store):
        """With `index: trigram`, by its index."""
        schema = postgresql_database.options["schema"]
        store(postgresql_database.sink(index="trigram"), make_record("c1", ["A green parrot"]))

        plan = postgresql_database.explain(f"SELECT 1 FROM {schema}.messages WHERE text ILIKE '%arro%'")

        assert "messages_trigram" in plan

    def test_a_text_that_is_too_long_for_the_index_is_stored(self, postgresql_database, store):
        """PostgreSQL takes no more than 1 MB of words of a text; the rest is stored, but not found."""
        words = " ".join(f"w{i:x}ü" for i in range(400_000))
        sink = postgresql_database.sink()
        store(sink, make_record("c0", ["short"]))

        assert store(sink, make_record("c1", [words])).stored == 1

    @pytest.mark.parametrize("name", ["mariadb", pytest.param("mysql", marks=pytest.mark.optional_server)])
    def test_mysql_finds_words(self, name, request, store):
        """By a full-text index."""
        database = request.getfixturevalue(f"{name}_database")
        store(database.sink(), make_record("c1", ["A green parrot", "In a cage"]))

        found = database.ask("SELECT id FROM messages WHERE MATCH(text) AGAINST ('+parrot +green' IN BOOLEAN MODE)")

        assert found == [("m0",)]

    def test_none_makes_no_index(self, postgresql_database, store):
        """`index: none` leaves searching to the owner of the database."""
        store(postgresql_database.sink(index="none"), make_record("c1"))
        schema = postgresql_database.options["schema"]

        names = postgresql_database.ask("SELECT indexname FROM pg_indexes WHERE schemaname=%s", (schema,))

        assert ("messages_words",) not in names


class TestPartitions:
    def test_it_keeps_each_month_by_itself(self, postgresql_database, store):
        """A partition is created when the first conversation of its month comes; without a time, the rest."""
        schema = postgresql_database.options["schema"]
        sink = postgresql_database.sink(partition_by="month")
        months = [datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), None]

        store(sink, *[make_record(f"c{i}", created_at=t) for i, t in enumerate(months)])

        rows = postgresql_database.ask(f"SELECT tableoid::regclass::text, count(*) FROM {schema}.messages GROUP BY 1")
        assert sorted(rows) == [
            (f"{schema}.messages_2025_12", 2), (f"{schema}.messages_2026_01", 2), (f"{schema}.messages_rest", 2),
        ]  # fmt: skip

    def test_a_month_may_change(self, postgresql_database, store):
        """A conversation that turns out to be older moves."""
        schema = postgresql_database.options["schema"]
        sink = postgresql_database.sink(partition_by="month")
        store(sink, make_record("c1", created_at=None))
        store(sink, make_record("c1", ["Hello", "Hi there", "More"], updated_at=TIME.replace(year=2027)))

        rows = postgresql_database.ask(f"SELECT tableoid::regclass::text, count(*) FROM {schema}.messages GROUP BY 1")
        assert rows == [(f"{schema}.messages_2026_01", 3)]

    def test_it_is_decided_at_the_start(self, postgresql_database, store):
        """Another value later is refused."""
        from muniment.errors import ConfigError

        store(postgresql_database.sink(), make_record("c1"))

        with pytest.raises(ConfigError, match="is not partitioned: leave out `partition_by: month`"):
            store(postgresql_database.sink(partition_by="month"), make_record("c2"))


def test_assets_of_one_content_are_stored_once(database, store):
    """Two conversations with one picture share its bytes."""
    data = bytes(range(256)) * 10_000
    asset = make_asset(data, "f")
    records = [make_record(f"c{i}", assets=(asset, Asset(id="gone", missing="not in the export"))) for i in range(2)]

    store(database.sink(), *records, assets={asset.sha256: data})

    chunks = database.ask(f"SELECT position, data FROM {table(database, 'asset_chunks')} ORDER BY position")
    assert [p for p, _ in chunks] == [0, 1, 2]
    assert b"".join(bytes(d) for _, d in chunks) == data
