"""No command hands a terminal what a stranger wrote for it: not in a title, a name of a file, a plugin, an error."""

import json
import time
import unicodedata

import pytest

from muniment.cli import screen

EVIL = "a\x1b]0;owned\x07\x9b31m\r\n\u202eb\u2066\u2028\u200f\x08\x7fc"
PLUGIN = '''
from attrs import frozen
from muniment import Sink, Transform, hookimpl, option

@frozen(kw_only=True)
class Evil(Transform):
    """Do \x1b[31m harm\u202e."""

    word: str = option("A \x1b]0;t\x07 word.", default="\x1b[2J", example="\x9b1m")

    def apply(self, record):
        return record

@hookimpl
def muniment_transforms():
    return {"evil": Evil}
'''


def is_harmless(text):
    """Tell whether nothing in ``text`` moves a cursor, turns text or ends a line but a line break."""
    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "R", "AL"}
    return all(
        c in "\n\t"
        or (unicodedata.category(c) not in ("Cc", "Zl", "Zp", "Cs") and unicodedata.bidirectional(c) not in turns)
        for c in text
    )


@pytest.fixture
def evil_export(folder, a_conversation):
    """Return an export of an evil name with evil conversations, one of them damaged."""
    path = folder / f"{EVIL[:12]}.json"
    talks = [a_conversation(f"id{EVIL}{i}", f"{EVIL} title", f"fetch {EVIL}", EVIL) for i in range(3)]
    for talk in talks:
        for node in talk["mapping"].values():
            if node["message"]:
                node["message"]["author"] = {"role": EVIL, "name": EVIL}
                node["message"]["content"]["content_type"] = EVIL
    texts = [json.dumps(t) for t in talks]
    texts[1] = texts[1].replace('"status"', "!")
    path.write_text("[" + ",".join(texts) + "]")
    return path


class TestCommands:
    def test_about_an_archive(self, muniment, evil_export, folder):
        """Each with and without `--json`."""
        results = [muniment("import", evil_export)]
        (entry,) = json.loads(muniment("quarantine", "list", "archive.db", "--json").stdout)
        for command in (
            ("status",),
            ("search", "fetch"),
            ("search", EVIL),
            ("quarantine", "list", "archive.db"),
            ("quarantine", "show", "archive.db", entry["id"]),
            ("quarantine", "retry", "archive.db"),
            ("import", evil_export),
        ):
            results += [muniment(*command), muniment(*command, "--json")]
        results.append(muniment("export", "archive.db", "--to", folder / "all.jsonl"))

        assert [r.output for r in results if not is_harmless(r.output)] == []
        assert any("owned" in r.output for r in results)

    @pytest.mark.parametrize(
        "command",
        [
            ("import", EVIL), ("status", f"{EVIL}.db"), ("search", "x", "--archive", EVIL), ("run", f"{EVIL}.yaml"),
            (EVIL,), ("plugins", "show", EVIL), ("export", EVIL, "--to", EVIL), ("quarantine", "list", EVIL),
            ("plan", EVIL), ("validate", EVIL), ("import", "x", f"--{EVIL}"), ("decrypt", EVIL),
        ],
    )  # fmt: skip
    def test_that_are_given_nonsense(self, command, muniment):
        result = muniment(*[c.replace("\0", "") for c in command])

        assert result.exit_code != 0
        assert is_harmless(result.output), result.output

    def test_about_a_pipeline_file(self, muniment, folder):
        """What is wrong is shown with the line that it stands on."""
        (folder / "p.yaml").write_text(
            'version: 1\n"\\e]0;t\\a\u202e": 1\nsource: {type: "\\e[31m\u202e"}\nsinks: 5 # \u202e\n'
        )
        for command in ("validate", "plan", "run", "test"):
            result = muniment(command, "p.yaml")

            assert result.exit_code != 0
            assert is_harmless(result.output), result.output

    def test_about_a_plugin(self, muniment, install):
        """Its words are a stranger's, too."""
        install("evil-plugin".replace("-", "_"), PLUGIN)
        for command in (("plugins", "list"), ("plugins", "show", "evil")):
            for result in (muniment(*command), muniment(*command, "--json")):
                assert result.exit_code == 0, result.output
                assert "evil" in result.output
                assert is_harmless(result.output), result.output


class TestShorten:
    @pytest.mark.parametrize("text", ["a" + "\u0301" * 500_000, "\u4e00" * 500_000, "\u0301" * 500_000])
    def test_takes_linear_time_for_any_text(self, text):
        """Marks without a width of their own do not go on for ever."""
        started = time.process_time()
        shown = screen.shorten(text, 60)

        assert len(shown) <= 60 * 8 + 1
        assert time.process_time() - started < 1
