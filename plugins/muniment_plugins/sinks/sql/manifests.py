"""Where are the manifests of an archive, and what do they say of a record?  In tables, in the unit's transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from muniment import TargetBusyError
from muniment.sinks.database_manifests import Entry, ManifestStore, Stored
from muniment_plugins.sinks.sql.layout import KEPT
from muniment_plugins.sinks.sql.ledger import full_name
from muniment_plugins.sinks.sql.rows import Row
from muniment_plugins.sinks.sql.session import RefusedError, Session

_AT_ONCE = 500
_PAGE_MANIFESTS = 100
_PAGE_RECEIPTS = 5000


class Manifests(ManifestStore):
    """The tables ``manifests`` and ``receipts``."""

    def __init__(self, session: Session, tables: Mapping[str, sa.Table]) -> None:
        self.place = session.place.name
        self._session = session
        self._tables = tables
        self._manifests = tables["manifests"]
        self._receipts = tables["receipts"]

    # --- what is written --------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        try:
            self._load("manifests", [(entry.number, entry.run, entry.data.decode(), entry.note.decode())])
        except RefusedError as error:
            if not error.is_duplicate:
                raise
            raise TargetBusyError(
                f"{self._session.place.path}: another run has written manifest {entry.number} in `{self.place}`; run"
                " again when it has finished: what was committed stands"
            ) from error

    def add_receipts(self, number: int, first: int, receipts: Sequence[Stored]) -> None:
        rows = [(number, i, r.identity, r.key, r.stored_hash, r.gone) for i, r in enumerate(receipts, first)]
        if rows:
            self._load("receipts", rows)

    # --- what is read -----------------------------------------------------------------------

    def last(self) -> bytes | None:
        c = self._manifests.c
        rows = self._session.execute(sa.select(c.manifest).order_by(c.number.desc()).limit(1))
        return str(rows[0][0]).encode() if rows else None

    def numbers(self) -> list[int]:
        c = self._manifests.c
        return [int(r[0]) for r in self._session.execute(sa.select(c.number).order_by(c.number))]

    def entry(self, number: int) -> Entry:
        c = self._manifests.c
        statement = sa.select(c.number, c.run, c.manifest, c.checkpoint).where(c.number == number)
        return _entry(self._session.execute(statement)[0])

    def entries(self) -> Iterator[Entry]:
        c, last = self._manifests.c, 0
        while True:
            statement = sa.select(c.number, c.run, c.manifest, c.checkpoint).where(c.number > last)
            rows = self._session.execute(statement.order_by(c.number).limit(_PAGE_MANIFESTS))
            if not rows:
                return
            yield from map(_entry, rows)
            last = rows[-1][0]

    def receipts(self) -> Iterator[tuple[int, int, Stored]]:
        """Yield (manifest, position, receipt) in the order of both."""
        c = self._receipts.c
        last: tuple[Any, Any] | None = None
        while True:
            statement = sa.select(c.manifest, c.position, c.no, c.key, c.stored_hash, c.gone)
            if last is not None:
                behind = sa.or_(c.manifest > last[0], sa.and_(c.manifest == last[0], c.position > last[1]))
                statement = statement.where(behind)
            rows = self._session.execute(statement.order_by(c.manifest, c.position).limit(_PAGE_RECEIPTS))
            for manifest, position, *rest in rows:
                yield manifest, position, _stored(rest)
            if len(rows) < _PAGE_RECEIPTS:
                return
            last = rows[-1][0], rows[-1][1]

    def receipts_between(self, after: int | None, until: int | None) -> list[Stored]:
        """Return the receipts of the conversations numbered above ``after`` up to ``until``, as they were written."""
        c = self._receipts.c
        limits = [] if after is None else [c.no > after]
        limits += [] if until is None else [c.no <= until]
        return self._where(*limits)

    def receipts_of(self, numbers: Iterable[int]) -> list[Stored]:
        """Return the receipts of conversations, of each as they were written."""
        wanted = sorted(set(numbers))
        found: list[Stored] = []
        for start in range(0, len(wanted), _AT_ONCE):
            found += self._where(self._receipts.c.no.in_(wanted[start : start + _AT_ONCE]))
        return found

    def receipts_of_lost(self, keys: Sequence[str]) -> list[Stored]:
        """Return the receipts of conversations with these keys, as columns hold them, whose records are gone."""
        c, records = self._receipts.c, self._tables["records"].c
        found: list[Stored] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = c.key.in_(keys[start : start + _AT_ONCE])
            found += self._where(some, ~sa.exists(sa.select(records.no).where(records.no == c.no)))
        return found

    def owner_of(self, stored_hash: bytes) -> str:
        """Return the key of a record that was stored with this hash; empty if there is none."""
        c = self._receipts.c
        rows = self._session.execute(sa.select(c.key).where(c.stored_hash == stored_hash).limit(1))
        return str(rows[0][0]) if rows else ""

    def is_needed(self) -> bool:
        """Say whether records are here that no manifest tells of, because they are older than manifests."""
        statements = (sa.select(t.c[c]).limit(1) for t, c in ((self._manifests, "number"), (self._records, "no")))
        has_manifests, has_records = (bool(self._session.execute(s)) for s in statements)
        return has_records and not has_manifests

    @property
    def _records(self) -> sa.Table:
        return self._tables["records"]

    def _where(self, *conditions: Any) -> list[Stored]:
        c = self._receipts.c
        statement = sa.select(c.no, c.key, c.stored_hash, c.gone).where(*conditions)
        return [_stored(r) for r in self._session.execute(statement.order_by(c.manifest, c.position))]

    def _load(self, name: str, rows: Sequence[Row]) -> None:
        columns = KEPT[name].columns
        table = full_name(self._session, self._tables[name])
        self._session.load_values(table, [c.name for c in columns], [c.kind for c in columns], rows)


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(int(row[0]), str(row[1]), str(row[2]).encode(), str(row[3]).encode())


def _stored(row: Sequence[Any]) -> Stored:
    return Stored(int(row[0]), str(row[1]), bytes(row[2]), bool(row[3]))
