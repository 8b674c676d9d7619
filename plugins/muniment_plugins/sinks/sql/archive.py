"""How are rows put into an archive?  One connection, whole batches, what is refused is found by halving."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NoReturn

import sqlalchemy as sa

from muniment import Context, Counts, Receipt, RecordError, Rejected, TargetBusyError, Unit
from muniment.merge import merge_records
from muniment.proof import SigningKey
from muniment.record_blob import DamagedBlobError, record_from_blob
from muniment.sinks.database_manifests import Manifests, Stored, held_by
from muniment_plugins.sinks.sql.assets import Assets
from muniment_plugins.sinks.sql.changes import Change, Held, waves
from muniment_plugins.sinks.sql.layout import KEPT, SHOWN, Layout, Shown
from muniment_plugins.sinks.sql.ledger import Ledger, full_name, now
from muniment_plugins.sinks.sql.manifests import Manifests as ManifestTables
from muniment_plugins.sinks.sql.rows import Block, Encoder, Rows, numbered, pieces
from muniment_plugins.sinks.sql.session import Denied, RefusedError, Session
from muniment_plugins.sinks.sql.setup import tables_of

_KEYS_PER_QUERY = 500


class Archive:
    """An archive that is open for writing."""

    def __init__(
        self, session: Session, layout: Layout, ctx: Context, *, create: bool, signer: SigningKey | None = None
    ) -> None:
        self.session = session
        self.layout = layout
        self.context = ctx
        self.tables = tables_of(session, layout)
        self.ledger = Ledger(session, self.tables)
        self.stored = ManifestTables(session, self.tables)
        self.manifests = Manifests(self.stored, ctx, signer)
        self._assets = Assets(session, self.tables, self.load, ctx.open_asset)
        self._receipts: list[Stored] = []
        self._create = create
        self._encoder = Encoder(layout)
        self._next: int | None = None
        self._months: set[date] | None = None

    def close(self) -> None:
        self.session.close()

    def begin(self) -> None:
        self._next = None
        self._receipts = []
        self.session.begin()

    def commit(self) -> None:
        with self.explained():
            self.session.commit()

    def rollback(self) -> None:
        self.session.rollback()

    def save_unit(self, unit: Unit) -> None:
        """Note a unit in the open transaction: its manifest, its checkpoint, its quarantine entries.

        Raises:
            TargetBusyError: another run has taken over since; nothing of this unit may be stored.
        """
        with self.explained():
            holder = self.ledger.holder()
            if holder != self.context.run:
                raise TargetBusyError(
                    f"{self.context.path}: run `{holder}` has taken over `{self.session.place.name}` while the"
                    " connection was lost; what was committed stands"
                )
            if not self.ledger.holds_unit(unit):
                self.manifests.append_unit(unit, self._receipts)
                self.ledger.add_unit(unit)

    def save_end(self, run: str, exit_code: int, counts: Counts) -> None:
        """Note in the open transaction how a run ended."""
        with self.explained():
            self.manifests.append_report(run, exit_code, counts)
            self.ledger.end_run(run, exit_code, counts)

    def write(self, batch: Sequence[Rows]) -> Receipt:
        """Store a batch inside the open transaction; what is stored already is merged or left alone."""
        rejected: list[Rejected] = []
        stored = unchanged = 0
        with self.explained():
            for wave in waves(batch):
                changes, same = self._changes(wave)
                unchanged += same
                changes = self._assets.store(changes, rejected)
                stored += self._apply(changes, rejected)
        return Receipt(stored, unchanged, tuple(rejected))

    def has_manifests(self) -> bool:
        """Say whether the tables of manifests are there: an older version made none."""
        return self.layout.names["manifests"] in self.session.tables(self.layout.schema)

    def name(self, table: str) -> str:
        """Return a table's full name, quoted."""
        found = self.tables.get(table)
        if found is None:
            found = sa.Table(self.layout.names[table], sa.MetaData(), schema=self.layout.schema)
        return full_name(self.session, found)

    # --- what changes -----------------------------------------------------------------------

    def _changes(self, wave: Sequence[Rows]) -> tuple[list[Change], int]:
        """Return what is to be written, and how many records are stored already."""
        existing = self.existing([r.digest for r in wave])
        changes: list[Change] = []
        older: list[tuple[Rows, Held]] = []
        for rows in wave:
            found = existing.get(rows.digest)
            if found is None:
                changes.append(Change(rows))
            elif not self._is_stored(found, rows):
                older.append((rows, found))
        unchanged = len(wave) - len(changes) - len(older)
        for rows, found in older:
            change = self._merged(rows, found)
            if change is None:
                unchanged += 1
            else:
                changes.append(change)
        return changes, unchanged

    def _is_stored(self, found: Held, rows: Rows) -> bool:
        same_plan = found.plan_hash == self.context.plan_hash or self.context.on_plan_change == "keep"
        return found.source_hash == rows.source_hash and same_plan

    def _merged(self, rows: Rows, found: Held) -> Change | None:
        policy = self.context.on_plan_change
        other_plan = found.plan_hash != self.context.plan_hash
        if found.source_hash == rows.source_hash or (other_plan and policy == "rewrite"):
            # The plan is another one: what it makes stands in place of the old, not beside it.
            return Change(rows, found, policy == "new_version", policy == "rewrite")
        try:
            old = record_from_blob(self.blob(found.number), rows.origin)
        except DamagedBlobError:
            if found.source_hash:
                raise self.session.place.fatal(
                    f"a record in `{self.session.place.name}` is damaged (number {found.number}); fill it from another"
                    " copy with `muniment repair`"
                ) from None
            return Change(rows, found)
        merged = merge_records(old, record_from_blob(rows.record, rows.origin))
        if merged.source_hash == old.source_hash and found.source_hash:
            return None
        return Change(self._encoder.encode(merged), found, keeps_version=bool(found.source_hash), is_merged=True)

    def existing(self, digests: Sequence[bytes]) -> dict[bytes, Held]:
        """Return what the archive holds under keys."""
        c = self.tables["records"].c
        found: dict[bytes, Held] = {}
        for some in _slices(digests):
            rows = self.session.execute(
                sa.select(c.key_digest, c.no, c.source_hash, c.plan_hash).where(c.key_digest.in_(some))
            )
            found.update((bytes(r[0]), Held(*r[1:])) for r in rows)
        return found

    def blob(self, number: int) -> bytes:
        """Return the zstd blob of a record."""
        c, more = self.tables["records"].c, self.tables["record_chunks"].c
        data, chunks = self.session.execute(sa.select(c.data, c.chunks).where(c.no == number))[0]
        blob = [bytes(data)]
        for position in range(1, chunks):
            statement = sa.select(more.data).where(more.no == number, more.position == position)
            blob += [bytes(r[0]) for r in self.session.execute(statement)]
        return b"".join(blob)

    def numbers(self, after: int | None, limit: int) -> list[int]:
        """Return the numbers of the next records, in order."""
        no = self.tables["records"].c.no
        statement = sa.select(no) if after is None else sa.select(no).where(no > after)
        return [int(r[0]) for r in self.session.execute(statement.order_by(no).limit(limit))]

    def version_blob(self, number: int, version: int) -> bytes:
        """Return the zstd blob of an earlier state."""
        c = self.tables["versions"].c
        statement = sa.select(c.data).where(c.no == number, c.version == version).order_by(c.position)
        return b"".join(bytes(r[0]) for r in self.session.execute(statement))

    # --- rows -------------------------------------------------------------------------------

    def _apply(self, changes: Sequence[Change], rejected: list[Rejected]) -> int:
        """Write changes; return how many.  One that is refused is rejected, the others are written."""
        if not changes:
            return 0
        try:
            with self.session.savepoint():
                numbers = self._write(changes)
            self._note(changes, numbers)
            return len(changes)
        except RefusedError as error:
            self._next = None
            if not self.session.has_savepoints:
                self._refuse_without_savepoint(changes, error)
            if len(changes) == 1:
                self._check_alone(changes[0], error)
                rows = changes[0].rows
                rejected.append(Rejected(rows.origin, "write", str(error), rows.key))
                return 0
        half = len(changes) // 2
        return self._apply(changes[:half], rejected) + self._apply(changes[half:], rejected)

    def _check_alone(self, change: Change, error: RefusedError) -> None:
        """Have the unit made again if another writer of this run was here first."""
        if error.is_duplicate and change.before is None:
            is_there = bool(self.existing([change.rows.digest]))
            if is_there or not any(s.mapped for s in self.layout.shown.values()):
                raise self.session.place.transient("another writer stored the same conversation at the same time")

    def _refuse_without_savepoint(self, changes: Sequence[Change], error: RefusedError) -> NoReturn:
        """Find the record at fault, each in a transaction of its own; the unit is then made again without it."""
        self.session.rollback()
        for change in changes:
            self._next = None
            self.session.begin()
            try:
                self._write([change])
            except RefusedError as reason:
                raise RecordError(str(reason), change.rows.key) from reason
            finally:
                self.session.rollback()
        raise self.session.place.fatal(f"a batch was refused, but none of its records alone ({error})") from error

    def _write(self, changes: Sequence[Change]) -> list[int]:
        """Write changes; return the numbers of their records."""
        # Before anything is taken away: its numbers are used again.
        self._next = self._next or self._first_free()
        replaced = [c for c in changes if c.before is not None]
        if replaced:
            self._remove(replaced)
        numbers = [c.before.number if c.before is not None else self._new_number() for c in changes]
        if self.layout.partitioned:
            self._add_months({c.rows.month for c in changes})
        for shown in self.layout.shown.values():
            self._write_shown(shown, changes, numbers)
        context = self.context
        records, more = [], []
        for change, number in zip(changes, numbers, strict=True):
            rows = change.rows
            first, *rest = pieces(rows.record)
            records.append(
                (number, rows.digest, rows.source_hash, context.plan_hash, context.run, len(rest) + 1, first)
            )
            more += [(number, i, piece) for i, piece in enumerate(rest, 1)]
        self.load("records", records)
        self.load("record_chunks", more)
        return numbers

    def _note(self, changes: Sequence[Change], numbers: Sequence[int]) -> None:
        """Keep for the unit's manifest what was stored, and what is held no longer."""
        losing = {n for c, n in zip(changes, numbers, strict=True) if c.before is not None and not c.keeps_version}
        held: dict[int, list[Stored]] = {}
        if losing:
            before = [r for r in self._receipts if r.identity in losing]
            held = held_by([*self.stored.receipts_of(losing), *before])
        for change, number in zip(changes, numbers, strict=True):
            states = held.get(number, [])
            gone = states if change.drops_versions else states[-1:]
            self._receipts += [Stored(number, r.key, r.stored_hash, gone=True) for r in gone]
            self._receipts.append(Stored(number, change.rows.stored_key, change.rows.stored_hash))

    def _write_shown(self, shown: Shown, changes: Sequence[Change], numbers: Sequence[int]) -> None:
        name = shown.table.name
        blocks: list[Block] = []
        for change, number in zip(changes, numbers, strict=True):
            block = change.rows.blocks.get(name)
            if block:
                blocks.append(numbered(block, number, shown, self.layout.dialect))
        if not blocks:
            return
        if shown.mapped:
            self.session.merge(self.name(name), shown, blocks)
        else:
            self.session.load(self.name(name), shown, blocks)

    def _remove(self, changes: Sequence[Change]) -> None:
        """Take away what changed records had, but for mapped rows, which `_write_shown` replaces."""
        numbers = [c.before.number for c in changes if c.before is not None]
        kept = [c.before.number for c in changes if c.before is not None and c.keeps_version]
        dropped = [c.before.number for c in changes if c.before is not None and c.drops_versions]
        if dropped:
            self.delete("versions", "no", dropped)
        if kept:
            self._keep_versions(kept)
        for name, shown in self.layout.shown.items():
            if not shown.mapped:
                self.delete(name, SHOWN[name].columns[0].name, numbers)
        for name in ("record_chunks", "records"):
            self.delete(name, "no", numbers)
        for shown in self.layout.shown.values():
            if shown.mapped:
                self._trim(shown, changes)

    def _keep_versions(self, numbers: Sequence[int]) -> None:
        """Copy records into `versions`, inside the server."""
        versions, records, more = (self.tables[n] for n in ("versions", "records", "record_chunks"))
        time = now()
        last = sa.select(sa.func.coalesce(sa.func.max(versions.c.version), 0)).where(versions.c.no == records.c.no)
        names = [c.name for c in versions.columns]
        for some in _slices(numbers):
            number = last.correlate(records).scalar_subquery()
            first = sa.select(
                records.c.no, number + 1, sa.literal(0), records.c.source_hash, records.c.run,
                sa.literal(time, versions.c.superseded_at.type), records.c.data,
            ).where(records.c.no.in_(some))  # fmt: skip
            self.session.execute(sa.insert(versions).from_select(names, first))
            rest = (
                sa.select(
                    records.c.no, number, more.c.position, records.c.source_hash, records.c.run,
                    sa.literal(time, versions.c.superseded_at.type), more.c.data,
                )
                .select_from(records.join(more, more.c.no == records.c.no))
                .where(records.c.no.in_(some))
            )  # fmt: skip
            self.session.execute(sa.insert(versions).from_select(names, rest))

    def _trim(self, shown: Shown, changes: Sequence[Change]) -> None:
        """Remove mapped rows that a changed record has no more; columns that are not mapped stay where they can."""
        name = shown.table.name
        if name == "conversations":
            return
        ordinal = shown.key[len(shown.conversation) :]
        table = sa.table(self.layout.names[name], *(sa.column(t) for t in shown.targets), schema=self.layout.schema)
        for change in changes:
            if ordinal == ("id",) and change.is_merged:
                # A merge takes no message away.
                continue
            here = [table.c[shown.target(c)] == v for c, v in _whose(shown, change).items()]
            if ordinal == ("position",):
                here.append(table.c[shown.target("position")] >= change.rows.counts[name])
            self.session.execute(sa.delete(table).where(*here))

    def _first_free(self) -> int:
        no = self.tables["records"].c.no
        return int(self.session.execute(sa.select(sa.func.coalesce(sa.func.max(no), 0)))[0][0]) + 1

    def _new_number(self) -> int:
        assert self._next is not None
        self._next += 1
        return self._next - 1

    def _add_months(self, months: set[date]) -> None:
        if self._months is None:
            self._months = self.session.months(self.layout)
        missing = months - self._months
        if missing and self._create:
            self.session.add_months(self.layout, self.name("messages"), sorted(missing))
        self._months |= missing

    def delete(self, name: str, column: str, numbers: Sequence[int]) -> None:
        """Remove the rows of these numbers from a table of ours."""
        table = self.tables[name]
        for some in _slices(numbers):
            self.session.execute(sa.delete(table).where(table.c[column].in_(some)))

    def load(self, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of Python values into a kept table."""
        if rows:
            columns = KEPT[name].columns
            self.session.load_values(self.name(name), [c.name for c in columns], [c.kind for c in columns], rows)

    # --- errors -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what only this plugin knows into errors of the engine."""
        place = self.session.place
        try:
            yield
        except Denied as error:
            raise place.fatal(f"`{place.name}`: {error}; grant the right, or restore the table") from error
        except RefusedError as error:
            raise place.fatal(f"`{place.name}`: {error}") from error


def _whose(shown: Shown, change: Change) -> dict[str, Any]:
    assert change.before is not None
    rows = change.rows
    values = {
        "conversation": change.before.number, "conversation_key": rows.digest.hex(), "source": rows.source,
        "conversation_id": rows.id,
    }  # fmt: skip
    return {c: values[c] for c in shown.conversation}


def _slices(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _KEYS_PER_QUERY):
        yield list(values[start : start + _KEYS_PER_QUERY])
