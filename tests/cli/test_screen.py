"""What reaches a terminal."""

import json

from hypothesis import given
from hypothesis import strategies as st

from muniment.cli import screen


class TestClean:
    def test_keeps_what_people_write(self):
        assert screen.clean("Grüße, 归档\n\t👍🏽") == "Grüße, 归档\n\t👍🏽"

    def test_removes_what_controls_a_terminal_or_turns_text(self):
        assert screen.clean("a\x1b[31m\x9b\x07\u202eb\u2066\ud800\r") == "a[31mb"


class TestColumns:
    def test_aligns_by_the_cells_of_a_terminal(self):
        assert screen.columns([["归档", "1"], ["abc", "22"]], indent="", right=(1,)) == ["归档   1", "abc   22"]

    def test_a_cell_stays_on_its_line(self):
        assert screen.columns([["a\nb", "c"]]) == ["  a b  c"]


class TestShorten:
    @given(st.text(max_size=40), st.integers(1, 20))
    def test_never_takes_more_cells_than_given(self, text, cells):
        assert screen.width(screen.shorten(text, cells)) <= max(cells, 1)

    def test_leaves_short_text_alone(self):
        assert screen.shorten("归档", 4) == "归档"


class TestJson:
    @given(st.text())
    def test_is_safe_to_print_and_loses_nothing(self, text):
        from click.testing import CliRunner

        with CliRunner().isolation() as (stdout, *_):
            screen.out_json({"value": text})
            written = stdout.getvalue().decode()

        assert json.loads(written) == {"value": text}
        assert screen.clean(written) == written
