"""Does a pipeline do to a conversation what its ``tests:`` say?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from attrs import frozen

from muniment.canonical import source_hash
from muniment.components import Context, Transform
from muniment.model import Conversation, Dropped, Message, Origin, Record, TextPart, part_text
from muniment.options import option
from muniment.plan import Plan, PlanTest, SinkPath, Step

ROLES = ("system", "user", "assistant", "tool")


@frozen
class TestResult:
    """What came of one test on the way to one sink.  ``detail`` may quote the test's own text."""

    __test__: ClassVar[bool] = False  # pytest takes what is called Test for a test.

    test: str
    sink: str
    passed: bool
    detail: str = ""


@frozen(kw_only=True)
class Expectation:
    """What a test expects of every sink.

    ``contains`` looks into the title and the messages as a reader sees them, ``not_contains`` into
    every text that would be stored.
    """

    contains: str | tuple[str, ...] = option("Text that must be there, or a list of texts.", default=())
    not_contains: str | tuple[str, ...] = option("Text that must not be there, or a list.", default=())
    dropped: bool | None = option("Whether a transform leaves the conversation out.", default=None)
    reason: str | None = option("Why it leaves it out.", default=None)
    equals_text: tuple[str, ...] | None = option("The text of every message, in order.", default=None)
    messages: int | None = option("How many messages are left.", default=None)


class InputError(ValueError):
    """An input is no conversation; ``path`` is the place in the input, ``at_key`` its name."""

    def __init__(self, message: str, path: tuple[str | int, ...] = (), at_key: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.at_key = at_key


def run_tests(plan: Plan) -> list[TestResult]:
    """Run every test of ``plan`` on the way to every sink; nothing is read or written."""
    return [_run(plan, test, sink) for test in plan.tests for sink in plan.sinks]


def record_of(given: Mapping[str, Any]) -> Record:
    """Return the record that a test's input describes.

    Three forms: a text for each of some roles, in order; ``messages``, a list of ``role`` and
    ``text``, with ``title`` and ``model``; ``conversation``, canonical JSON.

    Raises:
        InputError: it has none of these forms.
    """
    if "conversation" in given:
        conversation = _from_canonical(given)
    elif "messages" in given:
        conversation = _from_messages(given)
    else:
        conversation = _from_roles(given)
    origin = Origin(label="test", partition="test")
    return Record(conversation=conversation, origin=origin, source_hash=source_hash(conversation))


def _from_canonical(given: Mapping[str, Any]) -> Conversation:
    _refuse_others(given, ("conversation",))
    try:
        return msgspec.convert(given["conversation"], type=Conversation)
    except msgspec.ValidationError as error:
        # msgspec ends its message with the place: "... - at `$.messages[0].role`".
        text, _, place = str(error).partition(" - at `$")
        keys = [int(k) if k.isdigit() else k for k in re.findall(r"\w+", place)]
        raise InputError(f"{text[0].lower()}{text[1:]}", ("conversation", *keys)) from None


def _from_messages(given: Mapping[str, Any]) -> Conversation:
    _refuse_others(given, ("messages", "title", "model"))
    messages = given["messages"]
    if not isinstance(messages, list) or not messages:
        raise InputError("`messages` must be a list of mappings with `role` and `text`", ("messages",))
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InputError("a message must be a mapping with `role` and `text`", ("messages", i))
        _refuse_others(message, ("role", "text"), ("messages", i))
        for key in ("role", "text"):
            if not isinstance(message.get(key), str):
                raise InputError(f"a message needs `{key}`, as text", ("messages", i, key))
        if message["role"] not in ROLES:
            raise InputError(_unknown("role", message["role"], ROLES), ("messages", i, "role"))
    for key in ("title", "model"):
        if not isinstance(given.get(key), str | None):
            raise InputError(f"`{key}` must be text", (key,))
    return _conversation([(m["role"], m["text"]) for m in messages], given.get("title"), given.get("model"))


def _from_roles(given: Mapping[str, Any]) -> Conversation:
    _refuse_others(given, (*ROLES, "messages", "conversation"))
    if not given:
        raise InputError("the input is empty; write for example `user: hello`")
    for role, text in given.items():
        if not isinstance(text, str):
            raise InputError(f"`{role}` must be text", (role,))
    return _conversation(list(given.items()), None, None)


def _conversation(texts: Sequence[tuple[str, str]], title: str | None, model: str | None) -> Conversation:
    messages = tuple(
        Message(
            id=f"m{i}",
            role=role,
            parent_id=f"m{i - 1}" if i else None,
            parts=(TextPart(text),),
            model=model if role == "assistant" else None,
        )
        for i, (role, text) in enumerate(texts)
    )
    return Conversation(id="test", source="test", title=title, model=model, messages=messages, current=messages[-1].id)


def _refuse_others(given: Mapping[str, Any], names: Sequence[str], path: tuple[str | int, ...] = ()) -> None:
    for key in given:
        if key not in names:
            raise InputError(_unknown("key", key, names), (*path, key), at_key=True)


def _unknown(what: str, name: str, names: Sequence[str]) -> str:
    from muniment.structure import closest

    return f"unknown {what} `{name}`{closest(name, names)}"


# --- running --------------------------------------------------------------------------------------


def _run(plan: Plan, test: PlanTest, sink: SinkPath) -> TestResult:
    from muniment.structure import structure

    expect = structure(Expectation, test.expect, noun="expectation", owner=f"test `{test.name}`")
    result = _transformed(record_of(test.input), (*plan.transforms, *sink.transforms), plan, sink)
    problems = [result] if isinstance(result, str) else list(_disappointments(result, expect))
    return TestResult(test.name, sink.name, not problems, "; ".join(problems))


def _transformed(
    record: Record, steps: Sequence[Step[Transform]], plan: Plan, sink: SinkPath
) -> Record | Dropped | str:
    """Return what would reach the sink, or a sentence if a transform fails."""
    for step in steps:
        context = Context(
            run="test", path=f"{step.path} ({step.type})", plan_hash=plan.hash_of(sink), state_dir=plan.state_dir
        )
        try:
            result = step.component.open(context)(record)
        except Exception as error:  # noqa: BLE001 - a stranger's code
            return (
                f"transform `{step.type}` ({step.path}) failed, the conversation would be quarantined:"
                f" {type(error).__name__}: {error}"
            )
        if isinstance(result, Dropped):
            return result
        record = result
    return record


def _disappointments(result: Record | Dropped, expect: Expectation) -> Iterator[str]:
    if isinstance(result, Dropped):
        if expect.dropped is False or _wants_a_record(expect):
            yield f"the conversation was dropped: {result.reason}"
        if expect.reason is not None and expect.reason != result.reason:
            yield f"it was dropped for the reason `{result.reason}`, not `{expect.reason}`"
        return
    if expect.dropped or expect.reason is not None:
        yield "the conversation was not dropped"
    yield from _differences(result.conversation, expect)


def _wants_a_record(expect: Expectation) -> bool:
    return bool(expect.contains) or expect.equals_text is not None or expect.messages is not None


def _differences(conversation: Conversation, expect: Expectation) -> Iterator[str]:
    texts = [_message_text(m) for m in conversation.messages]
    shown = [conversation.title or "", *texts]
    for wanted in _as_tuple(expect.contains):
        if not any(wanted in text for text in shown):
            yield f"`{wanted}` is in no message: {texts}"
    stored = [*shown, *_strings(conversation)]
    for unwanted in _as_tuple(expect.not_contains):
        if found := next((text for text in stored if unwanted in text), None):
            yield f"`{unwanted}` is still there: `{found}`"
    if expect.equals_text is not None and tuple(texts) != expect.equals_text:
        yield f"the texts are {texts}, not {list(expect.equals_text)}"
    if expect.messages is not None and len(texts) != expect.messages:
        yield f"there are {len(texts)} messages, not {expect.messages}"


def _message_text(message: Message) -> str:
    return "\n".join(filter(None, map(part_text, message.parts)))


_FRAME = frozenset({"id", "parent_id", "current", "source", "role", "kind", "modality", "channel", "status"})
"""Fields whose values are the archive's own words, not a conversation's."""


def _strings(value: Any) -> Iterator[str]:
    """Yield every text that an archive would hold of a conversation."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if name not in _FRAME:
                yield from _strings(getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _as_tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
