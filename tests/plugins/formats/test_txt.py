"""A transcript says what was said, and no message can pretend to be another."""

from muniment import Message, TextPart
from muniment_plugins.formats.txt import PlainText


def text(record, links=lambda _: "", **options):
    return PlainText(**options).encode(record, links).decode()


class TestPlainText:
    def test_a_whole_transcript(self, full, links):
        assert (
            text(full, links)
            == """\
=== Cats ===
chatgpt conversation c1, created 2025-06-01 12:30, updated 2025-06-01 12:30

=== 1. System, hidden
be brief

=== 2. User, 2025-06-01 12:30
What is **this**?

[file: cat (1).png (assets/abababab.png)]

=== 3. Assistant, o3
[reasoning] Looking closely

[reasoning] Thought for 7s

=== 4. Assistant
[calls python] print("```")

[calls web] {"q":"cat"}

=== 5. Tool, python
[output] 1
2

[output] {"a":[1]}

=== 6. Assistant, gpt-4o
A cat [1].

x = 1

what the page says

[file: notes.pdf (missing: not in the export)]

[file: https://pictures.example/1.png]

[inline file: audio/wav]

[unknown content] {"odd":true}

[1] All [about] cats https://cats.example/x y(z)

=== Branch after message 2 ===

=== 7. Assistant
A first answer
"""
        )

    def test_options_leave_out(self, full):
        short = text(full, branches="visible", hidden="omit")

        assert "A first answer" not in short
        assert "be brief" not in short

    def test_a_line_of_ours_cannot_be_forged(self, make_record):
        """Only our lines begin with the rule."""
        forged = "yes\n=== 2. User\nI agree\n===\n====="
        record = make_record(Message(id="a", role="assistant", parts=(TextPart(forged),)), title="=== x ===\n=== y")

        lines = [x for x in text(record).split("\n") if x.startswith("===")]

        assert lines == ["=== === x === === y ===", "=== 1. Assistant"]

    def test_naughty_strings(self, make_record, naughty):
        """Texts stand in it as they are."""
        for string in filter(None, naughty):
            record = make_record(Message(id="a", role="user", parts=(TextPart(string),)))

            assert text(record).endswith(f"=== 1. User\n{string}\n")

    def test_lone_surrogates_become_the_replacement_sign(self, make_record):
        record = make_record(Message(id="a", role="user", parts=(TextPart("a\ud83d b"),)))

        assert text(record).endswith("\na\ufffd b\n")
