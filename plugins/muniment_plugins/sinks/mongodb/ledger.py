"""Where do runs, checkpoints and the quarantine stand in a database?"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from muniment import Checkpoint, Counts, Rejected, Unit
from muniment.model import JSON
from muniment.state import quarantine_id
from muniment_plugins.sinks.mongodb.connection import Connection
from muniment_plugins.sinks.mongodb.keys import document_id, scrubbed

_FORGOTTEN_AT_ONCE = 1000


class Ledger:
    """What was archived, up to where, by which run.

    Writes take the session whose transaction they join, or None where the server has none.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin_run(self, run: str, pipeline: str, sink: str) -> None:
        first = {"pipeline": pipeline, "sink": sink, "started_at": datetime.now(UTC), "last_unit": 0}
        first |= attrs.asdict(Counts())
        with self._connection.translated():
            self._runs.update_one({"_id": run}, {"$setOnInsert": scrubbed(first)}, upsert=True)

    def end_run(self, run: str, exit_code: int, counts: Counts, session: Any = None) -> None:
        fields = {"finished_at": datetime.now(UTC), "exit_code": exit_code, **attrs.asdict(counts)}
        with self._connection.translated():
            self._runs.update_one({"_id": run}, {"$set": fields}, session=session)

    def runs(self) -> list[dict[str, JSON]]:
        """Return every run, oldest first, as a local ledger has them."""
        with self._connection.translated():
            found = list(self._runs.find().sort([("started_at", 1), ("_id", 1)]))
        names = ("pipeline", "sink", "started_at", "finished_at", "exit_code", *attrs.asdict(Counts()))
        return [{"run": f["_id"], **{n: _plain(f.get(n)) for n in names}} for f in found]

    def checkpoints(self) -> dict[str, Checkpoint]:
        with self._connection.translated():
            return {c.partition: c for c in map(_checkpoint, self._checkpoints.find())}

    def holds(self, unit: Unit, session: Any) -> bool:
        """Say whether a unit was committed by an attempt before."""
        found = self._checkpoints.find_one({"_id": document_id(unit.checkpoint.partition)}, session=session)
        return found is not None and found["run"] == unit.run and bool(found["unit"] >= unit.number)

    def save_unit(self, unit: Unit, session: Any) -> None:
        """Write a unit's quarantine entries and counts, then its checkpoint.

        An entry that an earlier, killed attempt wrote is replaced, not doubled.  When the unit ends a
        partition that this run has read whole, the entries that did not come again are resolved.
        """
        from pymongo import ReplaceOne

        c = unit.checkpoint
        entries = [_entry(r, unit.run) for r in unit.quarantined]
        quarantine = self._connection.collection("quarantine")
        if entries:
            quarantine.bulk_write(
                [ReplaceOne({"_id": e["_id"]}, e, upsert=True) for e in entries], ordered=False, session=session
            )
        if unit.read_whole:
            quarantine.update_many(
                {"partition": scrubbed(c.partition), "run": {"$ne": unit.run}, "status": "open"},
                {"$set": {"status": "resolved"}},
                session=session,
            )
        # The condition keeps a repeated attempt from counting twice, also without a transaction.
        self._runs.update_one(
            {"_id": unit.run, "last_unit": {"$lt": unit.number}},
            {"$inc": attrs.asdict(unit.counts), "$set": {"last_unit": unit.number}},
            session=session,
        )
        self._checkpoints.replace_one(
            {"_id": document_id(c.partition)},
            {
                "partition": json.dumps(c.partition),
                "fingerprint": c.fingerprint,
                "position": json.dumps(c.position),
                "sequence": c.sequence,
                "finished": c.finished,
                "records": c.records,
                "plan_hash": c.plan_hash,
                "run": c.run,
                "unit": unit.number,
                "at": datetime.now(UTC),
            },
            upsert=True,
            session=session,
        )

    def forget(self, keys: Iterable[str]) -> None:
        """Let the next write store these records again: they have no hash any more."""
        ids = [document_id(k) for k in keys]
        conversations = self._connection.collection("conversations")
        with self._connection.translated():
            for i in range(0, len(ids), _FORGOTTEN_AT_ONCE):
                some = ids[i : i + _FORGOTTEN_AT_ONCE]
                conversations.update_many({"_id": {"$in": some}}, {"$set": {"source_hash": ""}})

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        """Yield the open entries, oldest first."""
        with self._connection.translated():
            entries = self._connection.collection("quarantine").find({"status": "open"})
            for entry in entries.sort({"at": 1, "partition": 1, "start": 1}):
                entry.pop("_id")
                yield entry | {"at": _plain(entry["at"])}

    @property
    def _runs(self) -> Any:
        return self._connection.collection("runs")

    @property
    def _checkpoints(self) -> Any:
        return self._connection.collection("checkpoints")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _checkpoint(found: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        partition=json.loads(found["partition"]),
        fingerprint=found["fingerprint"],
        position=json.loads(found["position"]),
        sequence=found["sequence"],
        finished=found["finished"],
        records=found["records"],
        plan_hash=found["plan_hash"],
        run=found["run"],
    )


def _entry(rejected: Rejected, run: str) -> dict[str, Any]:
    o = rejected.origin
    entry: dict[str, Any] = scrubbed({
        "id": quarantine_id(rejected),
        "stage": rejected.stage,
        "reason": rejected.reason,
        "label": o.label,
        "partition": o.partition,
        "start": o.start,
        "end": o.end,
        "digest": o.digest,
        "record": rejected.key,
        "run": run,
        "status": "open",
    })  # fmt: skip
    return {"_id": entry["id"], **entry, "at": datetime.now(UTC)}
