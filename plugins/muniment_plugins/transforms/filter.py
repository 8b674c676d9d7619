"""Leave conversations, messages or parts out, by date, model, title, role and type of content."""

import re
from collections.abc import Callable
from datetime import datetime
from fnmatch import translate
from typing import Any, Literal

from attrs import frozen
from msgspec.structs import replace

from muniment import Context, Conversation, Dropped, Effect, Message, Record, Transform, option
from muniment_plugins.transforms.prune import prune
from muniment_plugins.transforms.where import Condition, models_of, parse

ContentType = Literal["text", "reasoning", "tool_call", "tool_call_response", "file", "uri", "blob", "unknown"]


def _is_condition(_filter: Any, _option: Any, value: str | None) -> None:
    if value is not None:
        parse(value)


@frozen(kw_only=True)
class Filter(Transform):
    """Keep what fits, or drop it.

    A conversation fits if it meets every condition on conversations (dates, `models`, `title`,
    `where`).  `roles` and `content_types` look inside: messages and parts that do not fit are
    taken out, and what hung on them hangs on the message before.
    """

    after: datetime | None = option(
        "The earliest time that fits (included), such as `2025-01-31`; UTC without a zone.", default=None
    )
    before: datetime | None = option("The first time that fits no more.", default=None)
    date: Literal["updated", "created"] = option("Which time of a conversation is meant.", default="updated")
    models: tuple[str, ...] = option("Models, with wildcards; one of them must occur.", default=(), example=["gpt-4*"])
    title: re.Pattern[str] | None = option(
        "A regular expression, searched in the title without regard to case.", default=None
    )
    where: str | None = option(
        "Conditions on a conversation, joined by `and`.",
        default=None,
        validator=_is_condition,
        example="model starts with gpt and messages > 2",
    )
    roles: tuple[str, ...] = option("Roles of messages.", default=(), example=["user", "assistant"])
    content_types: tuple[ContentType, ...] = option("Types of parts.", default=(), example=["text"])
    matching: Literal["keep", "drop"] = option("What becomes of what fits.", default="keep")

    @property
    def effect(self) -> Effect:  # type: ignore[override]
        """Taking parts of a conversation out alters it; dropping it whole does not."""
        inside = self.roles or self.content_types
        return Effect.DROPS | Effect.ALTERS_CONTENT if inside else Effect.DROPS

    def open(self, ctx: Context) -> Callable[[Record], Record | Dropped]:
        conditions = self._conditions()
        keep = self.matching == "keep"
        inside = bool(self.roles or self.content_types)

        def apply(record: Record) -> Record | Dropped:
            conversation = record.conversation
            if conditions:
                failed = next((name for name, fits in conditions if not fits(conversation)), "")
                if keep and failed:
                    return Dropped(f"filter: {failed}")
                if not keep and not failed:
                    return Dropped(f"filter: {', '.join(name for name, _ in conditions)}")
            return self._look_inside(record) if inside else record

        return apply

    def _conditions(self) -> list[tuple[str, Condition]]:
        conditions: list[tuple[str, Condition]] = []
        if self.after is not None:
            conditions.append(("after", self._dated(self.after, later=True)))
        if self.before is not None:
            conditions.append(("before", self._dated(self.before, later=False)))
        if self.models:
            pattern = re.compile("|".join(translate(m.casefold()) for m in self.models))
            conditions.append(("models", lambda c: any(pattern.match(m.casefold()) for m in models_of(c))))
        if self.title is not None:
            title = re.compile(self.title.pattern, self.title.flags | re.IGNORECASE)
            conditions.append(("title", lambda c: title.search(c.title or "") is not None))
        if self.where is not None:
            conditions.append(("where", parse(self.where)))
        return conditions

    def _dated(self, limit: datetime, *, later: bool) -> Condition:
        """Return the condition; a conversation without the time that is meant is judged by its other one.

        Without any it is left alone: nothing says that it is too old or too new.
        """

        def fits(conversation: Conversation) -> bool:
            times = conversation.updated_at, conversation.created_at
            time = (times if self.date == "updated" else times[::-1])[0] or times[0] or times[1]
            if time is None:
                return self.matching == "keep"
            return time >= limit if later else time < limit

        return fits

    def _look_inside(self, record: Record) -> Record | Dropped:
        messages = record.conversation.messages
        kept = {m.id: left for m in messages if (left := self._left_of(m)) is not None}
        if len(kept) == len(messages) and all(kept[m.id] is m for m in messages):
            return record
        if not kept:
            return Dropped("filter: no message is left")
        return replace(record, conversation=prune(record.conversation, kept))

    def _left_of(self, message: Message) -> Message | None:
        keep = self.matching == "keep"
        if self.roles and (message.role in self.roles) != keep:
            return None
        if not self.content_types:
            return message
        parts = tuple(p for p in message.parts if (_type_of(p) in self.content_types) == keep)
        if parts == message.parts:
            # Without any part it has nothing of the types that are wanted.
            return message if parts or not keep else None
        return replace(message, parts=parts) if parts else None


def _type_of(part: Any) -> str:
    return str(part.__struct_config__.tag)
