"""How is the full-text index filled?  In bursts; while an archive is loaded, beside everything else."""

import contextlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from muniment_plugins.sinks.sqlite import schema

Entry = tuple[int, str, str]
"""A message's number, the title to be found with it (empty but for the first message), its words."""

# In bursts the index's hash table stays in the processor's caches, and one call of SQLite fills it from a
# table: it holds no interpreter lock, so that a thread can do it while the next records are decoded.
BURST_ENTRIES = 8000
BURST_CHARACTERS = 8_000_000
_HASH_BYTES = 32 * 2**20
_NO_MERGE = 1999
_AUTOMERGE, _CRISISMERGE = 4, 16  # SQLite's defaults


def kind_of(connection: sqlite3.Connection) -> str:
    """Return which full-text index an archive has: ``words``, ``trigram`` or ``none``."""
    names = {
        r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'messages_%' AND type='table'")
    }
    return "trigram" if "messages_trigram" in names else "words" if "messages_fts" in names else "none"


class Index:
    """The full-text index of one connection.

    With ``beside`` a thread fills it: nobody may use the connection before `wait` has returned.
    """

    def __init__(self, connection: sqlite3.Connection, kind: str, *, beside: bool) -> None:
        self.kind = kind
        self._connection = connection
        self._entries: list[Entry] = []
        self._characters = 0
        self._thread = (
            ThreadPoolExecutor(1, "index") if beside and sqlite3.threadsafety == 3 and kind != "none" else None
        )
        self._filling: Future[None] | None = None
        self._inserts = {"words": (schema.INSERT_FTS,), "trigram": (schema.INSERT_FTS, schema.INSERT_TRIGRAM)}.get(
            kind, ()
        )
        if self._thread is not None:
            connection.execute(schema.UNINDEXED)

    def add(self, entries: Sequence[Entry]) -> None:
        """Take entries, to be put into the index by the next `fill`."""
        if self.kind != "none":
            self._entries += entries
            self._characters += sum(len(e[2]) for e in entries)

    @property
    def is_due(self) -> bool:
        """True when enough entries wait for a burst."""
        return len(self._entries) >= BURST_ENTRIES or self._characters >= BURST_CHARACTERS

    def fill(self) -> None:
        """Put what was added into the index, or begin to where a thread does it."""
        self.wait()
        entries, self._entries, self._characters = self._entries, [], 0
        if not entries:
            return
        if self._thread is None:
            for insert in self._inserts:
                self._connection.executemany(insert, entries)
        else:
            self._connection.executemany(schema.INSERT_UNINDEXED, entries)
            self._filling = self._thread.submit(self._fill_from_table)

    def forget(self, entries: Sequence[Entry]) -> None:
        """Take entries out again; they must be equal to those that were put in."""
        self.fill()
        self.wait()
        deletes = (schema.DELETE_FTS, schema.DELETE_TRIGRAM)[: len(self._inserts)]
        for delete in deletes:
            self._connection.executemany(delete, entries)

    def wait(self) -> None:
        """Return when no thread uses the connection.

        Raises:
            sqlite3.DatabaseError: the thread failed.
        """
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.result()

    def clear(self) -> None:
        """Forget what waits: the transaction that its messages belong to is rolled back."""
        with contextlib.suppress(sqlite3.Error):
            self.wait()
        self._entries, self._characters = [], 0

    def close(self) -> None:
        self.clear()
        if self._thread is not None:
            self._thread.shutdown()

    def begin_load(self) -> None:
        """Keep segments as they are: merging them on the way would write the index several times over."""
        if self.kind != "none":
            self._set(hashsize=_HASH_BYTES, automerge=0, crisismerge=_NO_MERGE)

    def end_load(self) -> None:
        """Let the index merge its segments again, a little with each top-up."""
        if self.kind != "none":
            self._set(automerge=_AUTOMERGE, crisismerge=_CRISISMERGE)

    def merge(self) -> None:
        """Merge all segments into one."""
        for table in ("messages_fts", "messages_trigram")[: len(self._inserts)]:
            self._connection.execute(f"INSERT INTO {table}({table}) VALUES('optimize')")

    def _set(self, **settings: Any) -> None:
        for name, value in settings.items():
            self._connection.execute("INSERT INTO messages_fts(messages_fts, rank) VALUES(?, ?)", (name, value))

    def _fill_from_table(self) -> None:
        for statement in schema.INDEX_UNINDEXED[: len(self._inserts)]:
            self._connection.execute(statement)
        self._connection.execute(schema.FORGET_UNINDEXED)
