"""Is one version of a conversation newer and richer than another?"""

from muniment.model import Record


def is_newer(stored: Record, record: Record) -> bool:
    """Say whether ``stored`` is another version than ``record``, as late or later, with all of its messages.

    Of the same time it must have more messages.  What was stored may have passed transforms: texts are
    not compared.
    """
    if stored.source_hash == record.source_hash:
        return False
    then, now = record.conversation.updated_at, stored.conversation.updated_at
    if now is None or (then is not None and now < then):
        return False
    before = {m.id for m in record.conversation.messages}
    after = {m.id for m in stored.conversation.messages}
    return before <= after and (len(after) > len(before) or then is None or now > then)
