"""CSV rows are safe to open in a spreadsheet and read back as they were."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import Message, TextPart
from muniment_plugins.formats.csv import COLUMNS, CSV, guarded


def rows(form, *records, links=lambda _: ""):
    data = form.header() + b"".join(form.encode(r, links) for r in records)
    text = data.decode("utf-8-sig" if form.bom else "utf-8")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=form.delimiter, strict=True))


class TestCSV:
    def test_a_row_per_message(self, full, links):
        """Rows follow the conversation; branches and hidden messages are rows like others."""
        table = rows(CSV(), full, links=links)

        assert tuple(table[0]) == COLUMNS
        assert [r["message_id"] for r in table] == [m.id for m in full.conversation.messages]
        assert [r["message_id"] for r in table if r["on_visible_path"] == "false"] == ["a0"]
        assert [r["message_id"] for r in table if r["hidden"] == "true"] == ["sys"]

    def test_a_row_whole(self, full, links):
        row = rows(CSV(), full, links=links)[2]

        assert row == {
            "conversation_id": "c1", "source": "chatgpt", "account": "me", "title": "Cats",
            "conversation_created_at": "2025-06-01T12:30:15.123456Z",
            "conversation_updated_at": "2025-06-01T12:30:15.123456Z",
            "message_id": "q", "parent_id": "sys", "position": "2", "role": "user", "author": "",
            "recipient": "", "model": "", "created_at": "2025-06-01T12:30:15.123456Z", "updated_at": "",
            "status": "", "hidden": "false", "on_visible_path": "true", "content_types": "text file",
            "text": "What is **this**?", "attachments": "assets/abababab.png",
        }  # fmt: skip

    def test_an_empty_conversation_is_a_row(self, make_record):
        """A conversation without messages is not passed over."""
        [row] = rows(CSV(), make_record(title="Empty"))

        assert (row["title"], row["message_id"], row["position"]) == ("Empty", "", "")

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_naughty_strings(self, make_record, naughty, delimiter):
        """Without the guard every string comes back as it was."""
        several = [make_record(Message(id=s, role="user", parts=(TextPart(s),)), title=s) for s in naughty]

        table = rows(CSV(guard=False, delimiter=delimiter), *several)

        assert [(r["title"], r["text"], r["message_id"]) for r in table] == [(s, s, s) for s in naughty]

    def test_lone_surrogates_become_the_replacement_sign(self, make_record):
        [row] = rows(CSV(), make_record(title="a\ud83d b"))

        assert row["title"] == "a\ufffd b"

    def test_ends_rows_as_rfc_4180_says(self, full):
        assert CSV().header().endswith(b'"attachments"\r\n')

    def test_a_mark_for_excel(self):
        assert CSV(bom=True).header().startswith(b'\xef\xbb\xbf"conversation_id"')


class TestGuard:
    @pytest.mark.parametrize("before", ["", " ", "\u00a0", "\t", '"', "'", "\u200b", "\ufeff", " \u200d'"])
    @pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
    def test_formulas_are_text(self, before, sign):
        """Whatever stands before it that a spreadsheet skips."""
        assert guarded(f"{before}{sign}1+1") == f"'{before}{sign}1+1"

    @pytest.mark.parametrize("value", ["\tx", "\rx", "\nx"])
    def test_leading_control_signs_are_guarded(self, value):
        assert guarded(value) == "'" + value

    @pytest.mark.parametrize("value", ["", "text", "1-1", "a=1", "'quoted'", "田中", " x"])
    def test_other_values_stay(self, value):
        assert guarded(value) == value

    @given(st.text(st.sampled_from("'\"=+-@\t\n ax\u200b"), max_size=6))
    def test_is_reversible(self, value):
        """A quote before something that would be guarded is ours."""
        written = guarded(value)

        back = written[1:] if written.startswith("'") and guarded(written[1:]) != written[1:] else written

        assert back == value

    def test_covers_every_cell(self, make_record):
        """Ids and names come from strangers as texts do."""
        message = Message(
            id="=1", role="=1", author="=1", model="=1", recipient="=1", status="=1", parts=(TextPart("=1"),)
        )

        [row] = rows(CSV(), make_record(message, id="=1", source="=1", account="=1", title="=1"))

        assert not [name for name, value in row.items() if value.startswith("=")]
