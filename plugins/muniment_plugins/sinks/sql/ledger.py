"""Where are runs, units, checkpoints and the quarantine?  In tables beside the data, in its transactions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import sqlalchemy as sa

from muniment import Checkpoint, Counts, Unit
from muniment.model import JSON
from muniment.state import quarantine_id
from muniment_plugins.sinks.sql.layout import KEPT
from muniment_plugins.sinks.sql.rows import Row, digest_of, scrub
from muniment_plugins.sinks.sql.session import Session

_COUNTS = ("read_count", "stored_count", "unchanged_count", "dropped_count", "quarantined_count")
# Some of the names that a local state has are reserved words of a database.
_RENAMED = {"partition_id": "partition", "start_byte": "start", "end_byte": "end", "noted_at": "at"}


class Ledger:
    """The ledger of an archive; every write joins the open transaction."""

    def __init__(self, session: Session, tables: Mapping[str, sa.Table]) -> None:
        self._session = session
        self._tables = tables

    def begin_run(self, run: str, pipeline: str, sink: str) -> None:
        """Note a run, and make it the one that may commit."""
        runs, meta = self._tables["runs"], self._tables["muniment_meta"]
        if not self._session.execute(sa.select(runs.c.run).where(runs.c.run == run)):
            self._load("runs", [(run, scrub(pipeline), sink, now(), None, None, 0, 0, 0, 0, 0)])
        self._session.execute(sa.update(meta).where(meta.c.id == 1).values(holder=run))

    def holder(self) -> str:
        """Return the run that may commit.

        Where the database can, the row is locked until the transaction ends: the next run waits for it.
        """
        meta = self._tables["muniment_meta"]
        statement = sa.select(meta.c.holder).where(meta.c.id == 1)
        if self._session.has_savepoints:
            statement = statement.with_for_update(read=True)
        rows = self._session.execute(statement)
        return str(rows[0][0]) if rows else ""

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        runs = self._tables["runs"]
        values = dict(zip(_COUNTS, attrs.astuple(counts), strict=True))
        self._session.execute(
            sa.update(runs).where(runs.c.run == run).values(finished_at=now(), exit_code=exit_code, **values)
        )

    def runs(self) -> list[dict[str, JSON]]:
        """Return every run, oldest first, as a local ledger has them."""
        c = self._tables["runs"].c
        names = ("run", "pipeline", "sink", "started_at", "finished_at", "exit_code", *_COUNTS)
        rows = self._session.execute(sa.select(*(c[n] for n in names)).order_by(c.started_at, c.run))
        return [{n.removesuffix("_count"): _plain(v) for n, v in zip(names, r, strict=True)} for r in rows]

    def checkpoints(self) -> dict[str, Checkpoint]:
        c = self._tables["checkpoints"].c
        rows = self._session.execute(
            sa.select(c.partition_id, c.fingerprint, c.position, c.sequence, c.finished, c.records, c.plan_hash, c.run)
        )
        return {r[0]: Checkpoint(r[0], r[1], json.loads(r[2]), r[3], bool(r[4]), *r[5:]) for r in rows}

    def holds_unit(self, unit: Unit) -> bool:
        units = self._tables["units"]
        found = self._session.execute(
            sa.select(units.c.unit).where(units.c.run == unit.run, units.c.unit == unit.number)
        )
        return bool(found)

    def add_unit(self, unit: Unit) -> None:
        """Note a unit that is not noted yet: its checkpoint, its quarantine entries and its counts.

        An entry that an earlier, killed attempt wrote is replaced, not doubled.  When the unit ends a
        partition that this run has read whole, the entries that did not come again are resolved.
        """
        c, time = unit.checkpoint, now()
        key = digest_of(c.partition)
        counts = attrs.astuple(unit.counts)
        self._load("units", [(unit.run, unit.number, key, time, *counts)])
        table = self._tables["checkpoints"]
        self._session.execute(sa.delete(table).where(table.c.partition_key == key))
        self._load(
            "checkpoints",
            [(key, scrub(c.partition), scrub(c.fingerprint), json.dumps(c.position), c.sequence, c.finished, c.records,
              c.plan_hash, c.run)],
        )  # fmt: skip
        runs = self._tables["runs"]
        more = {n: runs.c[n] + v for n, v in zip(_COUNTS, counts, strict=True) if v}
        if more:
            self._session.execute(sa.update(runs).where(runs.c.run == unit.run).values(more))
        self._quarantine(unit, time)

    def quarantined(self) -> Iterator[dict[str, JSON]]:
        """Yield the open entries, oldest first."""
        table = self._tables["quarantine"]
        names = [c.name for c in table.columns]
        rows = self._session.execute(
            sa.select(table).where(table.c.status == "open").order_by(table.c.noted_at, table.c.start_byte)
        )
        for row in rows:
            entry = dict(zip(names, row, strict=True))
            for ours, theirs in _RENAMED.items():
                entry[theirs] = entry.pop(ours)
            entry["at"] = _plain(entry["at"])
            yield entry

    def _quarantine(self, unit: Unit, time: datetime) -> None:
        table = self._tables["quarantine"]
        entries: dict[str, Row] = {}
        for r in unit.quarantined:
            o = r.origin
            identity = quarantine_id(r)
            entries[identity] = (
                identity, r.stage, scrub(r.reason), scrub(o.label), scrub(o.partition), o.start, o.end, o.digest,
                scrub(r.key), unit.run, "open", time,
            )  # fmt: skip
        if entries:
            self._session.execute(sa.delete(table).where(table.c.id.in_(list(entries))))
            self._load("quarantine", list(entries.values()))
        if unit.read_whole:
            self._session.execute(
                sa.update(table)
                .where(
                    table.c.partition_id == scrub(unit.checkpoint.partition), table.c.run != unit.run,
                    table.c.status == "open",
                )
                .values(status="resolved")
            )  # fmt: skip

    def _load(self, name: str, rows: Sequence[Row]) -> None:
        columns = KEPT[name].columns
        self._session.load_values(
            full_name(self._session, self._tables[name]),
            [c.name for c in columns],
            [c.kind for c in columns],
            rows,
        )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return f"{value.isoformat(timespec='microseconds')[:26]}Z" if isinstance(value, datetime) else value


def now() -> datetime:
    return datetime.now(UTC)


def full_name(session: Session | type[Session], table: sa.Table) -> str:
    """Return a table's name, quoted, with its schema."""
    return str(session.dialect.identifier_preparer.format_table(table))
