"""How is a record written again that is stored already, or was?"""

from collections.abc import Iterable

import sqlalchemy as sa

from muniment.sinks.database_manifests import Stored, held_by
from muniment_plugins.sinks.sql.archive import Archive
from muniment_plugins.sinks.sql.layout import SHOWN
from muniment_plugins.sinks.sql.rows import digest_of, scrub

_KEYS_PER_QUERY = 500


def forget(archive: Archive, keys: Iterable[str]) -> None:
    """Have these records written again by the next write, though they are stored.

    Those whose row is gone come under new numbers: a manifest says that the old ones are no more, and
    their rows for people go.
    """
    records, wanted = archive.tables["records"], list(keys)
    with archive.explained(), archive.session.transaction():
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            some = [digest_of(k) for k in wanted[start : start + _KEYS_PER_QUERY]]
            archive.session.execute(sa.update(records).where(records.c.key_digest.in_(some)).values(source_hash=""))
        lost = held_by(archive.stored.receipts_of_lost([scrub(k) for k in wanted]))
        for name, shown in archive.layout.shown.items():
            if lost and not shown.mapped:
                archive.delete(name, SHOWN[name].columns[0].name, list(lost))
        gone = [Stored(r.identity, r.key, r.stored_hash, gone=True) for states in lost.values() for r in states]
        if gone:
            archive.manifests.append_note([gone], {}, count="forgotten")
