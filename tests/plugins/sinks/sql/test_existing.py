"""Tables that belong to somebody else, and roles that may do little."""

import pytest
from click.testing import CliRunner

from muniment.components import Context
from muniment.errors import ConfigError
from muniment.model import Message, TextPart
from muniment.testing import make_record
from muniment.testing.records import TIME, changed
from muniment.testing.runs import NAME, archive
from muniment_plugins.sinks.sql.cli import sql_schema
from muniment_plugins.sinks.sql.layout import ALL, MappedTable

TABLES = {
    "conversations": MappedTable(name="chats", columns={"id": "chat_id", "title": "subject", "created_at": "begun"}),
    "messages": MappedTable(
        name="chat_messages",
        columns={"conversation_id": "chat_id", "id": "message_id", "role": "author", "text": "body"},
    ),
    "parts": None,
    "assets": None,
}


@pytest.fixture
def store(tmp_path):
    def store(sink, *records, **more):
        return archive(sink, records, state_dir=tmp_path, **more).sinks[NAME]

    return store


def prefix(database):
    schema = database.options.get("schema")
    return f"{schema}." if schema else ""


@pytest.fixture
def mapped(database):
    """A database with an application's own tables, which hold more than muniment knows."""
    p = prefix(database)
    database.run(
        f"CREATE TABLE {p}chats (chat_id varchar(64) PRIMARY KEY, subject varchar(200), begun timestamp NULL,"
        " team varchar(20) DEFAULT 'none')",
        f"CREATE TABLE {p}chat_messages (chat_id varchar(64) NOT NULL, message_id varchar(64) NOT NULL,"
        " author varchar(20) NOT NULL, body text, reviewed boolean DEFAULT false, PRIMARY KEY (chat_id, message_id))",
    )
    return database


class TestMapping:
    def test_only_mapped_columns_are_written(self, mapped, store):
        """Into tables that exist; tables that were left out are not made; the record is kept whole."""
        sink = mapped.sink(tables=TABLES)
        record = make_record("c1", ["Hello\n\tthere", "Hi \\ 'you'"])

        assert store(sink, record).stored == 1

        p = prefix(mapped)
        assert mapped.ask(f"SELECT chat_id, subject, team FROM {p}chats") == [("c1", "A talk", "none")]
        assert mapped.ask(f"SELECT chat_id, message_id, author, body FROM {p}chat_messages ORDER BY message_id") == [
            ("c1", "m0", "user", "Hello\n\tthere"), ("c1", "m1", "assistant", "Hi \\ 'you'"),
        ]  # fmt: skip
        with pytest.raises(Exception, match="parts"):
            mapped.ask(f"SELECT * FROM {p}parts")
        with sink.open_target(Context(run="reader")) as target:
            assert [r.conversation for r in target.read_back()] == [record.conversation]

    def test_what_others_wrote_stays(self, mapped, store):
        """A newer version changes the mapped columns of its rows, and no other."""
        sink, p = mapped.sink(tables=TABLES), prefix(mapped)
        store(sink, make_record("c1"))
        mapped.run(f"UPDATE {p}chat_messages SET reviewed = true", f"UPDATE {p}chats SET team = 'ours'")

        newer = make_record("c1", ["Hello", "Hi there", "More"], title="New", updated_at=TIME.replace(year=2027))
        assert store(sink, newer).stored == 1

        assert mapped.ask(f"SELECT subject, team FROM {p}chats") == [("New", "ours")]
        rows = mapped.ask(f"SELECT message_id, body, reviewed FROM {p}chat_messages ORDER BY message_id")
        assert [(i, b, bool(r)) for i, b, r in rows] == [
            ("m0", "Hello", True), ("m1", "Hi there", True), ("m2", "More", False),
        ]  # fmt: skip

    @pytest.mark.parametrize("chunk_records", [1, 4])
    def test_a_row_that_the_table_refuses_is_quarantined_alone(self, mapped, store, chunk_records):
        """A title that does not fit, say; the others are stored, and the reason quotes nothing."""
        sink = mapped.sink(tables=TABLES)
        if mapped.url.startswith("duckdb"):
            mapped.run("DROP TABLE chats", "CREATE TABLE chats (chat_id varchar PRIMARY KEY, subject varchar,"
                       " begun timestamp, CHECK (length(subject) <= 200))")  # fmt: skip
        records = [make_record(f"c{i}", title="x" * 300 if i == 2 else "short") for i in range(4)]

        counts = store(sink, *records, chunk_records=chunk_records)

        assert (counts.stored, counts.quarantined) == (3, 1)
        p = prefix(mapped)
        assert mapped.ask(f"SELECT chat_id FROM {p}chats ORDER BY 1") == [("c0",), ("c1",), ("c3",)]
        ((reason, key),) = mapped.ask(f"SELECT reason, record FROM {p}quarantine")
        assert key == "test:c2"
        assert "not take it" in reason and "xxx" not in reason

    def test_what_the_tables_lack_is_said_at_the_start(self, mapped, store):
        """Every table, column and key at once."""
        p = prefix(mapped)
        mapped.run(
            f"DROP TABLE {p}chats", f"DROP TABLE {p}chat_messages",
            f"CREATE TABLE {p}chat_messages (chat_id varchar(64), message_id varchar(64), author varchar(20))",
        )  # fmt: skip

        with pytest.raises(ConfigError) as caught:
            store(mapped.sink(tables=TABLES), make_record("c1"))

        said = [problem.message for problem in caught.value.problems]
        assert len(said) == 2
        assert said[0].startswith("sinks[0] (contract): there is no table `chats` in `")
        assert said[1] == "sinks[0] (contract): table `chat_messages` has no column `body`"

    def test_a_missing_key_is_said_at_the_start(self, mapped, store):
        """Without one, rows could not be told apart."""
        p = prefix(mapped)
        mapped.run(
            f"DROP TABLE {p}chat_messages",
            f"CREATE TABLE {p}chat_messages (chat_id varchar(64), message_id varchar(64), author varchar(20),"
            " body text)",
        )

        with pytest.raises(ConfigError, match="needs a unique key over `chat_id`, `message_id`"):
            store(mapped.sink(tables=TABLES), make_record("c1"))

    def test_a_plan_that_rewrites_leaves_no_row_behind(self, mapped):
        """What the new plan does not make is gone."""
        from muniment.units import Batch, Checkpoint, Counts, Unit

        sink = mapped.sink(tables=TABLES)
        long = make_record("c1", ["one", "two"])
        short = changed(long, messages=(Message(id="m1", role="user", parts=(TextPart("[hidden]"),)),))
        for number, record in enumerate((long, short), 1):
            ctx = Context(run=f"r{number}", plan_hash=f"p{number}", on_plan_change="rewrite")
            with sink.open_target(ctx), sink.open(ctx) as writer:
                writer.write(sink.encode(Batch("p", 1, [record])))
                writer.seal(Unit(ctx.run, number, Checkpoint("p", "f", number, number, run=ctx.run), Counts(1, 1)))

        assert mapped.ask(f"SELECT body FROM {prefix(mapped)}chat_messages") == [("[hidden]",)]

    def test_tables_can_be_renamed(self, database, store):
        """All of them, so that an archive fits beside other tables."""
        names = {name: f"llm_{name}" for name in ALL}
        store(database.sink(tables=names), make_record("c1"))

        assert database.ask(f"SELECT id FROM {prefix(database)}llm_conversations") == [("c1",)]
        assert database.ask(f"SELECT text FROM {prefix(database)}llm_transcript ORDER BY position")[0] == ("Hello",)


class TestStrangers:
    def test_tables_of_somebody_else_are_refused(self, database, store):
        """An application's `messages` is not written to by accident."""
        database.run(f"CREATE TABLE {prefix(database)}messages (id int)")

        with pytest.raises(ConfigError, match=r"has `messages` already, and no `muniment_meta` says that"):
            store(database.sink(), make_record("c1"))

    def test_a_newer_archive_is_refused(self, database, store):
        """And left as it is."""
        store(database.sink(), make_record("c1"))
        database.run(f"UPDATE {prefix(database)}muniment_meta SET version = 99")

        with pytest.raises(Exception, match=r"written by a newer muniment \(schema version 99\); update muniment"):
            store(database.sink(), make_record("c2"))

    def test_a_half_made_archive_is_completed(self, database, store):
        """Where DDL cannot be undone a kill may leave some of the tables."""
        store(database.sink(), make_record("c1"))
        p = prefix(database)
        database.run(f"UPDATE {p}muniment_meta SET version = 0", f"DROP TABLE {p}asset_chunks")

        assert store(database.sink(), make_record("c1"), make_record("c2")).stored == 1


class TestLeastPrivilege:
    @pytest.fixture
    def place(self, postgresql_database):
        """Tables that the owner has made, and a role that may only fill them."""
        schema = postgresql_database.options["schema"]
        role = f"r{schema}"
        printed = CliRunner().invoke(sql_schema, ["postgresql", "--schema", schema, "--role", role])
        assert printed.exit_code == 0
        postgresql_database.run(f"CREATE ROLE {role} LOGIN", printed.output)
        yield postgresql_database, role
        postgresql_database.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    def sink(self, place, **options):
        database, role = place
        return database.sink(url=database.url.replace("postgres@", f"{role}@"), create=False, **options)

    def test_it_stores_merges_and_reads_back(self, place, store):
        """With no more than the rights that the documentation lists."""
        sink = self.sink(place)
        newer = make_record("c1", ["Hello", "Hi there", "More"], updated_at=TIME.replace(year=2027))

        assert store(sink, make_record("c1"), make_record("c2")).stored == 2
        assert store(sink, newer).stored == 1
        with sink.open_target(Context(run="reader")) as target:
            assert len(list(target.read_back())) == 2

    def test_each_missing_right_is_named(self, place, store):
        """With the statement that grants it; nothing is stored."""
        database, role = place
        schema = database.options["schema"]
        database.run(
            f"REVOKE INSERT ON {schema}.messages FROM {role}",
            f"REVOKE ALL ON {schema}.records FROM {role}",
            f"ALTER TABLE {schema}.conversations DROP COLUMN account CASCADE",
            f"DROP TABLE {schema}.parts",
        )

        with pytest.raises(ConfigError) as caught:
            store(self.sink(place), make_record("c1"))

        said = [problem.message.removeprefix("sinks[0] (contract): ") for problem in caught.value.problems]
        assert said == [
            f'this role may not SELECT on `{schema}."records"`; GRANT SELECT ON {schema}."records" TO <role>',
            "table `conversations` has no column `account`",
            f'this role may not INSERT on `{schema}."messages"`; GRANT INSERT ON {schema}."messages" TO <role>',
            f"there is no table `parts` in `postgresql://{role}@{database.url.split('@')[1]}`, or this role has no"
            " right on it",
        ]

    def test_a_role_that_may_not_create_is_told_so(self, place, store):
        """The message says what can be done."""
        sink = self.sink(place)
        database, _ = place
        other = database.sink(url=sink.url, schema="public", create=True)

        with pytest.raises(
            ConfigError,
            match="the tables cannot be created in .* .permission denied for schema public.; grant the right",
        ):
            store(other, make_record("c1"))


class TestPrintedSchema:
    def test_each_database_takes_it(self, database, store):
        """An archive that was made by what `muniment sql-schema` prints is one that needs nothing more."""
        dialect = database.url.partition(":")[0]
        printed = CliRunner().invoke(sql_schema, [dialect])
        statements = printed.output.removesuffix(";\n").split(";\n")
        if dialect == "postgresql":
            schema = database.options["schema"]
            database.run(f"SET search_path={schema};" + printed.output)
        else:
            database.run(*statements)

        assert store(database.sink(create=False), make_record("c1")).stored == 1
