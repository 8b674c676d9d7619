"""How are MariaDB and MySQL spoken to?  PyMySQL: many rows in one INSERT, GET_LOCK for the run."""

import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pymysql
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

from muniment_plugins.sinks.sql.layout import Kind, Layout, Shown
from muniment_plugins.sinks.sql.rows import Block, Row, sql_row
from muniment_plugins.sinks.sql.session import LOCK_SECONDS, Denied, Place, RefusedError, Session

_STATEMENT_BYTES = 4 * 2**20
_LOCK_WAIT_SECONDS = 20

_TYPES: Mapping[Kind, Any] = {
    "number": sa.BigInteger, "count": sa.Integer, "flag": lambda: mysql.TINYINT(1), "text": mysql.LONGTEXT,
    "short": lambda: mysql.VARCHAR(64, charset="ascii", collation="ascii_bin"), "digest": lambda: mysql.BINARY(32),
    "bytes": mysql.LONGBLOB, "json": mysql.LONGTEXT, "time": lambda: mysql.DATETIME(fsp=6), "month": sa.Date,
}  # fmt: skip


class MySQL(Session):
    """A connection of PyMySQL."""

    # Its DDL commits what is open.
    transactional_ddl: ClassVar[bool] = False

    dialect: ClassVar[sa.Dialect] = MySQLDialect_pymysql()

    def __init__(self, place: Place, *, read_only: bool = False) -> None:
        super().__init__(place)
        url = sa.make_url(place.url)
        with self._guarded(connecting=True):
            tls = _tls(place)
        options: dict[str, Any] = {
            **url.translate_connect_args(username="user"), **tls, "charset": "utf8mb4",
            "password": (place.password or "").encode(), "autocommit": True,
            "connect_timeout": place.connect_timeout_seconds,
            "read_timeout": place.timeout_seconds, "write_timeout": place.timeout_seconds,
            "program_name": "muniment",
        }  # fmt: skip
        socket = url.query.get("unix_socket")
        if socket:
            options["unix_socket"] = socket
        with self._guarded(connecting=True):
            self.connection = pymysql.connect(**options)
        self.run(
            "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00',"
            f" innodb_lock_wait_timeout={_LOCK_WAIT_SECONDS}, character_set_results=utf8mb4"
        )
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if read_only:
            self.run("SET SESSION TRANSACTION READ ONLY")
        version, self._max_bytes = self.run("SELECT version(), @@max_allowed_packet")[0]
        self._is_mariadb = "mariadb" in version.lower()

    def close(self) -> None:
        # `close` of a connection that is gone raises.
        with contextlib.suppress(pymysql.Error):
            self.connection.close()

    # --- statements -------------------------------------------------------------------------

    def run(self, sql: str, parameters: Any = None) -> list[Row]:
        with self._guarded(), self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def begin_snapshot(self) -> None:
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    @contextlib.contextmanager
    def _guarded(self, *, connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except pymysql.Error as error:
            raise self._translated(error, connecting) from error
        except OSError as error:
            if not connecting:
                raise self.place.transient(f"the connection to `{self.place.name}` was lost") from error
            # What the network does is PyMySQL's own error: this is the file of certificates.
            raise self.place.fatal(
                f"`{self.place.sslrootcert}` cannot be read ({error.strerror or type(error).__name__});"
                " check `sslrootcert`"
            ) from error
        except UnicodeEncodeError as error:
            raise RefusedError("a text cannot be encoded") from error

    def _translated(self, error: pymysql.Error, connecting: bool) -> Exception:
        place = self.place
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1]) if len(error.args) > 1 else ""
        name = type(error).__name__
        if isinstance(error.__cause__ or getattr(error, "original_exception", None), ssl.SSLError) or number == 2026:
            return place.fatal(f"TLS with `{place.name}` fails; check `sslmode` and `sslrootcert`")
        if number in _ACCESS:
            return place.fatal(f"`{place.name}` does not let us in: {_ACCESS[number]}")
        if isinstance(error, pymysql.InterfaceError) or number in _LOST or (connecting and number == 0):
            if connecting:
                return place.transient(f"`{place.name}` cannot be reached; is the server running and is `url` right?")
            return place.transient(f"the connection to `{place.name}` was lost")
        if number in _TRANSIENT:
            return place.transient(f"`{place.name}`: {_TRANSIENT[number]}")
        if number in (1142, 1143, 1227, 1370, 1146, 1054, 1109):
            return Denied(text)
        if number in (1290, 1792, 1836):
            return place.fatal(f"`{place.name}` is read-only; write to the primary")
        if number in (1021, 1114, 3, 1026, 14) or "No space left" in text:
            return place.fatal(f"the disk of `{place.name}` is full or fails; make room and run again: what was"
                               " committed stands")  # fmt: skip
        if isinstance(error, pymysql.DataError | pymysql.IntegrityError) or number in _REFUSED:
            # The server's own words quote the value.
            return RefusedError(f"the server does not take it ({name}, error {number})", is_duplicate=number == 1062)
        return place.fatal(f"`{place.name}`: error {number} ({name})")

    # --- rows -------------------------------------------------------------------------------

    def load(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        self._insert(table, shown.targets, _lines(blocks))

    def merge(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        self._insert(table, shown.targets, _lines(blocks), self._on_duplicate(shown))

    def probe_merge(self, table: str, shown: Shown) -> None:
        keys = {shown.target(c) for c in shown.key}
        schema, _, name = table.replace("`", "").rpartition(".")
        rows = self.run(
            "SELECT index_name, column_name FROM information_schema.statistics"
            " WHERE table_schema=coalesce(%s, database()) AND table_name=%s AND non_unique=0",
            (schema or None, name),
        )
        indexes: dict[str, set[str]] = {}
        for index, column in rows:
            indexes.setdefault(index, set()).add(column)
        if keys not in indexes.values():
            raise Denied(f"there is no unique key over {', '.join(sorted(keys))}")

    def load_values(self, table: str, names: Sequence[str], kinds: Sequence[Kind], rows: Sequence[Row]) -> None:
        self._insert(table, names, [sql_row(kinds, row) for row in rows])

    def _insert(self, table: str, names: Sequence[str], rows: Sequence[bytes], suffix: bytes = b"") -> None:
        head = f"INSERT INTO {table} ({', '.join(map(self.quote, names))}) VALUES ".encode()  # noqa: S608 - quoted
        room = min(_STATEMENT_BYTES, self._max_bytes - 1024) - len(head) - len(suffix)
        some: list[bytes] = []
        size = 0
        for row in rows:
            if len(row) > self._max_bytes - 1024 - len(head) - len(suffix):
                raise RefusedError(
                    f"a row of {len(row)} bytes is larger than the server's `max_allowed_packet` ({self._max_bytes})"
                )
            if some and size + len(row) >= room:
                self._send(head, some, suffix)
                some, size = [], 0
            some.append(row)
            size += len(row) + 1
        if some:
            self._send(head, some, suffix)

    def _send(self, head: bytes, rows: Sequence[bytes], suffix: bytes) -> None:
        with self._guarded():
            self.connection.query(head + b",".join(rows) + suffix)

    def _on_duplicate(self, shown: Shown) -> bytes:
        quoted = [self.quote(t) for t in shown.targets]
        if self._is_mariadb:
            changes = ", ".join(f"{q}=VALUES({q})" for q in quoted)
            return f" ON DUPLICATE KEY UPDATE {changes}".encode()
        changes = ", ".join(f"{q}=fresh.{q}" for q in quoted)
        return f" AS fresh ON DUPLICATE KEY UPDATE {changes}".encode()

    # --- the whole database -----------------------------------------------------------------

    def lock(self, name: str) -> bool:
        import hashlib

        # A lock's name holds for the whole server, and has at most 64 characters.
        database = self.run("SELECT database()")[0][0]
        digest = hashlib.sha256(f"{database}/{name}".encode()).hexdigest()[:40]
        return bool(self.run("SELECT GET_LOCK(%s, %s)", (f"muniment:{digest}", LOCK_SECONDS))[0][0] == 1)

    def tables(self, schema: str | None) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for table, column in self.run(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema=coalesce(%s, database())",
            (schema,),
        ):
            found.setdefault(table, set()).add(column)
        return found

    def schema_exists(self, schema: str) -> bool:
        # A database is made by its administrator; a missing one is reported with the tables.
        return True

    @classmethod
    def type_of(cls, kind: Kind) -> Any:
        return _TYPES[kind]()

    def create_indexes(self, layout: Layout, table: Callable[[str], str], index: str) -> None:
        wanted = [("receipts", "no", "INDEX {} (no)")]
        shown = layout.shown
        if "conversations" in shown and not shown["conversations"].mapped:
            wanted += [
                ("conversations", "id", "INDEX {} (id(191))"),
                ("conversations", "created_at", "INDEX {} (created_at)"),
            ]
        if "messages" in shown and not shown["messages"].mapped and index == "words":
            wanted.append(("messages", "words", "FULLTEXT INDEX {} (text)"))
        for owner, suffix, definition in wanted:
            name = f"{layout.names[owner]}_{suffix}"
            found = self.run(
                "SELECT 1 FROM information_schema.statistics WHERE table_schema=coalesce(%s, database())"
                " AND table_name=%s AND index_name=%s LIMIT 1",
                (layout.schema, layout.names[owner], name),
            )
            if not found:
                self._run_patiently(f"ALTER TABLE {table(owner)} ADD {definition.format(self.quote(name))}")

    def _run_patiently(self, sql: str) -> None:
        # An index takes as long as it takes; PyMySQL reads the limit before each answer.
        before, self.connection._read_timeout = self.connection._read_timeout, None
        try:
            self.run(sql)
        finally:
            self.connection._read_timeout = before


def _lines(blocks: Sequence[Block]) -> list[bytes]:
    return [line for block in blocks for line in block[:-1].split(b"\n")]  # type: ignore[union-attr]


def _tls(place: Place) -> dict[str, Any]:
    """Return the options of libpq's words; PyMySQL by itself takes TLS where the server has it."""
    mode = place.sslmode or ("verify-full" if place.sslrootcert else "prefer")
    if mode == "disable":
        return {"ssl_disabled": True}
    if mode in ("allow", "prefer"):
        return {}
    context = ssl.create_default_context(cafile=place.sslrootcert)
    # Certificates that a server made for itself would not pass.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("verify") else ssl.CERT_NONE
    return {"ssl": context}


_ACCESS: Mapping[int, str] = {
    1045: "check the user in `url` and `password`",
    1044: "grant this user rights on the database",
    1049: "there is no such database; create it, or check `url`",
    1698: "check the user in `url` and how the server authenticates it",
    1251: "the server asks for an authentication that PyMySQL does not know",
    2061: "the server's authentication needs TLS; set `sslmode: require`",
}
_LOST = frozenset(
    {
        0,
        1053,
        1077,
        1152,
        1153,
        1156,
        1157,
        1158,
        1159,
        1160,
        1161,
        1184,
        1927,
        2002,
        2003,
        2006,
        2013,
        2014,
        2055,
        3024,
        4031,
    }
)
_TRANSIENT: Mapping[int, str] = {
    1040: "too many connections",
    1203: "too many connections of this user",
    1205: "another transaction holds a lock",
    1213: "another transaction was in the way (deadlock)",
    1226: "this user's resources are used up",
    1317: "the server cancelled a statement",
    1969: "the server cancelled a statement",
}
_REFUSED = frozenset({1048, 1118, 1264, 1265, 1292, 1366, 1406, 1364, 3140, 3819, 4025, 1690, 1071, 1139})
