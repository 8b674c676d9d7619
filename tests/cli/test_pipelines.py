"""`run`, `validate`, `plan`, `test`, `schema`."""

import json

import pytest

PIPELINE = """\
version: 1
source: {type: chatgpt_export, path: export.zip}
transforms:
  - {type: filter, after: 2026-01-01}
sinks:
  - {type: sqlite, path: archive.db, on_plan_change: keep}
tests:
  - {name: talks without a date stay in, input: {user: hello}, expect: {dropped: false}}
"""

VAULT = """\
from attrs import frozen
from muniment import Secret, Sink, hookimpl, option

@frozen(kw_only=True)
class Vault(Sink):
    password: Secret = option("P.", identity=False)

@hookimpl
def muniment_sinks():
    return {"vault": Vault}
"""


@pytest.fixture
def pipeline(folder, export):
    path = folder / "pipeline.yaml"
    path.write_text(PIPELINE)
    return path.name


class TestRun:
    def test_does_what_the_file_says(self, muniment, pipeline):
        result = muniment("run", pipeline, "--json")

        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["sinks"]["sqlite"] == {
            "read": 3, "stored": 1, "unchanged": 0, "dropped": 2, "quarantined": 0,
        }  # fmt: skip

    def test_says_why_records_were_dropped(self, muniment, pipeline):
        assert "  dropped 2: " in muniment("run", pipeline).stdout

    def test_with_workers(self, muniment, pipeline):
        assert muniment("run", pipeline, "--workers", 2, "-q").exit_code == 0

    def test_a_missing_file_is_a_configuration_error(self, muniment):
        result = muniment("run", "none.yaml")

        assert result.exit_code == 78
        assert result.stderr.startswith("error: `none.yaml` cannot be read")


class TestValidate:
    def test_says_that_a_file_is_valid(self, muniment, pipeline):
        result = muniment("validate", pipeline)

        assert (result.exit_code, result.stdout) == (0, "pipeline.yaml: valid, 1 source, 1 transform, 1 sink\n")

    def test_says_that_a_secret_is_missing(self, muniment, pipeline, folder, install, monkeypatch):
        """It is no mistake of the file: another machine may have it."""
        install("my_vault", VAULT)
        password = "vault, password: '${secret:env:ARCHIVE_KEY}'"
        (folder / pipeline).write_text(PIPELINE.replace("sqlite, path: archive.db", password))
        monkeypatch.delenv("ARCHIVE_KEY", raising=False)
        said = "sinks[0].password: the environment variable `ARCHIVE_KEY` is not set; set it where muniment runs"

        result = muniment("validate", pipeline)

        assert (result.exit_code, result.stderr) == (0, f"note: {said}\n")
        assert json.loads(muniment("validate", pipeline, "--json").stdout)["notes"] == [said]

    def test_shows_every_mistake_with_a_caret(self, muniment, pipeline, folder):
        (folder / pipeline).write_text(PIPELINE.replace("path: archive.db", "pth: a.db").replace("filter", "filtre"))
        result = muniment("validate", pipeline)

        assert result.exit_code == 78
        assert result.stderr.count("error: pipeline.yaml:") == 2
        assert result.stderr.count("^\n") == 2
        assert "did you mean `filter`?" in result.stderr
        assert result.stderr.endswith("2 problems; nothing ran\n")

    def test_as_json(self, muniment, pipeline, folder):
        (folder / pipeline).write_text(PIPELINE.replace("path: archive.db", "pth: a.db"))
        result = muniment("validate", pipeline, "--json")
        (problem,) = json.loads(result.stdout)["problems"]

        assert result.exit_code == 78
        assert (problem["line"], problem["column"]) == (6, 20)


class TestPlan:
    def test_prints_the_guarantee_of_every_sink(self, muniment, pipeline):
        result = muniment("plan", pipeline)

        assert result.exit_code == 0, result.output
        assert "sink sqlite (sinks[0]): effectively once, transactional\n" in result.stdout
        assert not json.loads(muniment("plan", pipeline, "--json").stdout)["allow_incomplete"]


class TestTest:
    def test_passes(self, muniment, pipeline):
        result = muniment("test", pipeline)

        assert result.exit_code == 0, result.output
        assert result.stdout == "ok  talks without a date stay in (sqlite)\n1 passed, 0 failed\n"

    def test_a_failure_says_why_and_exits_1(self, muniment, pipeline, folder):
        (folder / pipeline).write_text(PIPELINE.replace("dropped: false", "dropped: true"))
        result = muniment("test", pipeline)

        assert result.exit_code == 1
        assert result.stdout.startswith("FAILED  talks without a date stay in (sqlite): ")

    def test_no_tests_says_so(self, muniment, pipeline, folder):
        (folder / pipeline).write_text(PIPELINE.partition("tests:")[0])
        result = muniment("test", pipeline)

        assert (result.exit_code, result.stderr) == (0, "pipeline.yaml holds no tests; add some under `tests:`\n")


class TestSchema:
    def test_is_the_same_on_the_screen_and_in_a_file(self, muniment, folder):
        printed = muniment("schema").stdout
        muniment("schema", "--out", "s.json")

        assert json.loads(printed) == json.loads((folder / "s.json").read_text())
        assert json.loads(printed)["$schema"].startswith("https://json-schema.org/")
