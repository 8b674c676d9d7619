"""How is DuckDB spoken to?  In process, rows as Arrow tables; the file's own lock is the run's."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql.base import PGDialect

from muniment import TargetBusyError
from muniment.lock import TargetLock
from muniment_plugins.sinks.sql.layout import Kind, Shown
from muniment_plugins.sinks.sql.rows import Block, Row
from muniment_plugins.sinks.sql.session import Denied, Place, RefusedError, Session

_CONFIG = {
    # Both download at first use.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
}

_TYPES: Mapping[Kind, Any] = {
    "number": sa.BigInteger, "count": sa.Integer, "flag": sa.Boolean, "text": sa.Text, "short": sa.Text,
    "digest": pg.BYTEA, "bytes": pg.BYTEA, "json": pg.JSON, "time": sa.TIMESTAMP, "month": sa.Date,
}  # fmt: skip
_ARROW: Mapping[Kind, Any] = {
    "number": pa.int64(), "count": pa.int32(), "flag": pa.bool_(), "text": pa.string(), "short": pa.string(),
    "digest": pa.binary(), "bytes": pa.binary(), "json": pa.string(), "time": pa.timestamp("us"),
    "month": pa.date32(),
}  # fmt: skip


class DuckDB(Session):
    """A connection to a DuckDB file; several of one process share it."""

    has_savepoints: ClassVar[bool] = False

    dialect: ClassVar[sa.Dialect] = PGDialect(paramstyle="qmark")  # type: ignore[no-untyped-call]

    def __init__(self, place: Place, *, read_only: bool = False) -> None:
        super().__init__(place)
        self._lock: TargetLock | None = None
        url = sa.make_url(place.url)
        config: dict[str, Any] = {**_CONFIG, **{k: str(v) for k, v in url.query.items()}}
        is_file = not read_only and url.database not in (None, "", ":memory:")
        is_new = is_file and not Path(url.database or "").exists()
        try:
            self.connection = duckdb.connect(url.database or "", read_only=read_only, config=config)
            if is_new:
                # DuckDB makes it by the umask, and takes no empty file that was made before.
                Path(url.database or "").chmod(0o600)
        except duckdb.IOException as error:
            if "lock" in str(error):
                raise TargetBusyError(
                    f"{place.path}: another process has `{url.database}` open; wait until it has ended"
                ) from error
            raise place.fatal(f"`{url.database}` cannot be opened; check the folder and its permissions") from error
        except duckdb.Error as error:
            raise place.fatal(
                f"`{url.database}` cannot be opened as a DuckDB file ({type(error).__name__}); check `url`"
            ) from error

    def close(self) -> None:
        self.connection.close()
        if self._lock is not None:
            self._lock.release()

    # --- statements -------------------------------------------------------------------------

    def run(self, sql: str, parameters: Any = None) -> list[Row]:
        with self._guarded():
            found = self.connection.execute(sql, None if parameters is None else [_naive(p) for p in parameters])
            return found.fetchall() if found.description else []

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise self._translated(error) from error
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise RefusedError(f"a value does not fit ({type(error).__name__})") from error

    def _translated(self, error: duckdb.Error) -> Exception:
        place, text, name = self.place, str(error), type(error).__name__
        if "No space left" in text or isinstance(error, duckdb.OutOfMemoryException):
            return place.fatal(f"`{place.name}` has no room (disk or `memory_limit`); make some and run again: what was"
                               " committed stands")  # fmt: skip
        if "read-only" in text:
            return place.fatal(f"`{place.name}` is read-only; check the file's permissions")
        if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
            return Denied(text.splitlines()[0])
        if isinstance(error, duckdb.TransactionException):
            return place.transient(f"`{place.name}`: another transaction was in the way")
        if isinstance(error, duckdb.DataError | duckdb.IntegrityError | duckdb.InvalidInputException):
            # Its own words quote the value.
            return RefusedError(f"DuckDB does not take it ({name})", is_duplicate="uplicate key" in text)
        return place.fatal(f"`{place.name}`: {name}")

    # --- rows -------------------------------------------------------------------------------

    def load(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        self._insert(table, shown.targets, shown.kinds, [row for block in blocks for row in block])

    def merge(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        rows = [row for block in blocks for row in block]
        self._insert(table, shown.targets, shown.kinds, rows, self._on_conflict(shown))

    def probe_merge(self, table: str, shown: Shown) -> None:
        columns = ", ".join(map(self.quote, shown.targets))
        self.run(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE false{self._on_conflict(shown)}")  # noqa: S608

    def load_values(self, table: str, names: Sequence[str], kinds: Sequence[Kind], rows: Sequence[Row]) -> None:
        self._insert(table, names, kinds, rows)

    def _insert(
        self, table: str, names: Sequence[str], kinds: Sequence[Kind], rows: Sequence[Any], suffix: str = ""
    ) -> None:
        columns = ", ".join(map(self.quote, names))
        with self._guarded():
            values = zip(*rows, strict=True)
            batch = pa.table(
                [pa.array(v, _ARROW[k]) for v, k in zip(values, kinds, strict=True)],
                names=[f"c{i}" for i in range(len(names))],
            )
            self.connection.register("muniment_batch", batch)
            try:
                self.connection.execute(f"INSERT INTO {table} ({columns}) SELECT * FROM muniment_batch{suffix}")  # noqa: S608
            finally:
                # In a transaction that has failed even this is refused.
                with contextlib.suppress(duckdb.Error):
                    self.connection.unregister("muniment_batch")

    def _on_conflict(self, shown: Shown) -> str:
        key = [shown.target(c) for c in shown.key]
        others = [f"{self.quote(t)}=excluded.{self.quote(t)}" for t in shown.targets if t not in key]
        what = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
        return f" ON CONFLICT ({', '.join(map(self.quote, key))}) DO {what}"

    # --- the whole database -----------------------------------------------------------------

    def lock(self, name: str) -> bool:
        # DuckDB keeps other processes out, but not another run in this one.
        path = sa.make_url(self.place.url).database
        if not path or path == ":memory:":
            return True
        self._lock = TargetLock(Path(path))
        try:
            self._lock.acquire()
        except TargetBusyError:
            self._lock = None
            return False
        return True

    def tables(self, schema: str | None) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for table, column in self.run(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema=coalesce(?, current_schema()) AND table_catalog=current_catalog()",
            (schema,),
        ):
            found.setdefault(table, set()).add(column)
        return found

    def schema_exists(self, schema: str) -> bool:
        return bool(self.run("SELECT 1 FROM information_schema.schemata WHERE schema_name=?", (schema,)))

    @classmethod
    def type_of(cls, kind: Kind) -> Any:
        return _TYPES[kind]()


def _naive(value: Any) -> Any:
    """Return a time without its zone, which would be turned into the local one."""
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value
