"""Filters keep what fits and nothing else, and what is left is still a conversation."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from muniment import (
    Asset,
    Context,
    Conversation,
    Dropped,
    Effect,
    FilePart,
    Message,
    Origin,
    ReasoningPart,
    Record,
    TextPart,
    ToolCallPart,
)
from muniment.errors import ConfigError
from muniment.structure import structure
from muniment_plugins.transforms.filter import Filter
from muniment_plugins.transforms.where import parse

JUNE = datetime(2025, 6, 1, tzinfo=UTC)
JULY = datetime(2025, 7, 1, tzinfo=UTC)


def message(id_, parent=None, role="user", *parts, **fields):
    return Message(id=id_, role=role, parent_id=parent, parts=parts or (TextPart(id_),), **fields)


def record(*messages, **fields):
    return Record(
        conversation=Conversation(id="c", source="chatgpt", messages=messages, **fields),
        origin=Origin("x", "p"),
        source_hash="h",
    )


def apply(transform, record):
    return transform.open(Context(run="r"))(record)


def kept(record, **options):
    return not isinstance(apply(Filter(**options), record), Dropped)


def tree(conversation):
    return {m.id: m.parent_id for m in conversation.messages}


class TestConversations:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"after": JUNE}, True), ({"after": JULY}, False), ({"before": JULY}, True), ({"before": JUNE}, False),
            ({"after": JUNE, "before": JULY}, True), ({"date": "created", "before": JUNE}, True),
            ({"models": ["gpt-4*"]}, True), ({"models": ["GPT-4O"]}, True), ({"models": ["o1", "o3"]}, False),
            ({"title": re.compile("^tax")}, True), ({"title": re.compile("cats")}, False),
            ({"where": "model starts with gpt and title contains 2025"}, True),
            ({"where": "messages > 1"}, False),
            ({"models": ["gpt-4o"], "title": re.compile("cats")}, False), ({}, True),
        ],
    )  # fmt: skip
    def test_conditions(self, options, expected):
        """All must hold; what does not fit is dropped with the name of the condition."""
        one = record(
            message("a", model="gpt-4o"), title="Tax return 2025", updated_at=JUNE,
            created_at=JUNE.replace(month=5),
        )  # fmt: skip

        assert kept(one, **options) is expected
        if options:
            assert kept(one, matching="drop", **options) is not expected

    @pytest.mark.parametrize("matching", ["keep", "drop"])
    def test_without_a_date_it_stays(self, matching):
        """Nothing says that it is too old."""
        assert kept(record(message("a")), after=JUNE, matching=matching)

    def test_the_other_date_stands_in(self):
        assert not kept(record(message("a"), created_at=JUNE), after=JULY)

    def test_the_reason_names_the_condition(self):
        one = record(message("a"), title="cats")

        assert apply(Filter(title=re.compile("dogs")), one) == Dropped("filter: title")
        assert apply(Filter(title=re.compile("cats"), matching="drop"), one) == Dropped("filter: title")

    def test_what_fits_is_the_same_object(self):
        """So its raw JSON is kept."""
        one = record(message("a"), title="cats")

        assert apply(Filter(title=re.compile("CATS"), roles=("user",)), one) is one


class TestInside:
    def test_roles(self):
        """What hung on a message that is gone hangs on the one before it."""
        one = record(
            message("s", None, "system"), message("u", "s"), message("t", "u", "tool"), message("a", "t", "assistant"),
            message("t2", "a", "tool"), current="t2",
        )  # fmt: skip

        left = apply(Filter(roles=("user", "assistant")), one).conversation

        assert tree(left) == {"u": None, "a": "u"}
        assert left.current == "a"
        assert apply(Filter(roles=("system", "tool"), matching="drop"), one).conversation == left

    def test_content_types(self):
        """Parts of other types go, and messages that hold nothing else."""
        one = record(
            message("u"),
            message("a", "u", "assistant", ReasoningPart("hm"), TextPart("hi")),
            message("c", "a", "assistant", ToolCallPart("web")),
            message("e", "c", "assistant"),
        )

        left = apply(Filter(content_types=("text",)), one).conversation

        assert tree(left) == {"u": None, "a": "u", "e": "a"}
        assert left.messages[1].parts == (TextPart("hi"),)
        assert apply(Filter(content_types=("reasoning", "tool_call"), matching="drop"), one).conversation == left

    def test_nothing_left_is_dropped(self):
        assert apply(Filter(roles=("tool",)), record(message("a"))) == Dropped("filter: no message is left")

    def test_files_go_with_what_named_them(self):
        """A file that something else names stays, and so does one that nothing ever named."""
        one = record(
            message("a", None, "user", FilePart("f"), FilePart("g"), TextPart("x")),
            message("b", "a", "assistant", FilePart("g")),
            assets=(Asset(id="f"), Asset(id="g"), Asset(id="h")),
        )

        left = apply(Filter(roles=("assistant",)), one).conversation

        assert [a.id for a in left.assets] == ["g", "h"]

    @given(st.lists(st.tuples(st.sampled_from(["user", "tool"]), st.integers(0, 9)), min_size=1, max_size=10))
    def test_is_idempotent_and_keeps_the_order(self, shape):
        """Twice is once; parents stand before children and are there."""
        messages = tuple(
            message(str(n), str(parent) if parent < n else None, role) for n, (role, parent) in enumerate(shape)
        )
        once = apply(Filter(roles=("user",)), record(*messages))
        if isinstance(once, Dropped):
            assert all(role == "tool" for role, _ in shape)
            return

        assert apply(Filter(roles=("user",)), once) is once
        seen: set[str | None] = {None}
        for m in once.conversation.messages:
            assert m.parent_id in seen
            seen.add(m.id)

    def test_deep_trees_do_not_recurse(self):
        chain = [message(str(n), str(n - 1) if n else None, ("user", "tool")[n % 2]) for n in range(20_000)]

        left = apply(Filter(roles=("user",)), record(*chain)).conversation

        assert left.messages[-1].parent_id == left.messages[-2].id


class TestEffect:
    def test_depends_on_the_options(self):
        """Only what looks inside alters content."""
        assert Filter(title=re.compile("x")).effect == Effect.DROPS
        assert Effect.ALTERS_CONTENT in Filter(roles=("user",)).effect


class TestOptions:
    def test_from_yaml(self):
        options = {
            "after": "2025-06-01", "before": "2025-07-01T12:00:00+02:00", "models": ["gpt-4*"], "title": "tax",
            "roles": ["user"], "content_types": ["text"], "where": "messages >= 2",
        }  # fmt: skip

        made = structure(Filter, options, owner="transform `filter`")

        assert made.after == JUNE
        assert made.title.pattern == "tax"

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("modl starts with x", "there is no field `modl`; use `title`, `model`, `source`, `account`, `id`,"
             " `created`, `updated`, `messages`"),
            ("model", "`model` is no condition; write one such as `model starts with gpt`"),
            ("messages about 3", "`messages about 3`: after `messages` must stand `is`, `<`, `<=`, `>`, `>=`"),
            ("messages > many", "`many` is no whole number"),
            ("created after noon", "`noon` is no date such as `2025-01-31` or `2025-01-31T18:00:00Z`"),
            ("title matches (", "`(` is not a regular expression: missing ), unterminated subpattern at position 0"),
            ("title is", "a value is missing at the end"),
            ("title isn't x", "`title isn't x`: after `title` must stand `is`,"
             " `is not`, `contains`, `starts with`, `ends with`, `matches`"),
        ],
    )  # fmt: skip
    def test_wrong_conditions_say_what_is_right(self, where, message):
        with pytest.raises(ValueError, match=r".") as caught:
            parse(where)

        assert str(caught.value) == message
        with pytest.raises(ConfigError):
            structure(Filter, {"where": where}, owner="transform `filter`")


class TestWhere:
    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ("title is cats and dogs", None), ('title is "cats and dogs"', True), ("title is not dogs", True),
            ("title contains CATS", True), ("title ends with dogs", True), ("title matches ^c.*s$", True),
            ("model is o3", True), ("model is not o3", False), ("source is chatgpt", True), ("account is me", False),
            ("created after 2025-06-01", True), ("created before 2025-06-01", False), ("updated before 2030", None),
            ("updated before 2030-01-01", False), ("messages is 2", True), ("messages<=1", None),
            ("messages <= 1", False), ("messages <=2", True),
            ("id is c and messages >= 2", True),
        ],
    )  # fmt: skip
    def test_conditions(self, where, expected):
        one = record(message("a", model="o3"), message("b", "a"), title="Cats and dogs", created_at=JUNE)

        if expected is None:
            with pytest.raises(ValueError, match=r"."):
                parse(where)
        else:
            assert parse(where)(one.conversation) is expected

    def test_a_record_is_not_changed(self):
        one = record(message("a"))

        parse("model starts with x")(one.conversation)

        assert one == replace(one)
