"""Is an archive what its manifests say?  Every record, row and file read and compared; nothing written."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from muniment import Checkpoint, Record
from muniment.sinks import database_verify
from muniment.sinks.database_manifests import Entry, Stored
from muniment.sinks.database_verify import Archived, Content, parsed
from muniment.verification import Finding, Inspection
from muniment_plugins.sinks.sql.archive import Archive
from muniment_plugins.sinks.sql.layout import Shown
from muniment_plugins.sinks.sql.rows import Encoder, digest_of, scrub
from muniment_plugins.sinks.sql.session import Denied, RefusedError

_WITH_MANIFESTS = 2
_PAGE = 1000
_PIECES_TOGETHER = 8
_EXACT_INTEGERS = 2**53
_COUNTS = ("read_count", "stored_count", "unchanged_count", "dropped_count", "quarantined_count")


def verify(archive: Archive, inspection: Inspection) -> Iterator[Finding]:
    """Yield what is wrong with an archive.

    Raises:
        FatalError: it cannot be read at all.
    """
    place = archive.session.place
    try:
        yield from database_verify.verify(_Archived(archive), inspection)
    except (Denied, RefusedError) as error:
        raise place.fatal(f"`{place.name}` cannot be read: {error}") from error


class _Archived(Archived):
    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._session = archive.session
        self._stored = archive.stored
        self._tables = archive.tables
        self._shown = [s for s in archive.layout.shown.values() if not s.mapped]
        self._encoder = Encoder(archive.layout)

    # --- what proves ------------------------------------------------------------------------

    def has_manifests(self) -> bool:
        return self._archive.has_manifests()

    def is_older(self) -> bool:
        found = self._session.execute(sa.select(self._tables["muniment_meta"].c.version))
        return bool(found) and found[0][0] < _WITH_MANIFESTS

    def numbers(self) -> list[int]:
        return self._stored.numbers()

    def entry(self, number: int) -> Entry:
        return self._stored.entry(number)

    def receipts(self) -> Iterator[tuple[int, int, Stored]]:
        return self._stored.receipts()

    def receipts_between(self, after: Any, until: Any) -> list[Stored]:
        return self._stored.receipts_between(after, until)

    def owner_of(self, stored_hash: bytes) -> str:
        return self._stored.owner_of(stored_hash)

    # --- records ----------------------------------------------------------------------------

    def identities(self, after: Any, limit: int) -> list[Any]:
        return self._archive.numbers(after, limit)

    def contents(self, identities: Sequence[Any]) -> Iterator[Content]:
        c = self._tables["records"].c
        wanted = sa.select(c.no, c.key_digest, c.chunks, c.data).where(c.no.in_(identities)).order_by(c.no)
        for number, digest, chunks, data in self._session.execute(wanted) if identities else ():
            yield Content(number, self._whole(number, chunks, bytes(data)), {"key_digest": bytes(digest)})

    def _whole(self, number: int, chunks: int, first: bytes) -> bytes | None:
        c = self._tables["record_chunks"].c
        pieces = [first]
        if chunks < 1:
            return None
        if chunks > 1:
            positions = self._session.execute(sa.select(c.position).where(c.no == number).order_by(c.position))
            if [r[0] for r in positions] != list(range(1, chunks)):
                return None
            for position in range(1, chunks):
                statement = sa.select(c.data).where(c.no == number, c.position == position)
                pieces += [bytes(r[0]) for r in self._session.execute(statement)]
        return b"".join(pieces)

    def versions(self, identities: Sequence[Any]) -> Iterator[tuple[Any, bytes]]:
        c = self._tables["versions"].c
        if not identities:
            return
        found = self._session.execute(
            sa.select(c.no, c.version, sa.func.count(), sa.func.max(c.position), sa.func.min(c.position))
            .where(c.no.in_(identities))
            .group_by(c.no, c.version)
            .order_by(c.no, c.version)
        )
        expected: dict[int, int] = {}
        for number, version, count, last, first in found:
            expected[number] = expected.get(number, 0) + 1
            is_whole = first == 0 and last == count - 1 and version == expected[number]
            yield number, self._archive.version_blob(number, version) if is_whole else b""

    def name(self, identity: Any) -> str:
        conversations = self._tables.get("conversations")
        if conversations is not None:
            c = conversations.c
            for source, name in self._session.execute(sa.select(c.source, c.id).where(c.no == identity)):
                return f"{source}:{name}"
        return f"number {identity}"

    def identity_of(self, record: Record) -> Any:
        # A record's number says nothing of its key.
        return None

    def key_of(self, record: Record) -> str:
        return scrub(record.key)

    def differences(self, contents: Sequence[tuple[Content, Record]]) -> Iterator[tuple[Any, str]]:
        expected = {content.identity: self._encoder.values(record) for content, record in contents}
        for content, record in contents:
            if content.shown["key_digest"] != digest_of(record.key):
                yield content.identity, "its `key_digest` in `records` is not that of its key"
        for shown in self._shown if expected else ():
            found = self._rows_of(shown, list(expected))
            for number, tables in expected.items():
                said = [_normal(shown, (number, *row)) for row in tables[shown.table.name]]
                rows = [_normal(shown, row) for row in found.get(number, ())]
                if rows != said and _loose(rows) != _loose(said):
                    yield number, f"its rows in `{shown.name}` are not what its record says"

    def _rows_of(self, shown: Shown, numbers: Sequence[int]) -> Mapping[int, list[Any]]:
        table = self._tables[shown.table.name]
        columns = [table.c[t] for t in shown.targets]
        statement = sa.select(*columns).where(columns[0].in_(numbers)).order_by(*(table.c[k] for k in shown.table.key))
        rows = self._session.execute(statement)
        return {n: list(some) for n, some in itertools.groupby(rows, key=lambda row: row[0])}

    def leftovers(self) -> Iterator[Finding]:
        records = self._tables["records"]
        owners = {s.table.name: s.table.columns[0].name for s in self._shown}
        for name, owner in {**owners, "record_chunks": "no", "versions": "no"}.items():
            table = self._tables[name]
            lonely = ~sa.exists(sa.select(records.c.no).where(records.c.no == table.c[owner]))
            if name == "record_chunks":
                here = sa.select(records.c.no).where(
                    records.c.no == table.c.no, table.c.position > 0, table.c.position < records.c.chunks
                )
                lonely = ~sa.exists(here)
            count = self._session.execute(sa.select(sa.func.count()).select_from(table).where(lonely))[0][0]
            if count:
                yield Finding("extra", self._archive.layout.names[name], f"{count} of its rows belong to no record")

    # --- files ------------------------------------------------------------------------------

    def assets(self) -> Iterator[str]:
        c, last = self._tables["asset_chunks"].c, None
        while True:
            statement = sa.select(c.sha256).distinct().order_by(c.sha256).limit(_PAGE)
            found = [
                r[0] for r in self._session.execute(statement if last is None else statement.where(c.sha256 > last))
            ]
            yield from found
            if len(found) < _PAGE:
                return
            last = found[-1]

    def asset_digest(self, digest: str) -> str:
        c, actual, position = self._tables["asset_chunks"].c, hashlib.sha256(), 0
        rows: Sequence[Any] = [()]
        last = -1
        while rows:
            statement = sa.select(c.position, c.data).where(c.sha256 == digest, c.position > last)
            rows = self._session.execute(statement.order_by(c.position).limit(_PIECES_TOGETHER))
            for last, data in rows:
                if last != position:
                    return ""
                actual.update(bytes(data))
                position += 1
        return actual.hexdigest()

    def shown_assets(self) -> set[str]:
        assets = self._tables.get("assets")
        if assets is None:
            return set()
        return {r[0] for r in self._session.execute(sa.select(assets.c.sha256).distinct()) if r[0]}

    # --- the ledger -------------------------------------------------------------------------

    def as_stored(self, text: str) -> str:
        return scrub(text)

    def checkpoints(self) -> Mapping[str, Checkpoint]:
        return self._archive.ledger.checkpoints()

    def quarantined(self) -> Mapping[str, tuple[str, str]]:
        c = self._tables["quarantine"].c
        return {i: (stage, reason) for i, stage, reason in self._session.execute(sa.select(c.id, c.stage, c.reason))}

    def runs(self) -> Mapping[str, tuple[int | None, ...]]:
        c = self._tables["runs"].c
        rows = self._session.execute(sa.select(c.run, c.exit_code, *(c[n] for n in _COUNTS)))
        return {r[0]: tuple(r[1:]) for r in rows}


def _normal(shown: Shown, row: Sequence[Any]) -> list[Any]:
    """Return a row as it can be compared: what a driver gives back differs from what it was given."""
    return [_value(kind, v) for kind, v in zip(shown.kinds, row, strict=True)]


def _value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "flag":
        return bool(value)
    if kind == "json" and isinstance(value, str | bytes):
        return parsed(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _loose(value: Any) -> Any:
    """Return a value with numbers as a database of decimals may give them back: 1e23 comes as an integer."""
    if isinstance(value, dict):
        return {k: _loose(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_loose(v) for v in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > _EXACT_INTEGERS:
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return value
