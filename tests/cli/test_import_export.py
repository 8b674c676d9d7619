"""From an export to an archive, and on to other formats."""

import copy
import json
import sqlite3

import pytest

EQUATION = "sqlite: read {} = stored {} + unchanged {} + dropped 0 + quarantined {}"


def titles(archive):
    with sqlite3.connect(archive) as connection:
        return {row[0] for row in connection.execute("SELECT title FROM conversations")}


class TestImport:
    """`muniment import` makes an archive, tops it up, and says what it did."""

    def test_makes_an_archive_in_this_folder(self, muniment, export, folder):
        result = muniment("import", export)

        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines[0].startswith("3 conversations, 6 messages read in ")
        assert lines[1] == EQUATION.format(3, 3, 0, 0)
        assert lines[2].startswith("in archive.db (")
        assert lines[3] == 'next: muniment search "words to find"'
        assert titles(folder / "archive.db") == {"Tax return", "Soup", "归档"}
        assert result.stderr == ""

    def test_the_same_export_again_changes_nothing(self, muniment, archive, export):
        before = archive.read_bytes()
        result = muniment("import", export, "--json")
        report = json.loads(result.stdout)

        assert result.exit_code == 0
        assert report["sinks"]["sqlite"] == {
            "read": 3, "stored": 0, "unchanged": 3, "dropped": 0, "quarantined": 0,
        }  # fmt: skip
        assert report["unchanged_partitions"][0]["records"] == 3
        assert report["target"] == "archive.db"
        assert len(archive.read_bytes()) == len(before)

    def test_a_newer_export_adds_what_is_new(self, muniment, archive, make_export, conversations, a_conversation):
        newer = make_export([*conversations, a_conversation("c4", "Bread", "Flour?", "Rye.")], "newer.zip")
        result = muniment("import", newer)

        assert EQUATION.format(4, 1, 3, 0) in result.stdout.splitlines()

    def test_several_exports_at_once(self, muniment, make_export, conversations, folder):
        one, two = make_export(conversations[:1], "1.zip"), make_export(conversations[1:], "2.zip")
        result = muniment("import", one, two, "--quiet")

        assert (result.exit_code, result.output) == (0, "")
        assert len(titles(folder / "archive.db")) == 3

    def test_what_cannot_be_read_fails_in_one_sentence_and_leaves_nothing(self, muniment, folder):
        (folder / "letter.zip").write_bytes(b"Dear sir")
        result = muniment("import", "letter.zip")

        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert "letter.zip" in result.stderr
        assert result.stderr.count("\n") == 1
        assert [p.name for p in folder.iterdir()] == ["letter.zip"]

    def test_into_files(self, muniment, export, folder):
        result = muniment("import", export, "--to", "chats.jsonl.zst", "--json")

        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["sinks"]["files"]["stored"] == 3
        assert (folder / "chats.jsonl.zst").stat().st_size > 0


class TestExport:
    """`muniment export` writes what an archive holds."""

    def test_a_markdown_file_per_conversation(self, muniment, archive, folder):
        result = muniment("export", archive, "--format", "markdown", "--to", "chats")
        pages = {p.name: p.read_text() for p in (folder / "chats").rglob("*.md")}

        assert result.exit_code == 0, result.output
        assert len(pages) == 3
        assert any("Take red lentils and cumin." in page for page in pages.values())

    def test_what_is_written_as_jsonl_comes_back_identical(self, muniment, archive, folder):
        assert muniment("export", archive, "--to", "all.jsonl.zst", "-q").exit_code == 0
        assert muniment("import", "all.jsonl.zst", "--to", "copy.db", "-q").exit_code == 0
        for name in ("archive", "copy"):
            assert muniment("export", f"{name}.db", "--to", f"{name}.json", "-q").exit_code == 0

        assert (folder / "archive.json").read_bytes() == (folder / "copy.json").read_bytes()

    @pytest.mark.parametrize(
        ("options", "kept"),
        [
            (["--after", "2026-01-01"], ["Soup"]),
            (["--before", "2026-01-01"], ["Tax return", "归档"]),
            (["--title", "tax"], ["Tax return"]),
        ],
    )
    def test_filters(self, muniment, archive, folder, options, kept):
        result = muniment("export", archive, "--to", "some.json", "-q", *options)
        found = json.loads((folder / "some.json").read_text())

        assert result.exit_code == 0, result.output
        assert sorted(c["title"] for c in found) == kept

    def test_the_visible_branch_only(self, muniment, make_export, conversations, folder):
        soup = copy.deepcopy(conversations[1])
        soup["mapping"]["c2-m0"]["children"].append("other")
        soup["mapping"]["other"] = {**soup["mapping"]["c2-m1"], "id": "other", "children": []}
        soup["mapping"]["other"]["message"] = {**soup["mapping"]["c2-m1"]["message"], "id": "other"}
        assert muniment("import", make_export([soup]), "-q").exit_code == 0
        counts = {}
        for branch in ("all", "visible"):
            result = muniment("export", "archive.db", "--to", f"{branch}.json", "--branch", branch, "-q")
            assert result.exit_code == 0, result.output
            (found,) = json.loads((folder / f"{branch}.json").read_text())
            counts[branch] = len([m for m in found["messages"] if m["role"] == "assistant"])

        assert counts == {"all": 2, "visible": 1}

    def test_no_archive_is_an_error_that_says_what_to_do(self, muniment):
        result = muniment("export", "none.db", "--to", "x.json")

        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert "none.db" in result.stderr

    def test_a_wrong_date_is_a_usage_error(self, muniment, archive):
        result = muniment("export", archive, "--to", "x.json", "--after", "yesterday")

        assert result.exit_code == 2
        assert "`yesterday` is no date" in result.stderr
