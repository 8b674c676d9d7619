"""`status`, `quarantine` and `verify` of a pipeline whose archive is in a database."""

import json
import secrets

import pytest

PIPELINE = """\
version: 1
source: {type: chatgpt_export, path: export.zip}
sinks:
  - {SINK, proof: {key: "${secret:file:sign.key}"}}
"""


@pytest.fixture
def postgresql_sink(postgresql):
    import psycopg

    url = f"postgresql://{postgresql.user}@{postgresql.host}:{postgresql.port}/postgres"
    name = f"t{secrets.token_hex(6)}"
    yield f"type: sql, url: {url!r}, schema: {name}"
    with psycopg.connect(url) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def duckdb_sink(folder):
    return f"type: sql, url: 'duckdb:///{folder}/archive.duckdb'"


@pytest.fixture
def mongodb_sink(mongodb):
    import pymongo

    name = f"cli_{secrets.token_hex(6)}"
    yield f"type: mongodb, uri: {mongodb.extra['url']!r}, database: {name}"
    with pymongo.MongoClient(mongodb.extra["url"]) as client:
        client.drop_database(name)


@pytest.fixture(params=["postgresql", "duckdb", "mongodb"])
def pipeline(request, muniment, folder):
    """Return a pipeline that was not run yet, into a database of its own."""
    assert muniment("key", "new", "sign.key", "--signing", "example.org").exit_code == 0
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("SINK", request.getfixturevalue(f"{request.param}_sink")))
    return "pipeline.yaml"


@pytest.fixture
def stored(pipeline, muniment, make_export, conversations):
    """Return the pipeline after a run that had to leave one conversation out."""
    make_export([*conversations, {"id": "broken", "mapping": 7}])
    assert muniment("run", pipeline, "-q").exit_code == 3
    return pipeline


class TestStatus:
    def test_nothing_was_stored_yet(self, pipeline, muniment):
        result = muniment("status", pipeline)

        assert result.exit_code == 0, result.output
        assert "nothing was stored yet" in result.stdout

    def test_runs_and_inputs(self, stored, muniment):
        (ledger,) = json.loads(muniment("status", stored, "--json").stdout)
        said = muniment("status", stored)

        (run,) = ledger["runs"]
        assert said.exit_code == 0, said.output
        assert "quarantined: 1" in said.stdout and "runs: 1" in said.stdout
        assert (run["exit_code"], run["read"], run["stored"], run["quarantined"]) == (3, 4, 3, 1)
        assert len(ledger["checkpoints"]) == ledger["quarantined"] == 1


class TestQuarantine:
    def test_it_is_listed_and_shown(self, stored, muniment):
        (entry,) = json.loads(muniment("quarantine", "list", stored, "--json").stdout)
        shown = muniment("quarantine", "show", stored, entry["id"][:8])

        assert shown.exit_code == 0, shown.output
        assert entry["stage"] in shown.stdout
        assert entry["id"] in muniment("quarantine", "list", stored).stdout


class TestVerify:
    def test_it_is_sound_and_signed(self, stored, muniment):
        result = muniment("verify", stored, "--save-checkpoint", "kept", "--json")
        again = muniment("verify", stored, "--since", "kept", "--sample", "1")

        report = json.loads(result.stdout)
        assert result.exit_code == again.exit_code == 0, result.output + again.output
        assert (report["sound"], report["records"], report["findings"]) == (True, 3, [])
        assert report["signed_by"].startswith("example.org+")

    def test_there_is_nothing(self, pipeline, muniment):
        result = muniment("verify", pipeline)

        assert result.exit_code == 1, result.output
        assert "there is no archive" in result.output
