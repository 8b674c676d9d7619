"""What the pages say is so."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from muniment.cli import cli
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.sql.layout import ALL, SHOWN

DOCS = Path(__file__).parents[4] / "docs"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a page's pipeline over an export with one conversation."""
    message = {"id": "m", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["How long?"]}}
    mapping = {
        "root": {"id": "root", "parent": None, "children": ["m"], "message": None},
        "m": {"id": "m", "parent": "root", "children": [], "message": message},
    }
    conversation = {"id": "c1", "title": "Sourdough", "create_time": 1735700000.5, "mapping": mapping}
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "conversations.json").write_text(json.dumps([conversation]))
    monkeypatch.chdir(tmp_path)

    def run(page, **changes):
        pipeline = blocks(page, "yaml")[0].replace("*.zip", "*.json")
        for old, new in changes.items():
            pipeline = pipeline.replace(old, new)
        (tmp_path / "pipeline.yaml").write_text(pipeline)
        result = CliRunner().invoke(cli, ["run", "pipeline.yaml"], prog_name="muniment")
        assert result.exit_code == 0, result.output

    return run


class TestHowTo:
    def test_postgresql(self, postgresql_database, run, monkeypatch):
        """As it stands there, with the role and the schema that the page makes."""
        name = postgresql_database.options["schema"]
        for statement in blocks("how-to/postgresql.md", "sql")[0].strip().split(";\n"):
            postgresql_database.run(
                statement.replace("archiver", f"a{name}").replace("SCHEMA archive", f"SCHEMA s{name}")
            )
        monkeypatch.setenv("ARCHIVE_URL", postgresql_database.url.replace("postgres@", f"a{name}@"))
        monkeypatch.setenv("ARCHIVE_PASSWORD", "...")
        try:
            run("how-to/postgresql.md", **{"schema: archive": f"schema: s{name}"})
            assert postgresql_database.ask(f"SELECT text FROM s{name}.messages WHERE text <> ''") == [("How long?",)]
        finally:
            postgresql_database.run(f"DROP OWNED BY a{name}", f"DROP ROLE a{name}")

    def test_postgresql_with_other_tables(self, postgresql_database, run, monkeypatch):
        """The mapping of the page, on tables as it describes them."""
        schema = postgresql_database.options["schema"]
        postgresql_database.run(
            f"CREATE TABLE {schema}.chats (chat_id text PRIMARY KEY, subject text, started_at timestamptz)",
            f"CREATE TABLE {schema}.chat_messages (chat_id text, message_id text, author text, body text,"
            " PRIMARY KEY (chat_id, message_id))",
        )
        monkeypatch.setenv("ARCHIVE_URL", postgresql_database.url)
        monkeypatch.setenv("ARCHIVE_PASSWORD", "...")
        options = blocks("how-to/postgresql.md", "yaml")[1].replace("create: false", "create: true")

        run("how-to/postgresql.md", **{"    schema: archive\n": f"    schema: {schema}\n{options}"})

        assert postgresql_database.ask(f"SELECT subject FROM {schema}.chats") == [("Sourdough",)]
        assert postgresql_database.ask(f"SELECT count(*) FROM {schema}.llm_records") == [(1,)]

    def test_mysql(self, mariadb_database, run, monkeypatch):
        """With a user that has the rights of the page."""
        name = mariadb_database.name
        user = f"a{name}"
        for statement in blocks("how-to/mysql.md", "sql")[0].strip().split(";\n")[1:]:
            mariadb_database.run(statement.replace("archiver", user).replace("archive.*", f"{name}.*"))
        monkeypatch.setenv(
            "ARCHIVE_URL", mariadb_database.url.replace("root@", f"{user}@").replace("mysql:", "mariadb:")
        )
        monkeypatch.setenv("ARCHIVE_PASSWORD", "...")

        run("how-to/mysql.md")

        mariadb_database.run(f"DROP USER {user}")
        assert mariadb_database.ask("SELECT text FROM messages WHERE text <> ''") == [("How long?",)]

    def test_duckdb(self, run, tmp_path):
        """The file stands where the page says."""
        run("how-to/duckdb.md")

        assert (tmp_path / "archive.duckdb").is_file()


class TestFormat:
    def test_it_names_every_table_and_view(self):
        """None is missing from the page."""
        page = (DOCS / "formats" / "sql.md").read_text()

        assert [name for name in (*ALL, "transcript") if f"`{name}`" not in page] == []

    def test_every_column_for_mapping_alone_is_named(self):
        """In the page that tells how to map."""
        page = (DOCS / "how-to" / "postgresql.md").read_text()
        columns = {c.name for table in SHOWN.values() for c in table.columns if not c.own} - {"month"}

        assert [name for name in columns if f"`{name}`" not in page] == []

    def test_its_queries_run(self, database, tmp_path):
        """Each on the databases that it is for."""
        archive(database.sink(), [make_record("c1", ["sourdough"])], state_dir=tmp_path)
        general, postgresql, mysql = blocks("formats/sql.md", "sql")
        kind = database.url.partition(":")[0]
        queries = general + {"postgresql": postgresql.rpartition("-- Any")[0] + postgresql.rpartition("';\n\n")[2],
                             "mysql": mysql}.get(kind, "")  # fmt: skip

        for query in re.sub(r"--.*\n", "", queries).split(";\n"):
            if query.strip():
                prefix = f"SET search_path={database.options['schema']}; " if kind == "postgresql" else ""
                database.run(prefix + query)
