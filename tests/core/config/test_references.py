"""References: what the environment gives, in text values only."""

from typing import Any

import pytest

from muniment.config.references import resolve
from muniment.structure import Reference

ENVIRON = {"A": "value", "EMPTY": "", "N": "5", "YAML": "x, y: [z]"}


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
            ("${secret:env:KEY}", "secrets are not supported yet by `sinks[0].key`"),
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
