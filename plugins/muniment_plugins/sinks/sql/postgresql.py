"""How is PostgreSQL spoken to?  psycopg 3: COPY for rows, an advisory lock for the run."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from muniment import ConfigError, FatalError, MunimentError
from muniment_plugins.sinks.sql.layout import Kind, Layout, Shown
from muniment_plugins.sinks.sql.rows import NO_MONTH, Block, Row
from muniment_plugins.sinks.sql.session import LOCK_SECONDS, Denied, Place, RefusedError, Session

_LOCK_TIMEOUT = "20s"
_READ_ONLY = "; SET default_transaction_read_only=on"
# The index takes no more of a text: PostgreSQL refuses a row whose words fill more than 1 MB.
WORDS_CHARACTERS = 200_000

_TYPES: Mapping[Kind, Any] = {
    "number": sa.BigInteger, "count": sa.Integer, "flag": sa.Boolean, "text": sa.Text, "short": sa.Text,
    "digest": pg.BYTEA, "bytes": pg.BYTEA, "json": pg.JSONB, "time": lambda: pg.TIMESTAMP(timezone=True),
    "month": sa.Date,
}  # fmt: skip
_WIRE_TYPES: Mapping[Kind, str] = {
    "number": "int8", "count": "int4", "flag": "bool", "text": "text", "short": "text", "digest": "bytea",
    "bytes": "bytea", "time": "timestamptz",
}  # fmt: skip


class PostgreSQL(Session):
    """A connection of psycopg."""

    dialect: ClassVar[sa.Dialect] = PGDialect_psycopg()  # type: ignore[no-untyped-call]

    def __init__(self, place: Place, *, read_only: bool = False) -> None:
        super().__init__(place)
        url = sa.make_url(place.url)
        options: dict[str, Any] = {
            **dict(url.query), **url.translate_connect_args(username="user", database="dbname"),
            "connect_timeout": max(2, round(place.connect_timeout_seconds)), "application_name": "muniment",
        }  # fmt: skip
        given = {"password": place.password, "sslmode": place.sslmode, "sslrootcert": place.sslrootcert}
        options.update({k: v for k, v in given.items() if v is not None})
        options.setdefault("client_encoding", "utf8")
        try:
            self.connection = psycopg.connect(autocommit=True, **options)
        except psycopg.Error as error:
            raise self._unreachable(error) from error
        self.run(
            f"SET lock_timeout='{_LOCK_TIMEOUT}'; SET timezone='UTC'; SET standard_conforming_strings=on;"
            f" SET idle_in_transaction_session_timeout=0{_READ_ONLY if read_only else ''}"
        )
        # Twice as fast as the default, and no larger.
        self.run(
            "SELECT set_config(name, 'lz4', false) FROM pg_catalog.pg_settings"
            " WHERE name='default_toast_compression' AND 'lz4'=ANY(enumvals)"
        )

    def close(self) -> None:
        self.connection.close()

    # --- statements -------------------------------------------------------------------------

    def run(self, sql: str, parameters: Any = None) -> list[Row]:
        with self._guarded():
            cursor = self.connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def begin_snapshot(self) -> None:
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    @contextlib.contextmanager
    def _guarded(self, *, patient: bool = False) -> Iterator[None]:
        """Translate errors, and cut the connection when the server answers nothing for too long."""
        timer = None if patient else threading.Timer(self.place.timeout_seconds, self._cut)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        except psycopg.Error as error:
            raise self._translated(error) from error
        except UnicodeEncodeError as error:
            raise RefusedError("a text cannot be encoded") from error
        finally:
            if timer is not None:
                timer.cancel()

    def _cut(self) -> None:
        with contextlib.suppress(OSError, psycopg.Error):
            duplicate = socket.socket(fileno=os.dup(self.connection.fileno()))
            try:
                duplicate.shutdown(socket.SHUT_RDWR)
            finally:
                duplicate.close()

    def _unreachable(self, error: psycopg.Error) -> MunimentError:
        place, text = self.place, str(error).strip()
        last = text.splitlines()[-1] if text else "no reason was given"
        for sign, remedy in _CONNECT_REMEDIES:
            if sign in text:
                return place.fatal(f"`{place.name}` does not let us in: {remedy} ({last})")
        return place.transient(f"`{place.name}` cannot be reached: {last}; is the server running and is `url` right?")

    def _translated(self, error: psycopg.Error) -> Exception:
        place, state = self.place, error.sqlstate or ""
        name = type(error).__name__
        if (not state and self.connection.broken) or state[:2] == "08" or state.startswith("57P"):
            return place.transient(f"the connection to `{place.name}` was lost")
        if state in _TRANSIENT:
            return place.transient(f"`{place.name}`: {_TRANSIENT[state]}")
        if state in ("42501", "42P01", "42703", "3F000", "42P10", "42883"):
            return Denied(error.diag.message_primary or name)
        if state == "25006":
            return place.fatal(
                f"`{place.name}` is read-only: a standby, or `default_transaction_read_only`; write to the primary"
            )
        if state in ("53100", "58030", "53400"):
            return place.fatal(f"the disk of `{place.name}` is full or fails; make room and run again: what was"
                               " committed stands")  # fmt: skip
        if state[:2] in ("21", "22", "23", "54", "44"):
            # The server's own words quote the value.
            return RefusedError(
                f"PostgreSQL does not take it ({name}, SQLSTATE {state})", is_duplicate=state == "23505"
            )
        if state[:2] in ("28", "3D"):
            return self._unreachable(error)
        if not state:
            return place.transient(f"the connection to `{place.name}` fails ({name})")
        return place.fatal(f"`{place.name}`: {error.diag.message_primary or name} (SQLSTATE {state})")

    # --- rows -------------------------------------------------------------------------------

    def load(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        self._copy(table, shown.targets, blocks)

    def merge(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        columns = ", ".join(map(self.quote, shown.targets))
        staging = f"pg_temp.{self.quote(f'muniment_{shown.table.name}')}"
        exists = self.run("SELECT to_regclass(%s)", (staging,))[0][0]
        if exists is None:
            empty = f"SELECT {columns} FROM {table} WITH NO DATA"  # noqa: S608 - quoted names
            self.run(f"CREATE TEMP TABLE {staging.removeprefix('pg_temp.')} ON COMMIT DELETE ROWS AS {empty}")
        self._copy(staging, shown.targets, blocks)
        self.run(f"{self._upsert(table, shown, staging)}; TRUNCATE {staging}")

    def probe_merge(self, table: str, shown: Shown) -> None:
        self.run(self._upsert(table, shown, table, "WHERE false"))

    def load_values(self, table: str, names: Sequence[str], kinds: Sequence[Kind], rows: Sequence[Row]) -> None:
        columns = ", ".join(map(self.quote, names))
        command = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
        with self._guarded(), self.connection.cursor() as cursor, cursor.copy(command) as copy:
            copy.set_types([_WIRE_TYPES[k] for k in kinds])
            for row in rows:
                copy.write_row(row)

    def _copy(self, table: str, targets: Sequence[str], blocks: Sequence[Block]) -> None:
        columns = ", ".join(map(self.quote, targets))
        command = f"COPY {table} ({columns}) FROM STDIN"
        with self._guarded(), self.connection.cursor() as cursor, cursor.copy(command) as copy:
            copy.write(b"".join(blocks))  # type: ignore[arg-type]

    def _upsert(self, table: str, shown: Shown, staging: str, where: str = "") -> str:
        columns = ", ".join(map(self.quote, shown.targets))
        key = [shown.target(c) for c in shown.key]
        others = [f"{self.quote(t)}=excluded.{self.quote(t)}" for t in shown.targets if t not in key]
        what = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
        return (
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {staging} {where}"  # noqa: S608 - quoted names
            f" ON CONFLICT ({', '.join(map(self.quote, key))}) DO {what}"
        )

    # --- the whole database -----------------------------------------------------------------

    def lock(self, name: str) -> bool:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        until = time.monotonic() + LOCK_SECONDS
        while not self.run("SELECT pg_try_advisory_lock(%s)", (number,))[0][0]:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def tables(self, schema: str | None) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        rows = self.run(
            "SELECT c.relname, a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid=a.attrelid"
            " JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace"
            " WHERE n.nspname=coalesce(%s, current_schema()) AND c.relkind IN ('r','p','v','f') AND a.attnum>0"
            " AND NOT a.attisdropped",
            (schema,),
        )
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        return found

    def schema_exists(self, schema: str) -> bool:
        return bool(self.run("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname=%s", (schema,)))

    @classmethod
    def type_of(cls, kind: Kind) -> Any:
        return _TYPES[kind]()

    # --- indexes and partitions -------------------------------------------------------------

    def prepare_indexes(self, index: str) -> None:
        if index != "trigram" or self.run("SELECT 1 FROM pg_catalog.pg_extension WHERE extname='pg_trgm'"):
            return
        try:
            self.run("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except (Denied, FatalError) as error:
            raise ConfigError(
                f"{self.place.path}: `index: trigram` needs the extension `pg_trgm`, which `{self.place.name}` does"
                " not have and this role may not create; let its owner run `CREATE EXTENSION pg_trgm`"
            ) from error

    def create_indexes(self, layout: Layout, table: Callable[[str], str], index: str) -> None:
        shown = layout.shown
        schema = f"{self.quote(layout.schema)}." if layout.schema else ""
        wanted = [("receipts", "no", "(no)")]
        if "conversations" in shown and not shown["conversations"].mapped:
            # Ids can be longer than a B-tree takes.
            wanted += [("conversations", "id", "USING hash (id)"), ("conversations", "created_at", "(created_at)")]
        if "messages" in shown and not shown["messages"].mapped and index != "none":
            wanted.append(("messages", "words", f"USING gin ({schema}muniment_words(text))"))
            if index == "trigram":
                found = self.run(
                    "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n"
                    " ON n.oid=e.extnamespace WHERE extname='pg_trgm'"
                )
                wanted.append(("messages", "trigram", f"USING gin (text {self.quote(found[0][0])}.gin_trgm_ops)"))
        existing = {
            r[0]
            for r in self.run(
                "SELECT indexname FROM pg_catalog.pg_indexes WHERE schemaname=coalesce(%s, current_schema())",
                (layout.schema,),
            )
        }
        for owner, suffix, definition in wanted:
            name = f"{layout.names[owner]}_{suffix}"
            if name in existing:
                continue
            if suffix == "words":
                self.run(
                    f"CREATE OR REPLACE FUNCTION {schema}muniment_words(message text) RETURNS tsvector"
                    " LANGUAGE sql IMMUTABLE PARALLEL SAFE"
                    f" AS $$SELECT to_tsvector('simple'::regconfig, left(message, {WORDS_CHARACTERS}))$$"
                )
            self._run_patiently(f"CREATE INDEX {self.quote(name)} ON {table(owner)} {definition}")

    def add_months(self, layout: Layout, table: str, months: Sequence[date]) -> None:
        schema = f"{self.quote(layout.schema)}." if layout.schema else ""
        messages = layout.names["messages"]
        for month in sorted(set(months) - {NO_MONTH}):
            following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
            name = f"{schema}{self.quote(f'{messages}_{month:%Y_%m}')}"
            try:
                with self.savepoint():
                    # Attached rather than made in place: readers go on.
                    self.run(
                        f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS);"
                        f" ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{month}') TO ('{following}')"
                    )
            except (Denied, RefusedError):
                # The role may not create it, or the default partition holds rows of it: they stand there then.
                continue

    def months(self, layout: Layout) -> set[date]:
        """Return the months that have a partition."""
        rows = self.run(
            "SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid=i.inhrelid"
            " JOIN pg_catalog.pg_class p ON p.oid=i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid=p.relnamespace"
            " WHERE p.relname=%s AND n.nspname=coalesce(%s, current_schema())",
            (layout.names["messages"], layout.schema),
        )
        found = set()
        for (name,) in rows:
            with contextlib.suppress(ValueError):
                year, month = name[-7:].split("_")
                found.add(date(int(year), int(month), 1))
        return found

    def _run_patiently(self, sql: str) -> None:
        with self._guarded(patient=True):
            self.connection.execute(sql)


_CONNECT_REMEDIES = (
    ("password authentication failed", "check the user in `url` and `password`"),
    ("no password supplied", "it asks for a password; set `password: ${secret:env:NAME}`"),
    ("no pg_hba.conf entry", "let its administrator add a rule to `pg_hba.conf`, or set `sslmode`"),
    ("certificate", "check `sslmode` and `sslrootcert`"),
    ("does not support SSL", "turn TLS on at the server, or set another `sslmode`"),
    ("sslmode", "check `sslmode`"),
    ("does not exist", "create the database or role, or check `url`"),
    ("permission denied for database", "grant CONNECT on the database"),
    ("is not permitted to log in", "give the role LOGIN"),
    ("authentication", "check the user in `url` and `password`"),
    ("could not translate host name", "check the host in `url`"),
    ("invalid connection option", "check what stands behind `?` in `url`"),
)
_TRANSIENT: Mapping[str, str] = {
    "40001": "another transaction was in the way",
    "40P01": "another transaction was in the way (deadlock)",
    "55P03": "another transaction holds a lock",
    "53300": "too many connections",
    "53200": "the server is out of memory",
    "57014": "the server cancelled a statement",
}
