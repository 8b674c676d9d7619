"""How are rows put into an archive?  One connection, whole batches, what is refused is found by halving."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, BinaryIO, NoReturn

import sqlalchemy as sa
from attrs import frozen

from muniment import Asset, Context, Receipt, RecordError, Rejected, TargetBusyError, Unit
from muniment.merge import merge_records
from muniment_plugins.sinks.sql.layout import KEPT, SHOWN, Layout, Shown
from muniment_plugins.sinks.sql.ledger import Ledger, full_name, now
from muniment_plugins.sinks.sql.rows import (
    PIECE_BYTES,
    Block,
    DamagedBlobError,
    Encoder,
    Rows,
    digest_of,
    numbered,
    pieces,
    record_from_blob,
)
from muniment_plugins.sinks.sql.session import Denied, RefusedError, Session
from muniment_plugins.sinks.sql.setup import tables_of

_KEYS_PER_QUERY = 500


@frozen
class _Stored:
    """What the archive holds under a key."""

    number: int
    source_hash: str
    plan_hash: str


@frozen
class _Change:
    """A record to be written.  ``before`` is what stands in its place; ``keeps_version``: beside it as a version."""

    rows: Rows
    before: _Stored | None = None
    keeps_version: bool = False
    drops_versions: bool = False
    is_merged: bool = False


class Archive:
    """An archive that is open for writing."""

    def __init__(self, session: Session, layout: Layout, ctx: Context, *, create: bool) -> None:
        self.session = session
        self.layout = layout
        self.context = ctx
        self.tables = tables_of(session, layout)
        self.ledger = Ledger(session, self.tables)
        self._create = create
        self._encoder = Encoder(layout)
        self._next: int | None = None
        self._months: set[date] | None = None

    def close(self) -> None:
        self.session.close()

    def begin(self) -> None:
        self._next = None
        self.session.begin()

    def commit(self) -> None:
        with self._explained():
            self.session.commit()

    def rollback(self) -> None:
        self.session.rollback()

    def save_unit(self, unit: Unit) -> None:
        """Note a unit in the open transaction.

        Raises:
            TargetBusyError: another run has taken over since; nothing of this unit may be stored.
        """
        with self._explained():
            holder = self.ledger.holder()
            if holder != self.context.run:
                raise TargetBusyError(
                    f"{self.context.path}: run `{holder}` has taken over `{self.session.place.name}` while the"
                    " connection was lost; what was committed stands"
                )
            self.ledger.add_unit(unit)

    def write(self, batch: Sequence[Rows]) -> Receipt:
        """Store a batch inside the open transaction; what is stored already is merged or left alone."""
        rejected: list[Rejected] = []
        stored = unchanged = 0
        with self._explained():
            for wave in _waves(batch):
                changes, same = self._changes(wave)
                unchanged += same
                changes = self._with_assets(changes, rejected)
                stored += self._apply(changes, rejected)
        return Receipt(stored, unchanged, tuple(rejected))

    def name(self, table: str) -> str:
        """Return a table's full name, quoted."""
        found = self.tables.get(table)
        if found is None:
            found = sa.Table(self.layout.names[table], sa.MetaData(), schema=self.layout.schema)
        return full_name(self.session, found)

    # --- what changes -----------------------------------------------------------------------

    def _changes(self, wave: Sequence[Rows]) -> tuple[list[_Change], int]:
        """Return what is to be written, and how many records are stored already."""
        existing = self.existing([r.digest for r in wave])
        changes: list[_Change] = []
        older: list[tuple[Rows, _Stored]] = []
        for rows in wave:
            found = existing.get(rows.digest)
            if found is None:
                changes.append(_Change(rows))
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

    def _is_stored(self, found: _Stored, rows: Rows) -> bool:
        same_plan = found.plan_hash == self.context.plan_hash or self.context.on_plan_change == "keep"
        return found.source_hash == rows.source_hash and same_plan

    def _merged(self, rows: Rows, found: _Stored) -> _Change | None:
        policy = self.context.on_plan_change
        other_plan = found.plan_hash != self.context.plan_hash
        if found.source_hash == rows.source_hash or (other_plan and policy == "rewrite"):
            # The plan is another one: what it makes stands in place of the old, not beside it.
            return _Change(rows, found, policy == "new_version", policy == "rewrite")
        try:
            old = record_from_blob(self.blob(found.number), rows.origin)
        except DamagedBlobError:
            if found.source_hash:
                raise self.session.place.fatal(
                    f"a record in `{self.session.place.name}` is damaged (number {found.number}); fill it from another"
                    " copy with `muniment repair`"
                ) from None
            return _Change(rows, found)
        merged = merge_records(old, record_from_blob(rows.record, rows.origin))
        if merged.source_hash == old.source_hash and found.source_hash:
            return None
        return _Change(self._encoder.encode(merged), found, keeps_version=bool(found.source_hash), is_merged=True)

    def existing(self, digests: Sequence[bytes]) -> dict[bytes, _Stored]:
        """Return what the archive holds under keys."""
        c = self.tables["records"].c
        found: dict[bytes, _Stored] = {}
        for some in _slices(digests):
            rows = self.session.execute(
                sa.select(c.key_digest, c.no, c.source_hash, c.plan_hash).where(c.key_digest.in_(some))
            )
            found.update((bytes(r[0]), _Stored(*r[1:])) for r in rows)
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

    def forget(self, keys: Iterable[str]) -> None:
        """Have these records written again by the next write, though they are stored."""
        records = self.tables["records"]
        with self._explained(), self.session.transaction():
            for some in _slices([digest_of(k) for k in keys]):
                statement = sa.update(records).where(records.c.key_digest.in_(some)).values(source_hash="")
                self.session.execute(statement)

    # --- rows -------------------------------------------------------------------------------

    def _apply(self, changes: Sequence[_Change], rejected: list[Rejected]) -> int:
        """Write changes; return how many.  One that is refused is rejected, the others are written."""
        if not changes:
            return 0
        try:
            with self.session.savepoint():
                self._write(changes)
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

    def _check_alone(self, change: _Change, error: RefusedError) -> None:
        """Have the unit made again if another writer of this run was here first."""
        if error.is_duplicate and change.before is None:
            is_there = bool(self.existing([change.rows.digest]))
            if is_there or not any(s.mapped for s in self.layout.shown.values()):
                raise self.session.place.transient("another writer stored the same conversation at the same time")

    def _refuse_without_savepoint(self, changes: Sequence[_Change], error: RefusedError) -> NoReturn:
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

    def _write(self, changes: Sequence[_Change]) -> None:
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

    def _write_shown(self, shown: Shown, changes: Sequence[_Change], numbers: Sequence[int]) -> None:
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

    def _remove(self, changes: Sequence[_Change]) -> None:
        """Take away what changed records had, but for mapped rows, which `_write_shown` replaces."""
        numbers = [c.before.number for c in changes if c.before is not None]
        kept = [c.before.number for c in changes if c.before is not None and c.keeps_version]
        dropped = [c.before.number for c in changes if c.before is not None and c.drops_versions]
        if dropped:
            self._delete("versions", "no", dropped)
        if kept:
            self._keep_versions(kept)
        for name, shown in self.layout.shown.items():
            if not shown.mapped:
                self._delete(name, SHOWN[name].columns[0].name, numbers)
        for name in ("record_chunks", "records"):
            self._delete(name, "no", numbers)
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

    def _trim(self, shown: Shown, changes: Sequence[_Change]) -> None:
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

    def _delete(self, name: str, column: str, numbers: Sequence[int]) -> None:
        table = self.tables[name]
        for some in _slices(numbers):
            self.session.execute(sa.delete(table).where(table.c[column].in_(some)))

    def load(self, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of Python values into a kept table."""
        if rows:
            columns = KEPT[name].columns
            self.session.load_values(self.name(name), [c.name for c in columns], [c.kind for c in columns], rows)

    # --- assets -----------------------------------------------------------------------------

    def _with_assets(self, changes: list[_Change], rejected: list[Rejected]) -> list[_Change]:
        """Store the bytes that the archive lacks; return the changes whose assets are all there."""
        wanted = {a.sha256 for c in changes for a in c.rows.assets if a.sha256}
        if not wanted:
            return changes
        chunks = self.tables["asset_chunks"].c
        held: set[str] = set()
        for some in _slices(sorted(wanted)):
            statement = sa.select(chunks.sha256).where(chunks.position == 0, chunks.sha256.in_(some))
            held.update(r[0] for r in self.session.execute(statement))
        kept: list[_Change] = []
        for change in changes:
            try:
                for asset in change.rows.assets:
                    if asset.sha256 and asset.sha256 not in held:
                        self._store_asset(asset, asset.sha256)
                        held.add(asset.sha256)
                kept.append(change)
            except RecordError as error:
                rejected.append(Rejected(change.rows.origin, "write", error.reason, change.rows.key))
        return kept

    def _store_asset(self, asset: Asset, digest: str) -> None:
        actual = hashlib.sha256()
        try:
            with contextlib.closing(self.context.open_asset(asset)) as stream:
                for position, data in enumerate(_read_pieces(stream)):
                    actual.update(data)
                    self.load("asset_chunks", [(digest, position, data)])
        except FileNotFoundError:
            actual = hashlib.sha256(b"gone")
        if actual.hexdigest() != digest:
            chunks = self.tables["asset_chunks"]
            self.session.execute(sa.delete(chunks).where(chunks.c.sha256 == digest))
            raise RecordError("an asset changed or vanished while it was read; run the import again")

    # --- errors -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what only this plugin knows into errors of the engine."""
        place = self.session.place
        try:
            yield
        except Denied as error:
            raise place.fatal(f"`{place.name}`: {error}; grant the right, or restore the table") from error
        except RefusedError as error:
            raise place.fatal(f"`{place.name}`: {error}") from error


def _whose(shown: Shown, change: _Change) -> dict[str, Any]:
    assert change.before is not None
    rows = change.rows
    values = {
        "conversation": change.before.number, "conversation_key": rows.digest.hex(), "source": rows.source,
        "conversation_id": rows.id,
    }  # fmt: skip
    return {c: values[c] for c in shown.conversation}


def _waves(batch: Sequence[Rows]) -> Iterator[list[Rows]]:
    """Cut a batch so that no conversation comes twice in a part: the second must find the first stored."""
    wave: list[Rows] = []
    seen: set[bytes] = set()
    for rows in batch:
        if rows.digest in seen:
            yield wave
            wave, seen = [], set()
        wave.append(rows)
        seen.add(rows.digest)
    if wave:
        yield wave


def _slices(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _KEYS_PER_QUERY):
        yield list(values[start : start + _KEYS_PER_QUERY])


def _read_pieces(stream: BinaryIO) -> Iterator[bytes]:
    first = True
    while (data := stream.read(PIECE_BYTES)) or first:
        first = False
        yield data
