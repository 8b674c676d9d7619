"""What becomes of a record when the target holds its conversation already?"""

from enum import Enum

from muniment.sinks._object_payload import Entry
from muniment.state import PURGED, StoredRecord


class Fate(Enum):
    """What the writer does with an entry.

    ``KEEP`` is nothing: it is stored already, what is stored holds more, or it was purged.  ``NEWER`` has all the
    messages that are stored and a later time; ``MIXED`` may lack something, so both must survive.
    With ``OTHER_PLAN`` what is stored was made under another plan and gives way; with
    ``OTHER_PLAN_LACKING`` it does too, but it holds messages that are nowhere else.
    """

    KEEP = "keep"
    NEW = "new"
    NEWER = "newer"
    MIXED = "mixed"
    OTHER_PLAN = "other plan"
    OTHER_PLAN_LACKING = "other plan, lacking"


def decide(entry: Entry, stored: StoredRecord | None, plan_hash: str, on_plan_change: str) -> Fate:
    """Return the fate of ``entry`` beside ``stored``."""
    if stored is None:
        return Fate.NEW
    if stored.source_hash == PURGED:
        return Fate.KEEP
    other_plan = stored.plan_hash != plan_hash and on_plan_change != "keep"
    if stored.source_hash == entry.source_hash:
        return Fate.OTHER_PLAN if other_plan else Fate.KEEP
    messages = entry.message_set()
    lacking = bool(stored.messages - messages)
    newer, older = _is_after(entry.updated_at, stored.updated_at), _is_after(stored.updated_at, entry.updated_at)
    if not newer and messages <= stored.messages and (lacking or older):
        return Fate.KEEP
    if other_plan:
        return Fate.OTHER_PLAN_LACKING if lacking else Fate.OTHER_PLAN
    return Fate.NEWER if newer and not lacking else Fate.MIXED


def is_newer(stored: StoredRecord, entry: Entry) -> bool:
    """Say whether ``stored`` is another version than ``entry``, as late or later, with all of its messages."""
    if stored.source_hash in ("", entry.source_hash) or _is_after(entry.updated_at, stored.updated_at):
        return False
    messages = entry.message_set()
    return messages <= stored.messages and (
        messages != stored.messages or _is_after(stored.updated_at, entry.updated_at)
    )


def joined(
    entry: Entry, stored: StoredRecord | None, fate: Fate, plan_hash: str, location: str, run: str
) -> StoredRecord:
    """Return what the target holds after ``entry`` was stored at ``location``."""
    now = entry.stored(plan_hash, location, run)
    if stored is None or fate in (Fate.NEW, Fate.OTHER_PLAN):
        return now
    updated_at = stored.updated_at if _is_after(stored.updated_at, now.updated_at) else now.updated_at
    return StoredRecord(now.key, now.source_hash, plan_hash, updated_at, location, now.messages | stored.messages, run)


def _is_after(one: str | None, other: str | None) -> bool:
    return one is not None and (other is None or one > other)
