"""`demo`: the main job on a sample, in one command."""

import json


class TestDemo:
    def test_imports_searches_and_exports(self, muniment, folder):
        result = muniment("demo", "--dir", "try")

        assert result.exit_code == 0, result.output
        assert (folder / "try" / "archive.db").is_file()
        assert list((folder / "try" / "chats").rglob("*.md"))
        assert [p.name for p in folder.iterdir()] == ["try"]
        assert "nothing in" not in result.output
        for step in ("$ muniment import", "$ muniment search", "$ muniment export"):
            assert step in result.stdout

    def test_can_be_repeated(self, muniment):
        first = json.loads(muniment("demo", "--json").stdout)
        second = json.loads(muniment("demo", "--json").stdout)
        stored = first["import"]["sinks"]["sqlite"]["stored"]

        assert stored > 0
        assert second["import"]["sinks"]["sqlite"]["unchanged"] == stored
