"""Which records of an archive are missing or damaged, and how do they make room to be written again?"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path

from muniment import Record
from muniment.canonical import record_from_json
from muniment.model import Origin
from muniment.sinks.database_manifests import Stored, held_by
from muniment.units import Damage
from muniment_plugins.sinks.sqlite.cover import Cover, Key, stored_hash
from muniment_plugins.sinks.sqlite.encode import decompress
from muniment_plugins.sinks.sqlite.manifests import ManifestTables
from muniment_plugins.sinks.sqlite.read import connect

_EXPECT = """CREATE TEMP TABLE expected AS
    SELECT conversation AS no, stored_hash, max(no) AS receipt FROM receipts WHERE NOT gone GROUP BY conversation"""
_PAGE = """SELECT c.no, c.source, c.id, c.head, r.record, e.stored_hash FROM conversations c
    LEFT JOIN records r ON r.conversation=c.no LEFT JOIN expected e ON e.no=c.no
    WHERE c.no>? ORDER BY c.no LIMIT 64"""
_STUB = """INSERT OR IGNORE INTO conversations(no, source, id, message_count, source_hash, plan_hash, run)
    VALUES(?,?,?,0,'','','')"""


def survey(path: Path, cover: Cover, damaged: Callable[[Damage], None]) -> Iterator[Record]:
    """Yield the records that are what was stored; tell ``damaged`` of those that are not.

    Of a record whose row is gone nothing is told: it is not there.
    """
    with closing(connect(path)) as connection:
        connection.execute(_EXPECT)
        connection.execute("CREATE UNIQUE INDEX temp.expected_no ON expected(no)")
        last = 0
        while rows := connection.execute(_PAGE, (last,)).fetchall():
            for no, source, identity, head, record, expected in rows:
                if record is None or stored_hash(record, head) != expected:
                    name = cover.receipt_key((source, identity))
                    damaged(Damage(f"record `{name}`", (name,)))
                else:
                    yield record_from_json(decompress(cover.record(record, identity)), Origin(path.name, "", no, no))
            last = rows[-1][0]


def make_room(connection: sqlite3.Connection, cover: Cover, keys: Collection[Key]) -> None:
    """Have these records taken whole when they come again, inside the open transaction.

    Those that an archive should hold get an empty row, if it is gone; what is left of their content goes.
    """
    names = {cover.receipt_key(key): key for key in keys}
    for no, held in _held(connection, names.keys()).items():
        if held:
            connection.execute(_STUB, (no, *names[held[0].key]))
            connection.execute("DELETE FROM records WHERE conversation=?", (no,))
            connection.execute("UPDATE conversations SET source_hash='' WHERE no=?", (no,))


def lost(connection: sqlite3.Connection, cover: Cover, conversation: int, key: Key) -> list[Stored]:
    """Return what takes back the receipts of a conversation whose content is gone, but for its earlier versions."""
    name = cover.receipt_key(key)
    held = Counter(s.stored_hash for s in _held(connection, {name}).get(conversation, ()))
    select = "SELECT record, head FROM versions WHERE conversation=?"
    held.subtract(stored_hash(*version) for version in connection.execute(select, (conversation,)))
    return [Stored(conversation, name, digest, gone=True) for digest, count in held.items() for _ in range(count)]


def _held(connection: sqlite3.Connection, names: Collection[str]) -> dict[int, list[Stored]]:
    """Return what the receipts say is held of these records, by conversation."""
    return held_by(r for _, _, r in ManifestTables(connection).receipts() if r.key in names)
