"""How do two versions of a conversation become one?  Pure, and it never loses a message.

Per message, and for the conversation's own fields, the newer ``updated_at`` wins, then the newer
``created_at``; on a tie ``new`` wins.  What the winner lacks is filled from the other, and on a tie
the content that holds more is kept: a thinner export takes nothing away.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec.structs import replace

from muniment.canonical import source_hash, to_json
from muniment.model import JSON, Asset, Conversation, Message, Raw, Record, UnknownPart

S = TypeVar("S", Message, Asset, Conversation)
Dated = TypeVar("Dated", Message, Conversation)

_NULL = b"null"
_NEVER = datetime.min.replace(tzinfo=UTC)
_FILLED_MESSAGE = (
    "parent_id", "author", "recipient", "channel", "created_at", "updated_at", "model", "hidden",
    "status", "usage", "citations", "feedback",
)  # fmt: skip
_FILLED_CONVERSATION = ("account", "title", "created_at", "updated_at", "model", "current")
_FILLED_ASSET = ("name", "mime_type", "size", "sha256")


def merge(old: Conversation, new: Conversation) -> Conversation:
    """Return the union of two versions of one conversation.

    Every message id of both is in the result, parents before children, in the order of ``old`` with
    what is new behind what it follows in ``new``.  Where nothing changed the result *is* ``old``.
    """
    if old is new or old == new:
        return old
    conversation = _merge_fields(old, new, _merge_messages(old.messages, new.messages))
    return old if conversation == old else conversation


def merge_records(old: Record, new: Record) -> Record:
    """Return the merged record; each message keeps the raw JSON of the version that it comes from.

    A message that mixes both versions has the raw JSON of the one that won; where that was dropped
    it has none, so text that a transform removed does not come back.
    """
    conversation = merge(old.conversation, new.conversation)
    raw = _merge_raw(old, new, conversation)
    findings = tuple(dict.fromkeys(old.findings + new.findings))
    if conversation is old.conversation:
        if raw == old.raw and findings == old.findings:
            return old
        return replace(old, raw=raw, findings=findings)
    return Record(
        conversation=conversation,
        origin=new.origin,
        source_hash=source_hash(conversation),
        raw=raw,
        findings=findings,
    )


def _merge_messages(old: tuple[Message, ...], new: tuple[Message, ...]) -> tuple[Message, ...]:
    if old == new or not new:
        return old
    merged = {m.id: m for m in old}
    additions: dict[str | None, list[Message]] = {}
    previous: str | None = None
    for message in new:
        known = merged.get(message.id)
        if known is None:
            merged[message.id] = message
            additions.setdefault(previous, []).append(message)
        else:
            merged[message.id] = _merge_message(known, message)
        previous = message.id
    return _parents_first(_interleave(old, additions, merged), merged)


def _interleave(
    old: tuple[Message, ...], additions: Mapping[str | None, list[Message]], merged: Mapping[str, Message]
) -> list[Message]:
    """Return ``old`` with every addition behind the message that it follows in ``new``."""
    if not additions:
        return [merged[m.id] for m in old]
    ordered: list[Message] = []
    pending = [m.id for m in reversed(old)]
    pending += [m.id for m in reversed(additions.get(None, ()))]
    while pending:
        id_ = pending.pop()
        ordered.append(merged[id_])
        pending += [m.id for m in reversed(additions.get(id_, ()))]
    return ordered


def _parents_first(messages: list[Message], merged: Mapping[str, Message]) -> tuple[Message, ...]:
    """Return the messages with each behind its parent, moved no further than that needs."""
    placed: set[str] = set()
    waiting: dict[str, list[Message]] = {}
    ordered: list[Message] = []
    for message in messages:
        parent = message.parent_id
        if parent in merged and parent not in placed:
            waiting.setdefault(parent, []).append(message)  # type: ignore[arg-type]
        else:
            _place(message, ordered, placed, waiting)
    # Each version is a tree, but together they can name each other as parents: cut such a circle.
    for message in messages:
        if message.id not in placed:
            waiting[message.parent_id].remove(message)  # type: ignore[index]
            _place(replace(message, parent_id=None), ordered, placed, waiting)
    return tuple(ordered)


def _place(message: Message, ordered: list[Message], placed: set[str], waiting: dict[str, list[Message]]) -> None:
    pending = [message]
    while pending:
        message = pending.pop()
        ordered.append(message)
        placed.add(message.id)
        if waiting:
            pending += reversed(waiting.pop(message.id, ()))


def _merge_message(old: Message, new: Message) -> Message:
    if old == new:
        return old
    tie, winner, loser = _by_age(old, new)
    if not winner.parts or (tie and _richness(loser) > _richness(winner)):
        # Marks of citations are places in the parts, so both come from one version.
        winner = replace(winner, parts=loser.parts, citations=loser.citations or winner.citations)
    metadata = _merge_dicts(winner.metadata, loser.metadata)
    merged = _fill(winner, loser, _FILLED_MESSAGE, metadata=metadata)
    return old if merged == old else merged


def _richness(message: Message) -> tuple[int, int]:
    parts = message.parts
    return sum(type(p) is not UnknownPart for p in parts), len(to_json(parts)) if parts else 0


def _merge_fields(old: Conversation, new: Conversation, messages: tuple[Message, ...]) -> Conversation:
    _, winner, loser = _by_age(old, new)
    return _fill(
        winner,
        loser,
        _FILLED_CONVERSATION,
        id=old.id,
        source=old.source,
        messages=messages,
        assets=_merge_assets(old.assets, new.assets, new_wins=winner is new),
        metadata=_merge_dicts(winner.metadata, loser.metadata),
    )


def _merge_assets(old: tuple[Asset, ...], new: tuple[Asset, ...], *, new_wins: bool) -> tuple[Asset, ...]:
    if old == new or not new:
        return old
    merged = {a.id: a for a in old}
    for asset in new:
        known = merged.get(asset.id)
        merged[asset.id] = asset if known is None else _merge_asset(known, asset, new_wins=new_wins)
    return tuple(merged.values())


def _merge_asset(old: Asset, new: Asset, *, new_wins: bool) -> Asset:
    found = (old.sha256 is not None, new.sha256 is not None)
    prefer_new = new_wins if found[0] == found[1] else found[1]
    winner, loser = (new, old) if prefer_new else (old, new)
    if winner.sha256 is not None:
        # Another content's size says nothing about this one.
        same = replace(loser, missing=None, size=loser.size if loser.sha256 == winner.sha256 else None)
    else:
        same = loser
        winner = winner if winner.missing else replace(winner, missing=loser.missing)
    return _fill(winner, same, _FILLED_ASSET, metadata=_merge_dicts(winner.metadata, loser.metadata))


def _merge_raw(old: Record, new: Record, conversation: Conversation) -> Raw | None:
    if old.raw is None and new.raw is None:
        return None
    if conversation is old.conversation and (new.raw is None or old.raw == new.raw):
        return old.raw
    tie, winner, loser = _by_age(old.conversation, new.conversation)
    first, second = (new, old) if winner is new.conversation else (old, new)
    olds, news = _raw_by_id(old), _raw_by_id(new)
    messages = tuple(_raw_of(m, olds.get(m.id), news.get(m.id)) for m in conversation.messages)
    envelope = _NULL if first.raw is None else first.raw.envelope
    other = _NULL if second.raw is None else second.raw.envelope
    same = (tie and first.raw is not None) or _own_fields(winner) == _own_fields(loser)
    if same and len(other) > len(envelope):
        envelope = other
    if envelope == _NULL and all(m == _NULL for m in messages):
        return None
    return Raw(envelope, messages)


def _own_fields(conversation: Conversation) -> Conversation:
    return replace(conversation, messages=())


def _raw_by_id(record: Record) -> dict[str, tuple[Message, bytes]]:
    messages = record.conversation.messages
    raws: Iterable[bytes] = (_NULL,) * len(messages) if record.raw is None else record.raw.messages
    return {m.id: (m, raw) for m, raw in zip(messages, raws, strict=True)}


def _raw_of(merged: Message, old: tuple[Message, bytes] | None, new: tuple[Message, bytes] | None) -> bytes:
    """Return the raw JSON of the version that ``merged`` is; the longer where both are."""
    if old is None or new is None:
        return (old or new or (merged, _NULL))[1]
    is_old, is_new = merged == old[0], merged == new[0]
    if is_old and is_new:
        return max(old[1], new[1], key=len)
    if is_old or is_new:
        return old[1] if is_old else new[1]
    return old[1] if _by_age(old[0], new[0])[1] is old[0] else new[1]


def _by_age(old: Dated, new: Dated) -> tuple[bool, Dated, Dated]:
    """Return whether both are as old, the winner and the loser."""
    old_age, new_age = _age(old), _age(new)
    return (old_age == new_age, old, new) if old_age > new_age else (old_age == new_age, new, old)


def _age(dated: Message | Conversation) -> tuple[datetime, datetime]:
    return dated.updated_at or _NEVER, dated.created_at or _NEVER


def _fill(winner: S, loser: S, names: Iterable[str], **changes: Any) -> S:
    for name in names:
        value = getattr(winner, name)
        if not value and (value is False or value != 0):
            changes[name] = getattr(loser, name)
    return replace(winner, **changes)


def _merge_dicts(winner: dict[str, JSON] | None, loser: dict[str, JSON] | None) -> dict[str, JSON] | None:
    if not loser or winner == loser:
        return winner if winner is not None else loser
    if not winner:
        return loser
    return {**loser, **{k: v for k, v in winner.items() if v is not None or k not in loser}}
