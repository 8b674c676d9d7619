"""`repair`, and what several sinks look like on the command line."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

PIPELINE = """\
version: 1
source: {type: chatgpt_export, path: export.zip}
sinks:
  - {type: sqlite, path: archive.db}
  - {type: files, path: ./copy, format: jsonl, on_failure: continue}
"""


@pytest.fixture
def pipeline(folder, export):
    path = folder / "pipeline.yaml"
    path.write_text(PIPELINE)
    return path.name


@pytest.fixture
def short(muniment, pipeline, folder):
    """Return a pipeline whose second sink has lost its only part."""
    result = muniment("run", pipeline, "-q")
    assert result.exit_code == 0, result.output
    (part,) = (folder / "copy").glob("part-*")
    part.unlink()
    return pipeline


class TestRepair:
    def test_makes_a_copy_whole(self, muniment, short):
        result = muniment("repair", short, "--from", "sqlite", "--to", "files")
        lines = result.stdout.splitlines()

        assert result.exit_code == 0, result.output
        assert lines[1] == "files: 0 conversations are the same, 3 missing, 0 short"
        assert lines[2].startswith("  cannot be read: part-")
        assert lines[3:] == [
            "files: read 3 = stored 3 + unchanged 0 + dropped 0 + quarantined 0",
            "files now: whole, 3 conversations are the same",
        ]

    def test_a_dry_run_says_what_is_missing_and_exits_3(self, muniment, short):
        result = muniment("repair", short, "--from", "sqlite", "--to", "files", "--dry-run")

        assert result.exit_code == 3
        assert result.stdout.endswith("nothing was written; without --dry-run it is repaired\n")

    def test_as_json(self, muniment, short):
        result = muniment("repair", short, "--from", "sqlite", "--to", "files", "--json")
        report = json.loads(result.stdout)

        assert report["counts"] == {"read": 3, "stored": 3, "unchanged": 0, "dropped": 0, "quarantined": 0}
        assert report["left"] == {"same": 3, "missing": 0, "short": 0, "extra": 0}
        assert report["exit_code"] == 0

    def test_quiet_prints_nothing(self, muniment, short):
        result = muniment("repair", short, "--from", "sqlite", "--to", "files", "-q")

        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")

    def test_an_unknown_sink_is_a_configuration_error(self, muniment, short):
        result = muniment("repair", short, "--from", "sqlit", "--to", "files")

        assert result.exit_code == 78
        assert result.stderr == "error: there is no sink `sqlit` in `pipeline.yaml`; did you mean `sqlite`?\n"


class TestSeveralSinks:
    def test_one_that_fails_is_told_and_the_others_go_on(self, muniment, pipeline, folder):
        (folder / "copy").write_text("in the way")

        result = muniment("run", pipeline)

        assert result.exit_code == 1
        assert "sqlite: read 3 = stored 3 + unchanged 0 + dropped 0 + quarantined 0\n" in result.stdout
        assert "files: read 0 = stored 0 + unchanged 0 + dropped 0 + quarantined 0\n  failed: " in result.stdout

    def test_with_quiet_only_the_failure_is_told(self, muniment, pipeline, folder):
        (folder / "copy").write_text("in the way")

        result = muniment("run", pipeline, "-q")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: sink `files`: ")

    def test_the_pipeline_of_the_how_to_works(self, muniment, folder, export):
        """`docs/how-to/several-sinks.md`, as it stands there."""
        page = (DOCS / "how-to" / "several-sinks.md").read_text()
        (folder / "p.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])

        report = json.loads(muniment("run", "p.yaml", "--json").stdout)

        assert {n: (c["stored"], c["dropped"]) for n, c in report["sinks"].items()} == {
            "sqlite": (3, 0), "copy": (3, 0), "recent": (1, 2),
        }  # fmt: skip
        assert muniment("repair", "p.yaml", "--from", "sqlite", "--to", "copy").exit_code == 0

    def test_the_next_run_goes_on_with_it_alone(self, muniment, pipeline, folder):
        (folder / "copy").write_text("in the way")
        failed = json.loads(muniment("run", pipeline, "--json").stdout)["failed"]
        (folder / "copy").unlink()

        result = muniment("run", pipeline, "--json")
        report = json.loads(result.stdout)

        assert list(failed) == ["files"]
        assert (result.exit_code, report["failed"]) == (0, {})
        assert report["sinks"]["sqlite"]["unchanged"] == report["sinks"]["files"]["stored"] == 3

    def test_a_failure_that_stops_names_the_file_and_the_sink(self, muniment, pipeline, folder):
        (folder / "pipeline.yaml").write_text(PIPELINE.replace(", on_failure: continue", ""))
        (folder / "copy").write_text("in the way")

        result = muniment("run", pipeline)

        assert result.exit_code == 1
        assert result.stderr.startswith("error: pipeline.yaml: sink `files`: ")

    def test_the_plan_says_what_happens_when_one_fails(self, muniment, pipeline):
        assert "  when it fails, the other sinks continue\n" in muniment("plan", pipeline).stdout
