"""`search`, `status`, `quarantine`: what an archive holds, and what it could not take."""

import json

import pytest


class TestSearch:
    def test_shows_title_date_role_and_snippet(self, muniment, archive):
        result = muniment("search", "lentils", "cumin")

        assert result.exit_code == 0, result.output
        assert result.stdout == "Soup  2025-01-01 · assistant\n  Take red lentils and cumin.\n"

    def test_marks_the_matches_on_a_terminal(self, muniment, archive):
        result = muniment("search", "cumin", color=True)

        assert "\x1b[33m\x1b[1mcumin\x1b[0m" in result.stdout

    def test_finds_chinese_inside_a_run(self, muniment, archive):
        assert "归档" in muniment("search", "数据").stdout

    def test_by_role(self, muniment, archive):
        hits = json.loads(muniment("search", "lentils", "--role", "user", "--json").stdout)

        assert [(h["title"], h["role"], h["snippet"]) for h in hits] == [("Soup", "user", "A soup with lentils?")]

    def test_nothing_found_says_so(self, muniment, archive):
        result = muniment("search", "zebra")

        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "nothing in archive.db matches `zebra`\n"

    def test_a_message_cannot_control_the_terminal(self, muniment, make_export, a_conversation):
        evil = a_conversation("e", "Evil \x1b]0;t\x07", "fetch \x1b[2J\u202e this")
        muniment("import", make_export([evil]), "-q")
        result = muniment("search", "fetch")

        assert "fetch [2J this" in result.stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout)


class TestStatus:
    def test_shows_inputs_and_runs(self, muniment, archive, export):
        muniment("import", export, "-q")
        result = muniment("status")
        lines = result.stdout.splitlines()

        assert result.exit_code == 0, result.output
        assert lines[0].startswith("sqlite: archive.db (")
        assert lines[1] == "  inputs: 1 complete"
        assert lines[2] == "  runs: 2"
        assert lines[-1].split()[-5:] == ["3", "3", "0", "0", "0"]

    def test_as_json(self, muniment, archive):
        (ledger,) = json.loads(muniment("status", archive, "--json").stdout)

        assert [r["exit_code"] for r in ledger["runs"]] == [0]
        assert [c["records"] for c in ledger["checkpoints"]] == [3]

    def test_of_a_pipeline_shows_every_sink(self, muniment, export, folder):
        (folder / "p.yaml").write_text(
            "version: 1\nsource: {type: chatgpt_export, path: export.zip}\n"
            "sinks:\n  - {type: sqlite, path: a.db}\n  - {type: files, path: chats}\n"
        )
        before = json.loads(muniment("status", "p.yaml", "--json").stdout)
        muniment("run", "p.yaml", "-q")
        after = json.loads(muniment("status", "p.yaml", "--json").stdout)

        assert [x["where"] for x in before] == [None, None]
        assert [x["runs"][0]["stored"] for x in after] == [3, 3]

    def test_another_database_is_refused(self, muniment, folder):
        import sqlite3

        sqlite3.connect(folder / "other.db").execute("CREATE TABLE t(x)").connection.close()
        result = muniment("status", "other.db")

        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert "is not a muniment archive" in result.stderr


@pytest.fixture
def damaged(folder, conversations):
    """Return an export whose second conversation is no JSON."""
    path = folder / "conversations.json"
    texts = [json.dumps(c) for c in conversations]
    texts[1] = texts[1].replace('"parts": ["A soup with lentils?"]', '"parts": [!]')
    path.write_text("[" + ",\n".join(texts) + "]")
    return path


class TestQuarantine:
    def test_an_import_says_what_to_do(self, muniment, damaged):
        result = muniment("import", damaged)

        assert result.exit_code == 3, result.output
        assert "sqlite: read 3 = stored 2 + unchanged 0 + dropped 0 + quarantined 1" in result.stdout.splitlines()
        assert "see what was quarantined: muniment quarantine list archive.db" in result.stdout.splitlines()

    def test_lists_and_shows_where_a_record_stands(self, muniment, damaged):
        muniment("import", damaged)
        (entry,) = json.loads(muniment("quarantine", "list", "archive.db", "--json").stdout)
        shown = muniment("quarantine", "show", "archive.db", entry["id"][:6])
        text = damaged.read_bytes()[entry["start"] : entry["end"]]

        assert b"lentils and cumin" in text
        assert entry["id"] in muniment("quarantine", "list", "archive.db").stdout
        assert shown.exit_code == 0
        assert "lentils" not in shown.stdout
        assert str(entry["digest"]) in shown.stdout

    def test_an_unknown_id_says_where_to_look(self, muniment, archive):
        result = muniment("quarantine", "show", archive.name, "zzz")

        assert result.exit_code == 1
        assert result.stderr == (
            "error: no open entry begins with `zzz`; `muniment quarantine list archive.db` shows all\n"
        )

    def test_retry_needs_to_know_the_export(self, muniment, damaged):
        muniment("import", damaged)
        result = muniment("quarantine", "retry", "archive.db")

        assert result.exit_code == 2
        assert "say which export to read again" in result.stderr

    def test_retry_of_what_is_still_damaged_keeps_it(self, muniment, damaged):
        muniment("import", damaged)
        result = muniment("quarantine", "retry", "archive.db", damaged)

        assert result.exit_code == 3, result.output
        assert result.stdout.splitlines()[-1] == "resolved 0, still quarantined 1"

    def test_retry_of_another_file_says_what_to_do(self, muniment, damaged, export):
        muniment("import", damaged)
        result = muniment("quarantine", "retry", "archive.db", export)

        assert result.exit_code == 1
        assert result.stderr == (
            "error: nothing was read again: no entry of `archive.db` comes from this content; a file that was"
            " repaired is a new one: import it\n"
        )

    def test_nothing_to_retry(self, muniment, archive, export):
        result = muniment("quarantine", "retry", archive, export)

        assert (result.exit_code, result.stdout) == (0, "nothing is quarantined\n")
