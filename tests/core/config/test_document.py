"""Documents: YAML with places, read strictly."""

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import ConfigError
from muniment.config.document import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_NODES,
    MAX_PROBLEMS,
    read_document,
)


def problems_of(text: str) -> list[str]:
    try:
        return [str(p) for p in read_document(text, "a.yaml").problems]
    except ConfigError as error:
        return [str(p) for p in error.problems]


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("010", 10), ("0o10", 8), ("0x1F", 31),
            ("1_000", "1_000"), ("1e3", 1000.0), (".5", 0.5), ("-.inf", -math.inf), ("~", None), ("", None),
            ("NULL", None), ("True", True), ("yes", "yes"), ("2025-01-31", "2025-01-31"), ("'5'", "5"),
            ('"a\\u00e9"', "aé"), ("|\n  a\n  b", "a\nb"), ("=", "="), ("<<", "<<"),
        ],
    )  # fmt: skip
    def test_follow_the_core_schema_of_yaml_1_2(self, text: str, value: Any) -> None:
        """`no` is no truth value, `1:30` no number, and a date is text until an option says otherwise."""
        found = read_document(f"a: {text}", "a.yaml").data["a"]

        assert (found, type(found)) == (value, type(value))


class TestPlaces:
    def test_are_known_for_every_key_and_value(self) -> None:
        """Lines and columns count from 1."""
        document = read_document("a: 1\nb:\n  - x\n  - {c: y}\n", "a.yaml")

        assert document.data == {"a": 1, "b": ["x", {"c": "y"}]}
        assert document.values == {
            (): (1, 1), ("a",): (1, 4), ("b",): (3, 3), ("b", 0): (3, 5), ("b", 1): (4, 5), ("b", 1, "c"): (4, 9),
        }  # fmt: skip
        assert document.keys == {("a",): (1, 1), ("b",): (2, 1), ("b", 1, "c"): (4, 6)}

    def test_show_the_line_and_a_caret(self) -> None:
        """The caret stands under the place, also behind a tab."""
        document = read_document('a: 1\nb: {"x\ty": z}\n', "a.yaml")
        problem = document.problem(("b", "x\ty"), "wrong")

        assert problem.render() == 'a.yaml:2:12: wrong\n    b: {"x y": z}\n               ^'

    def test_fall_back_to_what_stands_above(self) -> None:
        """What is missing is reported where it should stand."""
        document = read_document("a:\n  b: 1\n", "a.yaml")

        assert str(document.problem(("a", "c", 3), "missing")) == "a.yaml:2:3: missing"

    def test_of_an_alias_is_where_it_is_used(self) -> None:
        """What is wrong inside it is shown where it is written."""
        document = read_document("a: &x {k: 1}\nb: *x\n", "a.yaml")

        assert document.data == {"a": {"k": 1}, "b": {"k": 1}}
        assert document.values[("b",)] == (2, 4)
        assert document.values[("b", "k")] == (1, 11)


class TestRefusals:
    def test_names_all_duplicate_keys_at_once(self) -> None:
        """At every level, with the line of the first."""
        assert problems_of("a: 1\na: 2\nb: {c: 1, c: 2}\n'a': 3\n") == [
            "a.yaml:2:1: the key `a` stands on line 1 already; remove one",
            "a.yaml:3:11: the key `c` stands on line 3 already; remove one",
            "a.yaml:4:1: the key `a` stands on line 1 already; remove one",
        ]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a: &x [*x]", "a.yaml:1:8: the alias `*x` stands for itself"),
            ("a: *x", "a.yaml:1:4: the alias `*x` has no anchor `&x` before it"),
            (
                "a: !!python/name:os.system x",
                "a.yaml:1:4: the tag `tag:yaml.org,2002:python/name:os.system` is not supported; quote text and"
                " leave numbers bare",
            ),
            (
                "a: 1\n---\nb: 2",
                "a.yaml:2:1: a pipeline file holds one document; put the second in its own file",
            ),
            ("[a]: 1", "a.yaml:1:1: a key must be text"),
            (
                "a: [1\nb: 2",
                "a.yaml:2:2: this is not YAML: while parsing a flow sequence expected ',' or ']', but got ':'",
            ),
            ("a: b: c", "a.yaml:1:5: this is not YAML: mapping values are not allowed here"),
            ("b: &x {k: 1}\na:\n  <<: *x", "a.yaml:3:3: merge keys are not supported; write the options out"),
            (f"{'k' * 201}: 1", "a.yaml:1:1: a key has at most 200 characters"),
            ("a: 1\nb: x\0", "a.yaml:2:5: the character U+0000 cannot stand in YAML as it is"),
        ],
    )  # fmt: skip
    def test_says_what_is_not_taken(self, text: str, said: str) -> None:
        """Anything that could mean two things is refused."""
        assert problems_of(text) == [said]

    def test_limits_the_depth(self) -> None:
        """A thousand brackets are no pipeline."""
        assert problems_of("[" * 1000) == [f"a.yaml:1:{MAX_DEPTH + 2}: nested deeper than {MAX_DEPTH} levels"]

    def test_limits_the_size(self) -> None:
        """An export given in place of a pipeline is refused at once."""
        assert problems_of("a" * (MAX_CHARACTERS + 1)) == [
            f"a.yaml: the file has more than {MAX_CHARACTERS} characters, so it is no pipeline"
        ]

    def test_limits_what_aliases_make(self) -> None:
        """A billion laughs end early."""
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

        said = problems_of("\n".join(lines))

        assert len(said) == 1
        assert said[0].endswith(": the aliases make more than 10000 values")

    def test_limits_the_values(self) -> None:
        """And the keys of one mapping."""
        assert problems_of("- a\n" * (MAX_NODES + 1)) == [
            f"a.yaml:{MAX_NODES}:3: more than {MAX_NODES} values are no pipeline"
        ]
        assert problems_of("\n".join(f"k{i}: 1" for i in range(MAX_KEYS + 5))) == [
            f"a.yaml:{MAX_KEYS + 1}:1: more than {MAX_KEYS} keys in one mapping are no pipeline"
        ]

    def test_limits_what_is_said(self) -> None:
        """A hundred problems are enough to tell that this is another file."""
        said = problems_of("- !x y\n" * 5000)

        assert len(said) == MAX_PROBLEMS + 1
        assert said[-1] == "a.yaml:100:3: too much is wrong here: what follows was not looked at"

    def test_shows_a_part_of_a_long_line(self) -> None:
        """With the caret in its place."""
        (problem,) = read_document(f"a: [{'x' * 40_000}, !t y, {'z' * 5000}]", "a.yaml").problems
        head, line, caret = problem.render().split("\n")

        assert len(head) < 200 and len(line) <= 204
        assert line[caret.index("^") :].startswith("!t y")

    @pytest.mark.parametrize(
        "text",
        [
            "[" * MAX_CHARACTERS,
            "{a: " * (MAX_CHARACTERS // 4),
            "? " * (MAX_CHARACTERS // 2),
            "- " * (MAX_CHARACTERS // 2),
            "x" * MAX_CHARACTERS,
            "a: " + "b" * (MAX_CHARACTERS - 3),
            "'" + "''" * (MAX_CHARACTERS // 2 - 1),
            '"' + "\\x41" * (MAX_CHARACTERS // 4 - 1) + '"',
            "a: |\n" + " x\n" * (MAX_CHARACTERS // 3 - 2),
            "a: >\n" + "\n" * (MAX_CHARACTERS - 6),
            "\n" * MAX_CHARACTERS,
            "# " * (MAX_CHARACTERS // 2),
            "a: 1\na: 1\n" * (MAX_CHARACTERS // 10),
            "- &a *a\n" * (MAX_CHARACTERS // 8),
            "- &a x\n- *a\n" * (MAX_CHARACTERS // 12),
            "- [a, b, c]\n" * (MAX_CHARACTERS // 12),
            "--- a\n" * (MAX_CHARACTERS // 6),
            "%TAG ! tag:x,1:\n" * (MAX_CHARACTERS // 16),
            "\n".join(f"k{i}: 1" for i in range(10_000)),
            "\n".join(f"{' ' * i}a:" for i in range(400)),
            "- &a0 [x]\n" + "".join(f"- &a{i + 1} [*a{i}, *a{i}]\n" for i in range(4000)),
            "a: !" + "t" * (MAX_CHARACTERS - 5),
            "a: &" + "t" * (MAX_CHARACTERS - 5),
        ],
        ids=lambda t: repr(t[:12]),
    )
    def test_takes_a_second_at_most(self, text: str) -> None:
        """Whatever the text is; three, where other tests run beside this one."""
        started = time.process_time()
        problems_of(text)

        assert time.process_time() - started < 3

    @given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`?, \n\t0\0\x85\u2028", max_size=40))
    def test_any_text_gives_a_document_or_problems_with_places(self, text: str) -> None:
        """Nothing but ConfigError is ever raised."""
        for problem in problems_of(text):
            assert problem.startswith("a.yaml:")
