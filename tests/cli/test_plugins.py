"""`plugins`: what is installed, and what it takes."""

import json


class TestList:
    def test_lists_components_by_kind(self, muniment):
        result = muniment("plugins", "list")
        lines = result.stdout.splitlines()

        assert result.exit_code == 0
        assert [line for line in lines if not line.startswith(" ")] == [
            "sources", "transforms", "sinks", "formats", "engines", "secrets", "commands",
        ]  # fmt: skip
        assert any(line.startswith("  sqlite ") for line in lines)

    def test_names_what_is_broken_and_why(self, muniment, install):
        install("sick", "import nowhere_to_be_found\n")
        result = muniment("plugins", "list")

        assert result.exit_code == 0
        (line,) = [x for x in result.stdout.splitlines() if x.startswith("unusable:")]
        assert "`sick` (sick 1.0)" in line
        assert "nowhere_to_be_found" in line

    def test_as_json(self, muniment):
        listed = json.loads(muniment("plugins", "list", "--json").stdout)

        assert "jsonl" in {c["name"] for c in listed["components"]["formats"]}
        assert listed["unusable"] == []


class TestShow:
    def test_documents_every_option(self, muniment):
        result = muniment("plugins", "show", "sqlite")

        assert result.exit_code == 0
        assert result.stdout.startswith("sqlite, a sink of muniment ")
        assert '  path: text, default "archive.db"\n      The archive file.\n' in result.stdout

    def test_an_unknown_name_gets_the_closest(self, muniment):
        result = muniment("plugins", "show", "sqlit")

        assert result.exit_code == 78
        assert result.stderr == "error: there is no component `sqlit`; did you mean `sqlite`?\n"


class TestCompletion:
    def test_prints_the_script_of_the_shell(self, muniment):
        result = muniment("completion", "bash")

        assert result.exit_code == 0
        assert "_MUNIMENT_COMPLETE=bash_complete" in result.stdout

    def test_completes_commands_and_names(self, muniment):
        def complete(words):
            count = len(words.split(" ")) - 1
            environment = {"_MUNIMENT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
            return muniment(env=environment).stdout.split()

        assert complete("muniment se") == ["plain,search"]
        assert complete("muniment export a.db --format ma") == ["plain,markdown"]
        assert complete("muniment plugins show sqli") == ["plain,sqlite"]
