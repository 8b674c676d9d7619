"""Options that go together, and what is said of those that do not."""

import pytest

from muniment.secrets import Secret
from muniment.structure import structure
from muniment_plugins.sinks.sql import SQL
from muniment_plugins.sinks.sql.layout import MappedTable


def problems(**options):
    return list(SQL(**options).check())


class TestUrl:
    def test_a_password_is_refused(self):
        """With a hint, and without the password in the message."""
        for url in ("postgresql://ada:hunter2@db/x", "mysql://db/x?user=a&password=hunter2"):
            with pytest.raises(ValueError) as caught:
                SQL(url=url)

            assert str(caught.value) == (
                "holds a password; leave it out there and write `password: ${secret:env:NAME}`"
            )

    def test_an_unknown_database_is_refused(self):
        """The message lists those that there are."""
        with pytest.raises(
            ValueError, match="must begin with `postgresql://`, `mysql://`, `mariadb://` or `duckdb:///`"
        ):
            SQL(url="oracle://db/x")

    def test_a_secret_is_no_part_of_a_repr(self):
        """Of the component."""
        assert "env:" not in repr(SQL(url="postgresql://db/x", password=Secret("env:PASSWORD")))


class TestCheck:
    def test_good_options_have_no_problem(self):
        """On each kind of database."""
        assert problems(url="postgresql://db/x", index="trigram", partition_by="month") == []
        assert problems(url="mariadb://db/x", index="words") == []
        assert problems(url="duckdb:///x.duckdb") == []

    def test_options_of_another_database_are_refused(self):
        """Each by name."""
        assert problems(url="mysql://db/x", index="trigram", partition_by="month") == [
            "`index: trigram` is for PostgreSQL; use `words`", "`partition_by` is for PostgreSQL; leave it out",
        ]  # fmt: skip
        assert problems(url="duckdb:///", sslmode="require", index="words") == [
            "`index: words` needs a server: DuckDB has no full-text index built in",
            "`url` of DuckDB names a file: `duckdb:///archive.duckdb`, absolute with four slashes",
            "`sslmode` is for servers",
        ]

    def test_a_mapping_must_tell_rows_apart(self):
        """Whose a row is, and which; names are those of the documentation."""
        table = MappedTable(name="chat messages", columns={"txt": "body", "id": "message_id"})

        assert problems(url="postgresql://db/x", tables={"messages": table, "record": "r", "runs": None}) == [
            "`tables.messages.columns`: there is no column `txt`; did you mean `text`?",
            "`tables.messages.columns` must hold `conversation` or `conversation_key` or `source` with"
            " `conversation_id` or `conversation_id`, to tell whose a row is",
            "`tables.messages`: `chat messages` must be letters, digits and `_`, at most 63, not beginning with a"
            " digit",
            "`tables`: there is no table `record`; did you mean `records`?",
            "`tables.runs` must be a name: muniment reads this table itself",
        ]


class TestStructure:
    def test_it_comes_from_yaml(self):
        """Names, mappings and null, side by side."""
        given = {
            "url": "postgresql://db/x",
            "tables": {"conversations": "talks", "parts": None, "messages": {"name": "m", "columns": {"id": "i"}}},
        }

        assert structure(SQL, given).tables == {
            "conversations": "talks", "parts": None, "messages": MappedTable(name="m", columns={"id": "i"}),
        }  # fmt: skip
