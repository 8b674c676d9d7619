"""What must a database be able to do for an archive?  One connection, its statements and its errors."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from muniment import FatalError, MunimentError, TransientError
from muniment_plugins.sinks.sql.layout import Dialect, Kind, Layout, Shown
from muniment_plugins.sinks.sql.rows import Block, Row

if TYPE_CHECKING:
    import sqlalchemy as sa

LOCK_SECONDS = 3.0
"""How long a run waits for another one to let go of the target: one that was killed does so in a moment."""


@frozen(kw_only=True)
class Place:
    """Where the database is.  ``path`` names the sink in messages; the password is in none of them."""

    url: str
    path: str
    password: str | None = field(default=None, repr=False)
    connect_timeout_seconds: float = 10.0
    timeout_seconds: float = 120.0
    sslmode: str | None = None
    sslrootcert: str | None = None

    @property
    def name(self) -> str:
        """The database as messages name it."""
        from sqlalchemy.engine import make_url

        url = make_url(self.url)
        where = f"{url.host}:{url.port}/{url.database}" if url.port else f"{url.host or ''}/{url.database or ''}"
        return f"{url.get_backend_name()}://{f'{url.username}@' if url.username else ''}{where}"

    def fatal(self, text: str) -> FatalError:
        return FatalError(f"{self.path}: {text}")

    def transient(self, text: str) -> TransientError:
        return TransientError(f"{self.path}: {text}")


class RefusedError(Exception):
    """The database does not take a row; the text says why, without any of its content.

    ``is_duplicate`` says that a row with one of its unique keys stands there already.
    """

    def __init__(self, reason: str, *, is_duplicate: bool = False) -> None:
        self.is_duplicate = is_duplicate
        super().__init__(reason)


class Denied(Exception):  # noqa: N818 - a finding of the start-up check, not a failure
    """A table, a column or a right is missing; the text is the database's own, of names only."""


class Session(ABC):
    """One connection, in autocommit until `begin`.

    Every error of the driver becomes `RefusedError` (a row is not taken), `Denied` (something is missing),
    `TransientError` (the connection and its transaction are gone) or `FatalError`.
    """

    has_savepoints: ClassVar[bool] = True
    transactional_ddl: ClassVar[bool] = True

    dialect: "ClassVar[sa.Dialect]"

    def __init__(self, place: Place, *, read_only: bool = False) -> None:
        self.place = place
        self.in_transaction = False

    # --- statements -------------------------------------------------------------------------

    def execute(self, statement: "sa.Executable | sa.ClauseElement") -> list[Row]:
        """Run a statement of SQLAlchemy Core and return its rows."""
        compiled: Any = statement.compile(  # type: ignore[union-attr]
            dialect=self.dialect, compile_kwargs={"render_postcompile": True}
        )
        parameters = compiled.params
        return self.run(
            str(compiled), [parameters[p] for p in compiled.positiontup] if compiled.positional else parameters
        )

    @abstractmethod
    def run(self, sql: str, parameters: Any = None) -> list[Row]:
        """Run a statement of text and return its rows; without ``parameters`` no mark in it is special."""

    def begin(self) -> None:
        self.run("BEGIN")
        self.in_transaction = True

    def commit(self) -> None:
        self.run("COMMIT")
        self.in_transaction = False

    def rollback(self) -> None:
        if self.in_transaction:
            self.in_transaction = False
            self.run("ROLLBACK")

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is done inside when a row is refused or something is missing."""
        if not self.has_savepoints:
            yield
            return
        self.run("SAVEPOINT muniment_batch")
        try:
            yield
        except (RefusedError, Denied):
            self.run("ROLLBACK TO SAVEPOINT muniment_batch")
            raise
        self.run("RELEASE SAVEPOINT muniment_batch")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done inside happens, or nothing."""
        self.begin()
        try:
            yield
        except BaseException:
            with contextlib.suppress(MunimentError):
                self.rollback()
            raise
        self.commit()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one moment; nothing can be written."""
        self.begin_snapshot()
        self.in_transaction = True
        try:
            yield
        finally:
            with contextlib.suppress(MunimentError):
                self.rollback()

    def begin_snapshot(self) -> None:
        """Open a transaction that sees no change of others."""
        self.run("BEGIN")

    @abstractmethod
    def close(self) -> None: ...

    @classmethod
    def quote(cls, name: str) -> str:
        return cls.dialect.identifier_preparer.quote_identifier(name)

    # --- rows -------------------------------------------------------------------------------

    @abstractmethod
    def load(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        """Insert blocks into the table, whose full name is quoted already."""

    @abstractmethod
    def merge(self, table: str, shown: Shown, blocks: Sequence[Block]) -> None:
        """Insert blocks; where a row with their key stands, its written columns are replaced."""

    @abstractmethod
    def load_values(self, table: str, names: Sequence[str], kinds: Sequence[Kind], rows: Sequence[Row]) -> None:
        """Insert rows of Python values."""

    def probe_merge(self, table: str, shown: Shown) -> None:  # noqa: B027 - nothing to do by default
        """Try whether `merge` can tell rows apart by their key; changes nothing."""

    # --- the whole database -----------------------------------------------------------------

    @abstractmethod
    def lock(self, name: str) -> bool:
        """Take the lock of a target for as long as this connection lives; False if somebody holds it."""

    @abstractmethod
    def tables(self, schema: str | None) -> dict[str, set[str]]:
        """Return the names of the columns of every table that this role can see, by table."""

    @abstractmethod
    def schema_exists(self, schema: str) -> bool: ...

    @classmethod
    @abstractmethod
    def type_of(cls, kind: Kind) -> "sa.types.TypeEngine[Any]":
        """Return the column type of a kind."""

    def create_indexes(self, layout: Layout, table: Callable[[str], str], index: str) -> None:  # noqa: B027 - nothing to do by default
        """Create the indexes that are missing; ``table`` gives a table's full name, quoted."""

    def prepare_indexes(self, index: str) -> None:  # noqa: B027 - nothing to do by default
        """Make sure at the start of a run that the indexes can be made at its end."""

    def months(self, layout: Layout) -> set[date]:
        """Return the months that have a partition."""
        return set()

    def add_months(self, layout: Layout, table: str, months: Sequence[date]) -> None:  # noqa: B027 - nothing to do by default
        """Create the partitions of these months."""


def open_session(layout: Layout, place: Place, *, read_only: bool = False) -> Session:
    """Connect.

    Raises:
        FatalError: the database does not let us in.
        TransientError: it cannot be reached.
        TargetBusyError: another process has the file open.
    """
    return session_class(layout.dialect)(place, read_only=read_only)


def session_class(dialect: Dialect) -> type[Session]:
    """Return the class for a dialect; it brings the driver."""
    if dialect == "postgresql":
        from muniment_plugins.sinks.sql.postgresql import PostgreSQL

        return PostgreSQL
    if dialect == "mysql":
        from muniment_plugins.sinks.sql.mysql import MySQL

        return MySQL
    from muniment_plugins.sinks.sql.duckdb import DuckDB

    return DuckDB
