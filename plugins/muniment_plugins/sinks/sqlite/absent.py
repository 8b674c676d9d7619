"""Which conversations does a complete source no longer hold?  They are marked, never removed."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from muniment_plugins.sinks.sqlite import schema
from muniment_plugins.sinks.sqlite.cover import Cover, Encrypted, Head
from muniment_plugins.sinks.sqlite.encode import time_text

_READ = "SELECT no, id, head FROM conversations WHERE seen=?"
_CANDIDATES = """SELECT no, id, head FROM conversations
    WHERE absent_since IS NULL AND coalesce(seen, '') NOT IN (SELECT value FROM json_each(?))"""
_MARK = "UPDATE conversations SET absent_since=? WHERE no=?"


def mark_absent(connection: sqlite3.Connection, cover: Cover, seen: str, later: Sequence[str]) -> int:
    """Mark what was not seen in a complete source, inside the open transaction; return how many."""
    now, every = time_text(datetime.now(UTC)), json.dumps([seen, *later])
    if not isinstance(cover, Encrypted):
        return connection.execute(schema.MARK_ABSENT, {"seen": seen, "all": every, "now": now}).rowcount
    # As `schema.MARK_ABSENT` does it, of what only the keys can tell.
    newest: dict[tuple[str, str | None], str] = {}
    for _, head in _heads(connection, cover, _READ, seen):
        owner = head.source, head.account
        newest[owner] = max(newest.get(owner, ""), head.updated_at or head.created_at or "")
    absent = [
        number
        for number, head in _heads(connection, cover, _CANDIDATES, every)
        if (last := newest.get((head.source, head.account))) and (head.created_at or "") <= last
    ]
    connection.executemany(_MARK, ((now, number) for number in absent))
    return len(absent)


def _heads(connection: sqlite3.Connection, cover: Encrypted, select: str, value: str) -> Iterator[tuple[int, Head]]:
    for number, identity, head in connection.execute(select, (value,)):
        yield number, cover.head(head, identity)
