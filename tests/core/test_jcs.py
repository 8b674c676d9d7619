"""Canonical JSON: the examples of RFC 8785, and what it must refuse."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.jcs import canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)  # fmt: skip


class TestCanonical:
    def test_it_is_the_example_of_the_rfc(self):
        """Section 3.2.2 and 3.2.3."""
        value = json.loads(
            r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
        )

        assert canonical(value).decode() == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        )

    def test_names_are_sorted_as_utf_16(self):
        """The names of section 3.2.3 in their order."""
        names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]

        assert list(json.loads(canonical(dict.fromkeys(names, 0)))) == [
            "\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (0.0, "0"), (-0.0, "0"), (5e-324, "5e-324"), (-5e-324, "-5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e+308"), (9007199254740992.0, "9007199254740992"),
            (295147905179352830000.0, "295147905179352830000"), (9.999999999999997e22, "9.999999999999997e+22"),
            (1e23, "1e+23"), (1.0000000000000001e23, "1.0000000000000001e+23"),
            (999999999999999700000.0, "999999999999999700000"), (999999999999999900000.0, "999999999999999900000"),
            (1e21, "1e+21"), (9.999999999999997e-7, "9.999999999999997e-7"), (0.000001, "0.000001"),
            (333333333.3333332, "333333333.3333332"), (1424953923781206.2, "1424953923781206.2"),
        ],
    )  # fmt: skip
    def test_numbers_are_those_of_ecmascript(self, number, text):
        """The table of appendix B."""
        assert canonical(number).decode() == text

    @given(VALUES)
    def test_it_means_the_same_and_has_one_form(self, value):
        """Reading it gives the value; writing that again gives the same bytes."""
        data = canonical(value)

        assert json.loads(data, parse_int=float) == value
        assert canonical(json.loads(data, parse_int=float)) == data

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), 2**53, "\ud800", {"\udfff": 1}, {1: 2}, b"x", {1, 2}]
    )
    def test_it_refuses_what_has_none(self, value):
        """Numbers that lose digits, lone surrogates, what is no JSON."""
        with pytest.raises(ValueError):
            canonical(value)
