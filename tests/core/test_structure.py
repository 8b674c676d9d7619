"""Structuring: parsed YAML becomes attrs values, strictly."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from muniment import PluginError, option
from muniment.structure import OptionsError, Reference, anchored, structure


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


def parse_size(text: str) -> int:
    return int(text.removesuffix("kB")) * 1000


@frozen(kw_only=True)
class Keys:
    recipients: list[str] = option("Who.")
    level: int = option("How.", default=1, validator=attrs.validators.ge(1))


@frozen(kw_only=True)
class Thing:
    text: str = option("T.", default="")
    number: int = option("N.", default=0)
    ratio: float = option("R.", default=0.0)
    on: bool = option("O.", default=False)
    folder: Path = option("F.", default=Path())
    mode: Literal["append", "mirror", 2] = option("M.", default="append")
    color: Color = option("C.", default=Color.RED)
    names: list[str] = option("L.", factory=list)
    fixed: tuple[str, int] = option("X.", default=("", 0))
    unique: frozenset[str] = option("U.", default=frozenset())
    counts: Mapping[str, int] = option("D.", factory=dict)
    pattern: re.Pattern[str] | None = option("P.", default=None)
    since: datetime | None = option("W.", default=None)
    day: date | None = option("Y.", default=None)
    either: str | list[str] | None = option("E.", default=None)
    keys: Keys | None = option("K.", default=None)
    anything: Any = option("A.", default=None)
    size: int = option("S.", default="0kB", converter=parse_size)


def problems_of(data: Mapping[str, Any], cls: type[Any] = Thing) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        structure(cls, data, owner="sink `x`")
    return [p.message for p in caught.value.options]


class TestStructure:
    @pytest.mark.parametrize(
        ("name", "given", "expected"),
        [
            ("text", "no", "no"),
            ("number", -3, -3),
            ("ratio", 2, 2.0),
            ("on", True, True),
            ("folder", "a/b", Path("a/b")),
            ("mode", "mirror", "mirror"),
            ("mode", 2, 2),
            ("color", "blue", Color.BLUE),
            ("names", ["a", "b"], ["a", "b"]),
            ("fixed", ["a", 1], ("a", 1)),
            ("unique", ["a", "a"], frozenset({"a"})),
            ("counts", {"a": 1}, {"a": 1}),
            ("pattern", "a+", re.compile("a+")),
            ("since", "2025-01-31T18:00:00Z", datetime(2025, 1, 31, 18, tzinfo=UTC)),
            ("since", "2025-01-31", datetime(2025, 1, 31, tzinfo=UTC)),
            ("day", "2025-01-31", date(2025, 1, 31)),
            ("either", ["a"], ["a"]),
            ("either", "a", "a"),
            ("either", None, None),
            ("keys", {"recipients": ["a"]}, Keys(recipients=["a"])),
            ("anything", {"a": [1, None]}, {"a": [1, None]}),
        ],
    )
    def test_takes_what_the_type_says(self, name: str, given: Any, expected: Any) -> None:
        """Every type that an option may have can be written in YAML."""
        value = getattr(structure(Thing, {name: given}), name)

        assert value == expected
        assert type(value) is type(expected)

    def test_gives_a_converter_what_it_is_annotated_to_take(self) -> None:
        """`size: int` with a converter from text is written as text."""
        assert structure(Thing, {"size": "5kB"}).size == 5000

    @pytest.mark.parametrize(
        ("name", "given", "said"),
        [
            ("text", 5, "must be text, not a number; put it in quotes"),
            ("text", None, "must be text, not null"),
            ("text", True, "must be text, not true or false; put it in quotes"),
            ("number", "5", "must be a whole number, not text"),
            ("number", 5.0, "must be a whole number, not a number"),
            ("number", True, "must be a whole number, not true or false"),
            ("ratio", "0.5", "must be a number, not text"),
            ("on", "no", "must be true or false, not text"),
            ("on", 1, "must be true or false, not a number"),
            ("names", "abc", "must be a list of text, not text"),
            ("names", {"a": 1}, "must be a list of text, not a mapping"),
            ("fixed", ["a"], "must be a list of 2 values, not 1"),
            ("counts", ["a"], "must be a mapping, not a list"),
            ("mode", "mirrr", "must be one of `append`, `mirror`, `2`, not `mirrr`; did you mean `mirror`?"),
            ("mode", 3, "must be one of `append`, `mirror`, `2`, not `3`"),
            ("color", "green", "must be one of `red`, `blue`, not `green`"),
            ("pattern", "(", "is not a regular expression: missing ), unterminated subpattern at position 0"),
            ("since", "soon", "must be a date and time, not text such as `2025-01-31T18:00:00Z`"),
            ("day", 20250131, "must be a date, not a number such as `2025-01-31`"),
            ("either", 5, "must be text or a list of text, not a number"),
            ("size", "big", "cannot be used: invalid literal for int() with base 10: 'big'"),
            ("size", 5, "must be text, not a number; put it in quotes"),
        ],
    )
    def test_coerces_nothing(self, name: str, given: Any, said: str) -> None:
        """A value of another type is an error, never a guess."""
        assert problems_of({name: given}) == [f"option `{name}` of sink `x` {said}"]

    def test_reports_everything_at_once_with_paths(self) -> None:
        """Nobody has to run it again to see the next mistake."""
        data = {
            "nmber": 1,
            "names": ["a", 1, None],
            "counts": {"a": 1, "b": "x"},
            "keys": {"recipents": [], "level": 0},
        }

        with pytest.raises(OptionsError) as caught:
            structure(Thing, data, owner="sink `x`")

        assert [(p.path, p.message, p.at_key) for p in caught.value.options] == [
            (("nmber",), "unknown option `nmber` for sink `x`; did you mean `number`?", True),
            (
                ("names", 1),
                "option `names[1]` of sink `x` must be text, not a number; put it in quotes",
                False,
            ),
            (("names", 2), "option `names[2]` of sink `x` must be text, not null", False),
            (("counts", "b"), "option `counts.b` of sink `x` must be a whole number, not text", False),
            (
                ("keys", "recipents"),
                "unknown option `keys.recipents` for sink `x`; did you mean `keys.recipients`?",
                True,
            ),
            (("keys", "recipients"), "option `keys.recipients` is missing for sink `x`", False),
            (("keys", "level"), "option `keys.level` of sink `x` must be >= 1: 0", False),
        ]

    def test_reports_the_union_member_that_was_meant(self) -> None:
        """A mistake inside a list is told as such, not as `neither text nor list`."""
        assert problems_of({"either": ["a", 1]}) == [
            "option `either[1]` of sink `x` must be text, not a number; put it in quotes"
        ]

    def test_lists_the_names_when_none_is_close(self) -> None:
        """A name that resembles nothing gets the whole list."""
        assert problems_of({"zzz": 1, "recipients": []}, Keys) == [
            "unknown option `zzz` for sink `x`; there is `recipients`, `level`"
        ]

    def test_reports_what_the_class_itself_refuses(self) -> None:
        """What __attrs_post_init__ raises is a problem of the whole."""

        @frozen
        class Odd:
            a: int = option("A.")

            def __attrs_post_init__(self) -> None:
                if not self.a % 2:
                    raise ValueError("a must be odd")

        assert problems_of({"a": 2}, Odd) == ["sink `x` cannot be used: a must be odd"]

    def test_runs_validators_that_look_at_other_options(self) -> None:
        """A validator may compare, and is left out where the other option is wrong itself."""

        def above_low(self: Any, attribute: Any, value: int) -> None:
            if value <= self.low:
                raise ValueError("must be above `low`")

        @frozen
        class Range:
            low: int = option("L.")
            high: int = option("H.", validator=above_low)

        assert problems_of({"low": 5, "high": 5}, Range) == [
            "option `high` of sink `x` cannot be used: must be above `low`"
        ]
        assert problems_of({"low": "5", "high": 5}, Range) == [
            "option `low` of sink `x` must be a whole number, not text"
        ]

    def test_blames_the_plugin_for_a_type_that_yaml_cannot_express(self) -> None:
        """That is no mistake of the file."""

        @frozen
        class Strange:
            call: Callable[[], int] = option("C.")

        with pytest.raises(PluginError) as caught:
            structure(Strange, {"call": "x"})

        assert str(caught.value) == (
            "option `call` is declared as collections.abc.Callable[[], int], which cannot be written in YAML;"
            " use text and a converter whose parameter is annotated"
        )

    @given(
        st.dictionaries(
            st.sampled_from([a.name for a in attrs.fields(Thing)]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                max_leaves=5,
            ),
        )
    )
    def test_whatever_yaml_holds_gives_a_value_or_problems(self, data: dict[str, Any]) -> None:
        """No input makes it fail in another way, and no problem is without a message."""
        try:
            structure(Thing, data)
        except OptionsError as error:
            assert all(p.message for p in error.options)


class TestReference:
    def test_becomes_a_number_where_one_is_wanted(self) -> None:
        """`${env:N}` may stand for a number or a truth value; the result is a plain value."""
        data = {"number": Reference("5", whole=True), "on": Reference("true", whole=True)}
        value = structure(Thing, {**data, "ratio": Reference("1e3", whole=True)})

        assert (value.number, value.on, value.ratio) == (5, True, 1000.0)

    def test_stays_text_where_text_is_wanted(self) -> None:
        """A value from outside changes no type."""
        value = structure(Thing, {"text": Reference("5", whole=True), "anything": [Reference("5", whole=True)]})

        assert (value.text, type(value.text)) == ("5", str)
        assert type(value.anything[0]) is str

    @pytest.mark.parametrize("text", ["0x10", "1_000", " 5", "5.0", "yes", ""])
    def test_is_read_strictly(self, text: str) -> None:
        """Only what YAML calls a whole number is one."""
        assert problems_of({"number": Reference(text, whole=True)}) == [
            "option `number` of sink `x` must be a whole number; what its reference gives is not"
        ]

    def test_is_no_number_when_it_is_a_part_of_the_text(self) -> None:
        """`${env:A}0` is text."""
        assert problems_of({"number": Reference("50", whole=False)}) == [
            "option `number` of sink `x` must be a whole number; what its reference gives is not"
        ]

    def test_is_never_repeated_in_a_message(self) -> None:
        """What the environment holds may be private."""
        said = problems_of({"mode": Reference("hunter2", whole=True), "pattern": Reference("hunter2(", whole=True)})

        assert said == [
            "option `mode` of sink `x` must be one of `append`, `mirror`, `2`; what its reference gives is not",
            "option `pattern` of sink `x` is not a regular expression: missing ), unterminated subpattern at"
            " position 7",
        ]

    def test_is_not_repeated_by_a_validator_or_converter(self) -> None:
        """Strangers' messages often quote the value."""

        @frozen
        class Picky:
            a: str = option("A.", validator=attrs.validators.in_(["x"]))
            b: int = option("B.", converter=parse_size)

        assert problems_of({"a": Reference("hunter2", whole=True), "b": Reference("hunter2", whole=True)}, Picky) == [
            "option `b` of sink `x` does not take what its reference gives",
            "option `a` of sink `x` does not take what its reference gives",
        ]


class TestAnchored:
    def test_takes_relative_paths_from_the_base(self) -> None:
        """Paths, globs and lists of them; nothing else."""

        @frozen
        class Paths:
            a: str = option("A.", is_path=True)
            b: Path = option("B.")
            c: str = option("C.")
            d: tuple[str, ...] = option("D.", is_path=True)
            e: str | None = option("E.", is_path=True, default=None)

        value = anchored(Paths(a="x/*.zip", b=Path("y"), c="z", d=("p", "/q")), Path("/base"))

        assert value == Paths(a="/base/x/*.zip", b=Path("/base/y"), c="z", d=("/base/p", "/q"))

    def test_reaches_into_nested_values(self) -> None:
        """An option that is an attrs class may hold paths."""

        @frozen
        class Inner:
            key: Path = option("K.")

        @frozen
        class Outer:
            inner: Inner = option("I.")

        assert anchored(Outer(Inner(Path("k"))), Path("/b")) == Outer(Inner(Path("/b/k")))

    def test_keeps_a_folder_that_looks_like_a_pattern(self) -> None:
        """Files below `[2024]` are found by a glob that stands there."""

        @frozen
        class Glob:
            path: str = option("P.", is_path=True)

        assert anchored(Glob("*.zip"), Path("/a/[2024]")).path == "/a/[[]2024]/*.zip"
        assert anchored(Glob("a.zip"), Path("/a/[2024]")).path == "/a/[2024]/a.zip"

    def test_converts_nothing_twice(self) -> None:
        """A converter from text never sees what it made."""

        @frozen
        class Converted:
            path: str = option("P.", is_path=True)
            size: int = option("S.", converter=parse_size)

        assert anchored(Converted("a", "5kB"), Path("/b")) == Converted("/b/a", "5kB")

    def test_knows_the_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`~` is what a shell would make of it."""

        @frozen
        class Home:
            path: str = option("P.", is_path=True)

        monkeypatch.setitem(os.environ, "HOME", "/home/me")

        assert anchored(Home("~/a.zip"), Path("/base")).path == "/home/me/a.zip"
