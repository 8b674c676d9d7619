"""Does `muniment verify` find whatever is done to an archive in a database?  Rows changed by chance, and put back.

A `Store` gives the tables of an archive as rows, and takes them; what is done to them is the same for all.
"""

import copy
import importlib.util
import json
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field, frozen

from muniment import jcs
from muniment.proof import SignedHead

Rows = list[dict[str, Any]]


def load(name):
    spec = importlib.util.spec_from_file_location(f"proof_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


archives = load("archives")


class Refused(Exception):
    pass


class Store(ABC):
    """The tables of an archive.  ``evidence`` names the columns that prove or repeat something."""

    evidence: ClassVar[Mapping[str, tuple[str, ...]]]
    records = "records"
    blob = "data"
    identity = "no"

    @abstractmethod
    def tables(self) -> list[str]: ...

    @abstractmethod
    def read(self, table: str) -> Rows: ...

    @abstractmethod
    def write(self, table: str, rows: Rows) -> None:
        """Put rows in place of all that are in a table.

        Raises:
            Refused: the database does not take them; nothing was changed.
        """

    def dump(self) -> dict[str, Rows]:
        return {t: self.read(t) for t in self.tables()}

    def restore(self, before: Mapping[str, Rows], after: Mapping[str, Rows]) -> None:
        for table, rows in before.items():
            if rows != after.get(table):
                self.write(table, rows)

    def doubled(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a row under another key."""
        raise NotImplementedError


@frozen
class Mutation:
    what: str
    tables: dict[str, Rows]
    since: bytes = b""


@define
class Tally:
    found: int = 0
    missed: list[str] = field(factory=list)
    alarms: list[str] = field(factory=list)
    mutations: Counter[str] = field(factory=Counter)


def run(store: Store, sink: Any, rounds: int, seed: int, tally: Tally) -> Tally:
    """Make an archive in an empty ``store`` and change it ``rounds`` times, one thing each time."""
    chance = random.Random(f"{seed}")
    older: dict[str, Rows] = {}

    def is_sound(when: str) -> None:
        if found := archives.verify(sink):
            tally.alarms.append(f"seed {seed}, {when}: {found}")

    assets: dict[str, bytes] = {}
    records = [archives._record(f"c{i}", chance, assets) for i in range(20)]
    cut = chance.randrange(1, 20)
    newer = [archives._newer(r, chance) for r in chance.sample(records, 3)]
    for number, some in enumerate((records[:cut], records, newer[:1], newer[1:])):
        archives.archive(sink, some, assets, max_unit_records=chance.choice((3, 7, 100)))
        is_sound(f"run {number}")
        older = older or store.dump()
    whole = store.dump()
    for number in range(rounds):
        mutation = None
        while mutation is None:
            mutation = chance.choice(MUTATIONS)(store, copy.deepcopy(whole), older, chance)
            if mutation is None:
                continue
            try:
                for table, rows in mutation.tables.items():
                    if rows != whole[table]:
                        store.write(table, rows)
            except Refused:
                store.restore(whole, store.dump())
                mutation = None
        tally.mutations[mutation.what.partition(":")[0]] += 1
        since = SignedHead.parse(mutation.since).head if mutation.since else None
        if archives.verify(sink, since=since):
            tally.found += 1
        else:
            tally.missed.append(f"seed {seed}, round {number}: {mutation.what}")
        store.restore(whole, store.dump())
    is_sound("put back")
    return tally


# --- what is done ----------------------------------------------------------------------------------


def change_cell(store, tables, older, chance):
    table = chance.choice(sorted(t for t in store.evidence if tables.get(t)))
    row = chance.choice(tables[table])
    column = chance.choice([c for c in store.evidence[table] if c in row] or [None])
    if column is None:
        return None
    before = row[column]
    row[column] = changed(before, chance)
    if row[column] == before:
        return None
    return Mutation(f"cell changed: {table}.{column} {str(before)[:60]!r} -> {str(row[column])[:60]!r}", tables)


def changed(value, chance):
    if isinstance(value, bytes) and value:
        data = bytearray(value)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str) and value:
        place = chance.randrange(len(value))
        return value[:place] + ("x" if value[place] != "x" else "y") + value[place + 1 :]
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 1000))
    if isinstance(value, dict) and value:
        name = chance.choice(sorted(value))
        return {**value, name: changed(value[name], chance)}
    if isinstance(value, list) and value:
        place = chance.randrange(len(value))
        return [*value[:place], changed(value[place], chance), *value[place + 1 :]]
    return value


def delete_row(store, tables, older, chance):
    table = chance.choice(sorted(t for t in store.evidence if tables.get(t)))
    row = tables[table].pop(chance.randrange(len(tables[table])))
    if table == "runs" and row.get("exit_code") is None:
        return None
    return Mutation(f"row deleted: {table}", tables)


def double_row(store, tables, older, chance):
    table = chance.choice(sorted(t for t in store.evidence if tables.get(t) and t not in ("runs", "checkpoints")))
    rows = tables[table]
    double = store.doubled(table, copy.deepcopy(chance.choice(rows)))
    if double in rows:
        return None
    rows.append(double)
    return Mutation(f"row doubled: {table}", tables)


def swap_records(store, tables, older, chance):
    one, two = chance.sample(tables[store.records], 2)
    one[store.blob], two[store.blob] = two[store.blob], one[store.blob]
    return Mutation("records swapped", tables)


def earlier_record(store, tables, older, chance):
    version = chance.choice(tables["versions"])
    owner = version.get("conversation", version.get("no"))
    for row in tables[store.records]:
        if row.get(store.identity) == owner:
            row[store.blob] = version[store.blob]
    return Mutation("record rolled back", tables)


def edit_manifest(store, tables, older, chance):
    """Change a manifest as someone would who knows its format."""
    row = chance.choice(tables["manifests"])
    value = json.loads(row["manifest"])
    what = chance.choice(sorted(value))
    value[what] = {"changed": 1} if isinstance(value[what], dict) else "changed" if isinstance(value[what], str) else 99
    row["manifest"] = jcs.canonical(value).decode()
    return Mutation(f"manifest edited: {what}", tables)


def drop_last(store, tables, older, chance):
    """Take away the newest manifests with their receipts, and the records that only they brought."""
    numbers = sorted(store.number(row) for row in tables["manifests"])
    kept = next(r["checkpoint"] for r in tables["manifests"] if store.number(r) == numbers[-1]).encode()
    keep = chance.choice(numbers[:-1])
    tables["manifests"] = [r for r in tables["manifests"] if store.number(r) <= keep]
    tables["receipts"] = [r for r in tables["receipts"] if store.manifest_of(r) <= keep]
    return Mutation("last manifests dropped", tables, kept)


def older_archive(store, tables, older, chance):
    """Put the copy of an earlier day in place of the archive."""
    newest = max(tables["manifests"], key=store.number)
    return Mutation("older copy of all", {t: older.get(t, []) for t in tables}, newest["checkpoint"].encode())


MUTATIONS = (
    change_cell, change_cell, change_cell, change_cell, delete_row, delete_row, double_row, swap_records,
    earlier_record, edit_manifest, drop_last, older_archive,
)  # fmt: skip


# --- SQL -------------------------------------------------------------------------------------------


class SQLStore(Store):
    """The tables of the sink `sql`, through a connection of the driver's own; ``mark`` stands for a value."""

    evidence: ClassVar = {
        "conversations": ("no", "source", "id", "title", "created_at", "model", "current", "message_count", "metadata"),
        "messages": ("conversation", "position", "id", "parent_id", "role", "text", "hidden", "visible", "model"),
        "parts": ("conversation", "message", "position", "type", "kind", "content"),
        "assets": ("conversation", "position", "id", "name", "mime_type", "size", "sha256"),
        "asset_chunks": ("sha256", "position", "data"),
        "records": ("no", "key_digest", "chunks", "data"),
        "versions": ("no", "version", "position", "data"),
        "manifests": ("number", "run", "manifest", "checkpoint"),
        "receipts": ("manifest", "position", "no", "key", "stored_hash", "gone"),
        "checkpoints": ("partition_id", "fingerprint", "sequence", "finished", "records", "plan_hash", "run"),
        "runs": ("run", "exit_code", "read_count", "stored_count", "unchanged_count", "dropped_count"),
    }

    def __init__(self, connect, schema="", quote='"', mark="%s", adapt=None):
        self._connect = connect
        self._schema = f"{schema}." if schema else ""
        self._quote = quote
        self._mark = mark
        self._adapt = adapt or (lambda value: value)

    def tables(self):
        return [*self.evidence, "record_chunks", "quarantine"]

    def read(self, table):
        with self._connect() as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT * FROM {self._schema}{table} ORDER BY 1, 2")
            names = [d[0] for d in cursor.description]
            return [dict(zip(names, map(_plain, row), strict=True)) for row in cursor.fetchall()]

    def write(self, table, rows):
        with self._connect() as connection:
            cursor = connection.cursor()
            try:
                cursor.execute("BEGIN")
                cursor.execute(f"DELETE FROM {self._schema}{table}")
                for row in rows:
                    names = ", ".join(f"{self._quote}{n}{self._quote}" for n in row)
                    marks = ", ".join([self._mark] * len(row))
                    values = [self._adapt(v) for v in row.values()]
                    cursor.execute(f"INSERT INTO {self._schema}{table}({names}) VALUES({marks})", values)
                cursor.execute("COMMIT")
            except Exception as error:
                cursor.execute("ROLLBACK")
                raise Refused(str(error)) from error

    def forget_manifests(self):
        """Make of the archive one of the version before there were manifests."""
        with self._connect() as connection:
            cursor = connection.cursor()
            for statement in (
                f"DROP TABLE {self._schema}manifests",
                f"DROP TABLE {self._schema}receipts",
                f"UPDATE {self._schema}muniment_meta SET version=1",
                "COMMIT",
            ):
                cursor.execute(statement) if statement != "COMMIT" or self._quote == "`" else None

    def number(self, row):
        return row["number"]

    def manifest_of(self, row):
        return row["manifest"]

    def doubled(self, table, row):
        key = {"conversations": "no", "records": "no", "manifests": "number"}.get(table, "position")
        row[key] += 1000
        if table == "records":
            row["key_digest"] = row["key_digest"][::-1]
        return row


class MongoStore(Store):
    """The collections of the sink `mongodb`."""

    records = "conversations"
    blob = "record"
    identity = "_id"
    evidence: ClassVar = {
        "conversations": ("_id", "id", "source", "title", "model", "message_count", "messages", "metadata", "assets",
            "record"),
        "messages": ("_id", "conversation", "position", "role", "parts", "visible", "revision"),
        "versions": ("_id", "conversation", "record"),
        "assets.files": ("filename", "length"),
        "assets.chunks": ("n", "data"),
        "manifests": ("_id", "run", "manifest", "checkpoint"),
        "receipts": ("_id", "conversation", "key", "stored_hash", "gone"),
        "checkpoints": ("partition", "fingerprint", "position", "sequence", "finished", "records", "plan_hash", "run"),
        "runs": ("_id", "exit_code", "read", "stored", "unchanged", "dropped", "quarantined"),
    }  # fmt: skip

    def __init__(self, database):
        self._database = database

    def tables(self):
        return [*self.evidence, "further", "quarantine"]

    def read(self, table):
        return list(self._database[table].find().sort("_id", 1))

    def write(self, table, rows):
        from pymongo.errors import PyMongoError

        before = self.read(table)
        try:
            self._put(table, rows)
        except PyMongoError as error:
            self._put(table, before)
            raise Refused(str(error)) from error

    def _put(self, table, rows):
        self._database[table].delete_many({})
        if rows:
            self._database[table].insert_many(copy.deepcopy(rows))

    def forget_manifests(self):
        self._database.drop_collection("manifests")
        self._database.drop_collection("receipts")
        self._database["meta"].update_one({"_id": "archive"}, {"$set": {"version": 1}})

    def number(self, row):
        return row["_id"]

    def manifest_of(self, row):
        return row["_id"]["manifest"]

    def doubled(self, table, row):
        from bson import ObjectId

        identity = row["_id"]
        if isinstance(identity, dict):
            last = list(identity)[-1]
            row["_id"] = {**identity, last: identity[last] + ("0" if isinstance(identity[last], str) else 1000)}
        else:
            another = {int: lambda: identity + 1000, str: lambda: f"{identity}x", ObjectId: ObjectId}
            row["_id"] = another[type(identity)]()
        return row


def _plain(value):
    return bytes(value) if isinstance(value, bytearray | memoryview) else value
