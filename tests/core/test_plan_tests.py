"""The tests that a pipeline file holds."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from attrs import evolve, frozen

from muniment import Dropped, Effect, Record, Sink, TextPart, Transform, option
from muniment.plan import Plan, PlanTest, SinkPath, Step
from muniment.plan_tests import InputError, TestResult, record_of, run_tests


@frozen(kw_only=True)
class Replace(Transform):
    effect: ClassVar[Effect] = Effect.ALTERS_CONTENT
    old: str = option("Old.")
    new: str = option("New.")

    def apply(self, record: Record) -> Record:
        return record.map_text(lambda text: text.replace(self.old, self.new))


@frozen(kw_only=True)
class DropShort(Transform):
    effect: ClassVar[Effect] = Effect.DROPS

    def apply(self, record: Record) -> Record | Dropped:
        return Dropped("too short") if len(record.conversation.messages) < 2 else record


@frozen(kw_only=True)
class Fail(Transform):
    def apply(self, record: Record) -> Record:
        raise RuntimeError("out of order")


def plan_of(*transforms: Transform, sinks: Mapping[str, tuple[Transform, ...]] | None = None) -> Plan:
    def steps(path: str, components: tuple[Transform, ...]) -> tuple[Step[Transform], ...]:
        return tuple(Step(type(c).__name__.lower(), f"{path}[{i}]", c) for i, c in enumerate(components))

    return Plan(
        name="p",
        sources=(),
        transforms=steps("transforms", transforms),
        sinks=tuple(
            SinkPath(step=Step("sink", "sinks[0]", Sink()), name=name, transforms=steps("own", own))
            for name, own in (sinks or {"store": ()}).items()
        ),
    )


def results(plan: Plan, given: Mapping[str, Any], **expect: Any) -> list[TestResult]:
    return run_tests(evolve(plan, tests=(PlanTest(name="t", input=given, expect=expect),)))


class TestRunTests:
    def test_runs_the_transforms_of_every_sink(self) -> None:
        """The pipeline's own first, then the sink's."""
        plan = plan_of(Replace(old="a", new="b"), sinks={"plain": (), "other": (Replace(old="b", new="c"),)})

        assert results(plan, {"user": "a"}, equals_text=["b"]) == [
            TestResult("t", "plain", True),
            TestResult("t", "other", False, "the texts are ['c'], not ['b']"),
        ]

    @pytest.mark.parametrize(
        ("expect", "detail"),
        [
            ({"contains": "555"}, ""),
            ({"contains": ["call", "sure"]}, ""),
            ({"contains": ["call", "no"]}, "`no` is in no message: ['call 555', 'sure']"),
            ({"not_contains": "x"}, ""),
            ({"not_contains": ["x", "555"]}, "`555` is still there: `call 555`"),
            ({"not_contains": "user"}, ""),
            ({"dropped": False}, ""),
            ({"dropped": True}, "the conversation was not dropped"),
            ({"reason": "too short"}, "the conversation was not dropped"),
            ({"messages": 2}, ""),
            ({"messages": 1}, "there are 2 messages, not 1"),
            (
                {"messages": 1, "contains": "z"},
                "`z` is in no message: ['call 555', 'sure']; there are 2 messages, not 1",
            ),
        ],
    )  # fmt: skip
    def test_compares_what_would_be_stored(self, expect: dict[str, Any], detail: str) -> None:
        """Every expectation that does not hold is told."""
        given = {"user": "call 555", "assistant": "sure"}

        assert results(plan_of(DropShort()), given, **expect) == [TestResult("t", "store", not detail, detail)]

    @pytest.mark.parametrize(
        ("expect", "detail"),
        [
            ({"dropped": True}, ""),
            ({"reason": "too short"}, ""),
            ({"dropped": True, "reason": "spam"}, "it was dropped for the reason `too short`, not `spam`"),
            ({"dropped": False}, "the conversation was dropped: too short"),
            ({"contains": "a"}, "the conversation was dropped: too short"),
            ({"not_contains": "a"}, ""),
            ({"messages": 0}, "the conversation was dropped: too short"),
        ],
    )
    def test_knows_what_was_dropped(self, expect: dict[str, Any], detail: str) -> None:
        """A dropped conversation holds nothing, and leaks nothing."""
        assert results(plan_of(DropShort()), {"user": "a"}, **expect) == [TestResult("t", "store", not detail, detail)]

    def test_fails_where_a_transform_raises(self) -> None:
        """Such a conversation would be quarantined, whatever was expected."""
        assert results(plan_of(Fail()), {"user": "a"}, not_contains="a") == [
            TestResult(
                "t",
                "store",
                False,
                "transform `fail` (transforms[0]) failed, the conversation would be quarantined: RuntimeError:"
                " out of order",
            )
        ]

    def test_looks_for_unwanted_text_everywhere(self) -> None:
        """An address in a tool's answer or a file's name is as archived as one in a message."""
        part = {"type": "tool_call_response", "response": {"a@b.co": [1]}}
        given = {
            "conversation": {
                "id": "1",
                "source": "x",
                "messages": [{"id": "m", "role": "tool", "parts": [part]}],
                "assets": [{"id": "f", "name": "c@d.co.png"}],
            }
        }

        assert results(plan_of(), given, not_contains=["a@b.co", "c@d.co"]) == [
            TestResult(
                "t", "store", False, '`a@b.co` is still there: `{"a@b.co":[1]}`; `c@d.co` is still there: `c@d.co.png`'
            )
        ]


class TestRecordOf:
    def test_takes_texts_by_role(self) -> None:
        """In the order in which they are written; each answers the one before."""
        conversation = record_of({"system": "s", "user": "u", "assistant": "a"}).conversation

        assert [(m.role, m.parent_id, m.parts) for m in conversation.messages] == [
            ("system", None, (TextPart("s"),)),
            ("user", "m0", (TextPart("u"),)),
            ("assistant", "m1", (TextPart("a"),)),
        ]
        assert conversation.current == "m2"

    def test_takes_messages(self) -> None:
        """With title and model, and a role as often as wanted."""
        messages = [{"role": "user", "text": "1"}, {"role": "user", "text": "2"}]
        conversation = record_of({"messages": messages, "title": "T", "model": "m"}).conversation

        assert (conversation.title, conversation.model, len(conversation.messages)) == ("T", "m", 2)

    def test_takes_canonical_json(self) -> None:
        """Everything that an archive can hold can be tested."""
        assert record_of({"conversation": {"id": "1", "source": "x"}}).key == "x:1"

    @pytest.mark.parametrize(
        ("given", "path", "said"),
        [
            ({}, (), "the input is empty; write for example `user: hello`"),
            ({"usr": "a"}, ("usr",), "unknown key `usr`; did you mean `user`?"),
            ({"user": 1}, ("user",), "`user` must be text"),
            ({"messages": []}, ("messages",), "`messages` must be a list of mappings with `role` and `text`"),
            ({"messages": ["a"]}, ("messages", 0), "a message must be a mapping with `role` and `text`"),
            (
                {"messages": [{"role": "user", "text": "a", "x": 1}]},
                ("messages", 0, "x"),
                "unknown key `x`; there is `role`, `text`",
            ),
            (
                {"messages": [{"role": "user", "text": "a"}], "title": 5},
                ("title",),
                "`title` must be text",
            ),
            (
                {"conversation": {"id": 1}},
                ("conversation", "id"),
                "expected `str`, got `int`",
            ),
            (
                {"conversation": {"id": "1"}},
                ("conversation",),
                "object missing required field `source`",
            ),
        ],
    )
    def test_says_what_is_no_conversation(self, given: dict[str, Any], path: tuple[Any, ...], said: str) -> None:
        """With the place inside the input."""
        with pytest.raises(InputError) as caught:
            record_of(given)

        assert (str(caught.value), caught.value.path) == (said, path)
