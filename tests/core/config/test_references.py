"""References: what the environment gives, in text values only."""

from typing import Any

import pytest

from muniment import Secret
from muniment.config.references import resolve
from muniment.structure import Reference

ENVIRON = {"A": "value", "EMPTY": "", "N": "5", "YAML": "x, y: [z]"}
NO_SECRET = (
    "cannot be used here: a secret is all of its option's text, and is written `${secret:env:NAME}` or"
    " `${secret:file:PATH}`"
)


def resolved(data: Any) -> tuple[Any, list[tuple[Any, str]]]:
    said: list[tuple[Any, str]] = []
    return resolve(data, ENVIRON, lambda path, message: said.append((path, message))), said


class TestResolve:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("${env:A}", "value"),
            ("a/${env:A}/${env:N}", "a/value/5"),
            ("${env:NONE:-x}", "x"),
            ("${env:EMPTY:-x}", "x"),
            ("${env:NONE:-}", ""),
            ("$${env:A}", "${env:A}"),
            ("$$${env:A}", "$${env:A}"),
            ("$A {A} $", "$A {A} $"),
        ],
    )
    def test_replaces_references(self, text: str, expected: str) -> None:
        """With a default where the variable is unset or empty; `$${` is the literal."""
        assert resolved(text) == (expected, [])

    def test_keeps_secrets_as_references(self) -> None:
        """They know the option that names them; nothing is read."""
        value, said = resolved({"sinks": [{"key": "${secret:env:NONE}"}, "$${secret:env:A}"]})

        assert value == {"sinks": [{"key": Secret("env:NONE")}, "${secret:env:A}"]}
        assert value["sinks"][0]["key"].option == "sinks[0].key"
        assert said == []

    def test_keeps_the_structure(self) -> None:
        """A value that looks like YAML stays one text, and keys are never touched."""
        assert resolved({"${env:A}": ["${env:YAML}", 5]}) == ({"${env:A}": ["x, y: [z]", 5]}, [])

    def test_tells_whole_references_apart(self) -> None:
        """Only they may become numbers."""
        whole, _ = resolved("${env:N}")
        part, _ = resolved("${env:N}0")

        assert isinstance(whole, Reference)
        assert isinstance(part, Reference)
        assert (whole.whole, part.whole) == (True, False)
        assert type(resolved("$${x}")[0]) is str

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("${env:NONE}", "the environment variable `NONE` is not set; set it, or write `${env:NONE:-default}`"),
            ("a ${secret:env:KEY}", f"`${{secret:env:KEY}}` {NO_SECRET}"),
            ("${secret:KEY}", f"`${{secret:KEY}}` {NO_SECRET}"),
            ("${secret:env:KEY:-x}", f"`${{secret:env:KEY:-x}}` {NO_SECRET}"),
            ("${env:A", "`${env:A` has no `}`; write `$${` for a literal `${`"),
            (
                "${HOME}",
                "unknown reference `${HOME}`; there is `${env:NAME}` and `${env:NAME:-default}`, and `$${` for a"
                " literal `${`",
            ),
            (
                "${env:a b}",
                "unknown reference `${env:a b}`; there is `${env:NAME}` and `${env:NAME:-default}`, and `$${` for"
                " a literal `${`",
            ),
        ],
    )
    def test_reports_what_cannot_be_replaced(self, text: str, said: str) -> None:
        """With the path of the value."""
        assert resolved({"sinks": [{"key": text}]})[1] == [(("sinks", 0, "key"), said)]
