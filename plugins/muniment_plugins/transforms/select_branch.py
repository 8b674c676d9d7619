"""Keep one way through a conversation that branches."""

from collections.abc import Callable
from typing import ClassVar, Literal

from attrs import frozen
from msgspec.structs import replace

from muniment import Context, Conversation, Dropped, Effect, Record, Transform, option, visible_path
from muniment_plugins.transforms.prune import prune


@frozen(kw_only=True)
class SelectBranch(Transform):
    """Keep the messages of one branch, from the first to the last; a conversation without branches stays."""

    effect: ClassVar[Effect] = Effect.ALTERS_CONTENT

    branch: Literal["visible", "longest", "all"] = option(
        "`visible`: what the vendor's page shows; `longest`: the most messages; `all`: everything.",
        default="visible",
    )

    def open(self, ctx: Context) -> Callable[[Record], Record | Dropped]:
        if self.branch == "all":
            return lambda record: record
        path_of = visible_path if self.branch == "visible" else longest_path

        def apply(record: Record) -> Record:
            conversation = record.conversation
            path = path_of(conversation)
            if len(path) == len(conversation.messages):
                return record
            kept = {m.id: m for m in conversation.messages if m.id in path}
            pruned = prune(conversation, kept)
            if self.branch == "longest" or pruned.current not in path:
                pruned = replace(pruned, current=next(reversed(kept), None))
            return replace(record, conversation=pruned)

        return apply


def longest_path(conversation: Conversation) -> frozenset[str]:
    """Return the ids of the branch with the most messages; of equal ones the one that comes last."""
    depths: dict[str | None, int] = {}
    parents: dict[str, str | None] = {}
    deepest: str | None = None
    for message in conversation.messages:
        parents[message.id] = message.parent_id
        depth = depths[message.id] = depths.get(message.parent_id, 0) + 1
        if depth >= depths.get(deepest, 0):
            deepest = message.id
    path = set()
    while deepest is not None and deepest in parents:
        path.add(deepest)
        deepest = parents[deepest]
    return frozenset(path)
