"""How are messages taken out of a conversation so that the rest is still a tree?"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from muniment import Conversation, FilePart, Message


def prune(conversation: Conversation, kept: Mapping[str, Message]) -> Conversation:
    """Return the conversation with only the messages in ``kept``, as they are there.

    A message whose parent is gone hangs on the nearest ancestor that is left, and so does
    ``current``.  Files that only what is gone has named are gone, too.
    """
    nearest: dict[str | None, str | None] = {None: None}
    messages = []
    for original in conversation.messages:
        parent = nearest.get(original.parent_id, original.parent_id)
        message = kept.get(original.id)
        nearest[original.id] = parent if message is None else original.id
        if message is not None:
            messages.append(message if message.parent_id == parent else replace(message, parent_id=parent))
    gone = _files(conversation.messages) - _files(messages)
    return replace(
        conversation,
        messages=tuple(messages),
        current=nearest.get(conversation.current, conversation.current),
        assets=tuple(a for a in conversation.assets if a.id not in gone),
    )


def _files(messages: Iterable[Message]) -> set[str]:
    named = {p.file_id for m in messages for p in m.parts if isinstance(p, FilePart)}
    return named | {c.file_id for m in messages for c in m.citations if c.file_id}
