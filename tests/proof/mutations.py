"""Does `muniment verify` find whatever is done to an archive, and does a second verifier agree?

    python tests/proof/mutations.py --rounds 1000

Each round makes an archive of 20 conversations, verifies it (no finding is allowed), changes one
thing by chance, and verifies it again (a finding is required).
"""

import argparse
import importlib.util
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import define, field, frozen

sys.path.insert(0, str(Path(__file__).parent))
import archives

from muniment import jcs
from muniment.manifest import Log, Manifest
from muniment.proof import SignedHead

STATE = ".muniment/state.db"


@frozen
class Mutation:
    """What was done; ``since`` is a checkpoint that was kept from before, where only it can tell."""

    what: str
    since: bytes = b""


@define
class Tally:
    """What the rounds came to."""

    rounds: int = 0
    found: int = 0
    missed: list[str] = field(factory=list)
    alarms: list[str] = field(factory=list)
    agreed: int = 0
    disagreed: list[str] = field(factory=list)
    mutations: Counter[str] = field(factory=Counter)


def run(rounds: int, seed: int, kinds: Iterable[str] = tuple(archives.KINDS), tally: Tally | None = None) -> Tally:
    """Return what became of ``rounds`` archives and as many mutations."""
    tally = tally or Tally()
    second = load_second_verifier()
    with tempfile.TemporaryDirectory(prefix="muniment-proof-") as folder:
        for number in range(rounds):
            kind = tuple(kinds)[number % len(tuple(kinds))]
            chance = random.Random(f"{seed}/{number}")
            place = Path(folder) / f"{number}"
            place.mkdir()
            _round(kind, place, chance, tally, second, f"{kind}, seed {seed}, round {number}")
            shutil.rmtree(place)
    return tally


def load_second_verifier() -> ModuleType:
    path = Path(__file__).parents[2] / "docs/formats/second_verifier.py"
    spec = importlib.util.spec_from_file_location("second_verifier", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _round(kind: str, place: Path, chance: random.Random, tally: Tally, second: ModuleType, name: str) -> None:
    path = place / ("archive.db" if kind.startswith("sqlite") else "archive")
    sink = archives.make(kind, path, chance)
    tally.rounds += 1
    if found := archives.verify(sink):
        tally.alarms.append(f"{name}: {found}")
        return
    if said := second.problems(path):
        tally.disagreed.append(f"{name}: clean, but {said}")
    other = place / ("other.db" if kind.startswith("sqlite") else "other")
    mutation = None
    while mutation is None:
        mutate = chance.choice(DATABASE if path.is_file() else FOLDER)
        mutation = mutate(path, other, kind, chance)
    tally.mutations[mutation.what.partition(":")[0]] += 1
    since = SignedHead.parse(mutation.since).head if mutation.since else None
    if archives.verify(sink, since=since):
        tally.found += 1
    else:
        tally.missed.append(f"{name}: {mutation.what}")
    if second.problems(path, mutation.since):
        tally.agreed += 1
    else:
        tally.disagreed.append(f"{name}: {mutation.what}")


# --- folders -------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    """Return what an archive consists of; the state is a cache."""
    files = (p for p in sorted(path.rglob("*")) if p.is_file())
    return [p for p in files if not p.relative_to(path).as_posix().startswith(STATE)]


def flip_bit(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    file = chance.choice([f for f in _files(path) if f.stat().st_size])
    data = bytearray(file.read_bytes())
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    file.write_bytes(data)
    return Mutation(f"bit flipped: {file.name} at {place}")


def cut_off(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    file = chance.choice([f for f in _files(path) if f.stat().st_size])
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data))])
    return Mutation(f"cut off: {file.name}")


def add_bytes(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    file = chance.choice(_files(path))
    with file.open("ab") as stream:
        stream.write(chance.randbytes(chance.randrange(1, 20)))
    return Mutation(f"bytes added: {file.name}")


def delete_file(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    file = chance.choice(_files(path))
    file.unlink()
    return Mutation(f"file deleted: {file.name}")


def rename_file(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    file = chance.choice(_files(path))
    file.rename(file.with_name(f"x{file.name}"))
    return Mutation(f"file renamed: {file.name}")


def copy_file(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    file = chance.choice([f for f in _files(path) if ".muniment" not in f.parts])
    shutil.copy(file, file.with_name(f"copy-{file.name}"))
    return Mutation(f"file doubled: {file.name}")


def put_file(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    folder = chance.choice(sorted({f.parent for f in _files(path) if ".muniment" not in f.parts}))
    (folder / "part-00000099-20260101T000000-00000000.jsonl").write_text("{}\n")
    return Mutation("file put there")


def swap_files(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    one, two = chance.sample(_files(path), 2)
    first, second = one.read_bytes(), two.read_bytes()
    if first == second:
        return None
    one.write_bytes(second)
    two.write_bytes(first)
    return Mutation(f"files swapped: {one.name}, {two.name}")


def edit_manifest(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    """Change a manifest as someone would who knows its format."""
    file = chance.choice(sorted((path / ".muniment/manifests").iterdir()))
    value = json.loads(file.read_bytes())
    what = chance.choice(sorted(value))
    value[what] = {"changed": 1} if isinstance(value[what], dict) else "changed" if isinstance(value[what], str) else 99
    file.write_bytes(jcs.canonical(value))
    return Mutation(f"manifest edited: {what} of {file.name}")


def drop_last_runs(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    """Take away the newest manifests with what they brought, but leave the checkpoint."""
    manifests = sorted((path / ".muniment/manifests").iterdir())
    for file in manifests[-chance.randrange(1, len(manifests) + 1) :]:
        file.unlink()
    return Mutation("last manifests dropped")


def older_checkpoint(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    """Take away the newest manifests and write a checkpoint without a signature that fits the rest."""
    manifests = sorted((path / ".muniment/manifests").iterdir())
    kept = (path / ".muniment/checkpoint").read_bytes()
    keep = chance.randrange(1, len(manifests))
    log = Log()
    for file in manifests[:keep]:
        log.append(file.read_bytes())
    named: set[str] = set()
    for file in manifests[keep:]:
        named |= _names_in(file)
        file.unlink()
    for name in named:
        (path / name).unlink(missing_ok=True)
    (path / ".muniment/checkpoint").write_bytes(log.note(None))
    return Mutation("rolled back by hand", kept)


def older_archive(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    """Put the copy of an earlier day in place of the archive."""
    sink = archives.KINDS[kind](path, path.parent)
    copy = path.with_name("copy")
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    archives.archive(sink, [archives._record("late", chance, {})], {})
    kept = _checkpoint(path)
    archives.remove(path)
    copy.rename(path)
    return Mutation("older copy of all", kept)


def other_archive(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    """Put another archive of the same kind in its place."""
    kept = _checkpoint(path)
    archives.make(kind, other, chance, conversations=5)
    archives.remove(path)
    other.rename(path)
    return Mutation("another archive", kept)


def other_file(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    """Put a manifest or a checkpoint of another archive in place of our own."""
    archives.make(kind, other, chance, conversations=5)
    file = chance.choice([f for f in _files(other) if ".muniment" in f.parts])
    mine = path / file.relative_to(other)
    data = file.read_bytes()
    archives.remove(other)
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(data)
    return Mutation(f"file of another archive: {mine.name}")


def _names_in(file: Path) -> set[str]:
    return {made["name"] for made in Manifest.from_json(file.read_bytes()).objects}


def _checkpoint(path: Path) -> bytes:
    if path.is_dir():
        return (path / ".muniment/checkpoint").read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        select = "SELECT checkpoint FROM manifests ORDER BY number DESC LIMIT 1"
        return str(connection.execute(select).fetchone()[0]).encode()


# --- archive.db ------------------------------------------------------------------------------------

COLUMNS = {
    "conversations": ("source", "id", "account", "title", "created_at", "updated_at", "model", "current",
        "message_count", "metadata"),
    "messages": ("conversation", "position", "id", "parent_id", "role", "author", "recipient", "created_at", "model",
        "hidden", "status", "metadata"),
    "parts": ("message", "position", "type", "kind", "text", "file_id"),
    "assets": ("conversation", "id", "name", "mime_type", "size", "sha256", "missing"),
    "asset_chunks": ("sha256", "data"),
    "records": ("conversation", "record"),
    "versions": ("conversation", "record"),
    "manifests": ("number", "run", "manifest", "checkpoint"),
    "receipts": ("manifest", "conversation", "key", "stored_hash", "gone"),
    "checkpoints": ("partition", "fingerprint", "position", "sequence", "finished", "records", "plan_hash", "run"),
    "runs": ("run", "exit_code", "read", "stored", "unchanged", "dropped", "quarantined"),
}  # fmt: skip
"""What is evidence, or repeats it.  The rest is bookkeeping (which export a conversation was last seen in)."""


def change_cell(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    with closing(sqlite3.connect(path)) as connection:
        table = chance.choice(sorted(COLUMNS))
        rows = connection.execute(f"SELECT rowid, * FROM {table}").fetchall() if table != "assets" else []
        column = chance.choice(COLUMNS[table])
        if table == "assets":
            return _change_where(connection, table, column, "id", chance)
        if not rows:
            return None
        return _change_where(connection, table, column, "rowid", chance)


def _change_where(connection: Any, table: str, column: str, by: str, chance: random.Random) -> Mutation | None:
    rows = connection.execute(f"SELECT {by}, {column} FROM {table}").fetchall()
    if not rows:
        return None
    row, value = chance.choice(rows)
    changed = _changed(value, chance)
    try:
        connection.execute(f"UPDATE {table} SET {column}=? WHERE {by}=?", (changed, row))
        connection.commit()
    except sqlite3.IntegrityError:
        return None
    return Mutation(f"cell changed: {table}.{column}")


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bytes) and value:
        data = bytearray(value)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)
    if isinstance(value, str) and value:
        place = chance.randrange(len(value))
        return value[:place] + ("x" if value[place] != "x" else "y") + value[place + 1 :]
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 1000))
    return "new"


def delete_row(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    with closing(sqlite3.connect(path)) as connection:
        table = chance.choice(sorted(COLUMNS))
        by = "id" if table == "assets" else "rowid"
        limits = " WHERE exit_code IS NOT NULL" if table == "runs" else ""
        rows = connection.execute(f"SELECT {by} FROM {table}{limits}").fetchall()
        if not rows:
            return None
        connection.execute(f"DELETE FROM {table} WHERE {by}=?", chance.choice(rows))
        connection.commit()
    return Mutation(f"row deleted: {table}")


def double_row(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    with closing(sqlite3.connect(path)) as connection:
        table = chance.choice(("messages", "parts", "versions", "receipts"))
        names = [r[1] for r in connection.execute(f"PRAGMA table_info({table})")][1:]
        rows = connection.execute(f"SELECT no FROM {table}").fetchall()
        if not rows:
            return None
        listed = ", ".join(f'"{n}"' for n in names)
        connection.execute(
            f"INSERT INTO {table}({listed}) SELECT {listed} FROM {table} WHERE no=?", chance.choice(rows)
        )
        connection.commit()
    return Mutation(f"row doubled: {table}")


def swap_records(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT conversation, record FROM records").fetchall()
        (one, first), (two, second) = chance.sample(rows, 2)
        for number, blob in ((one, second), (two, first)):
            connection.execute("UPDATE records SET record=? WHERE conversation=?", (blob, number))
        connection.commit()
    return Mutation("records swapped")


def earlier_record(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT conversation, record FROM versions").fetchall()
        if not rows:
            return None
        number, blob = chance.choice(rows)
        connection.execute("UPDATE records SET record=? WHERE conversation=?", (blob, number))
        connection.commit()
    return Mutation("record rolled back")


def drop_last_rows(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation:
    """Take away the newest manifests with their receipts, and what only they brought."""
    kept = _checkpoint(path)
    with closing(sqlite3.connect(path)) as connection:
        count = connection.execute("SELECT count(*) FROM manifests").fetchone()[0]
        last = chance.randrange(1, count)
        for table, column in (("manifests", "number"), ("receipts", "manifest")):
            connection.execute(f"DELETE FROM {table} WHERE {column}>?", (last,))
        gone = "SELECT no FROM conversations WHERE no NOT IN (SELECT conversation FROM receipts)"
        for table, column in (
            ("messages", "conversation"),
            ("assets", "conversation"),
            ("records", "conversation"),
            ("conversations", "no"),
        ):
            connection.execute(f"DELETE FROM {table} WHERE {column} IN ({gone})")
        connection.commit()
    return Mutation("rolled back by hand", kept)


def flip_stored_bit(path: Path, other: Path, kind: str, chance: random.Random) -> Mutation | None:
    """Flip a bit of the file where it changes what a reader gets from its tables."""
    before = _dump(path)
    data = path.read_bytes()
    for _ in range(50):
        changed = bytearray(data)
        changed[chance.randrange(100, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        if _dump(path) != before:
            return Mutation("bit flipped")
    path.write_bytes(data)
    return None


def _dump(path: Path) -> Any:
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.text_factory = bytes
            return [
                sorted(map(repr, connection.execute(f"SELECT {', '.join(columns)} FROM {table}")))
                for table, columns in COLUMNS.items()
                if table not in ("runs",)
            ]
    except sqlite3.DatabaseError as error:
        return str(error)


Mutate = Callable[[Path, Path, str, random.Random], Mutation | None]
FOLDER: tuple[Mutate, ...] = (
    flip_bit, flip_bit, flip_bit, cut_off, add_bytes, delete_file, rename_file, copy_file, put_file, swap_files,
    edit_manifest, drop_last_runs, older_checkpoint, older_archive, other_archive, other_file,
)  # fmt: skip
DATABASE: tuple[Mutate, ...] = (
    change_cell, change_cell, change_cell, change_cell, delete_row, delete_row, double_row, swap_records,
    earlier_record, drop_last_rows, flip_stored_bit, flip_stored_bit, older_archive, other_archive,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    start = time.monotonic()
    tally = run(given.rounds, given.seed)
    for problem in (*tally.alarms, *tally.missed, *tally.disagreed):
        print(problem)
    for what, count in sorted(tally.mutations.items()):
        print(f"{count:6} {what}")
    print(
        f"{tally.rounds} clean archives, {len(tally.alarms)} false alarms;"
        f" {tally.found} of {tally.found + len(tally.missed)} mutations found;"
        f" the second verifier found {tally.agreed} and disagreed {len(tally.disagreed)} times;"
        f" {time.monotonic() - start:.0f} s"
    )
    return 1 if tally.alarms or tally.missed or tally.disagreed else 0


if __name__ == "__main__":
    sys.exit(main())
