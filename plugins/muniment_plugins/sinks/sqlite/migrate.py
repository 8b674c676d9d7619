"""How does an archive that an older muniment wrote become one of today?  Forward, a version at a time."""

import sqlite3
from collections.abc import Mapping

from muniment_plugins.sinks.sqlite import schema

STEPS: Mapping[int, str] = {
    # What a complete export no longer holds is marked, never removed.  What there is gets its first
    # manifest when a run opens the archive.
    1: "ALTER TABLE conversations ADD COLUMN seen TEXT; ALTER TABLE conversations ADD COLUMN absent_since TEXT;"
    + schema.PROOF_TABLES,
    # An archive is encrypted from its beginning or never: an older one stays as it is.
    2: "ALTER TABLE conversations ADD COLUMN head BLOB; ALTER TABLE versions ADD COLUMN head BLOB;"
    + schema.VAULT_TABLE,
}
"""Version -> the statements that make the next one of it.  Columns are added at the end, as a new archive has them."""


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables from ``version`` to today's, in one transaction.

    Raises:
        sqlite3.DatabaseError: it cannot be done; the archive is as it was.
    """
    steps = "".join(STEPS[n] for n in range(version, schema.VERSION))
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version={schema.VERSION}; COMMIT;")
    except sqlite3.DatabaseError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
