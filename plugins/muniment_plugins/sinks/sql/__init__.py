"""Keep conversations in PostgreSQL, MariaDB, MySQL or DuckDB, in tables that people can query."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

from attrs import frozen

from muniment import (
    Asset,
    Batch,
    Checkpoint,
    Context,
    Counts,
    History,
    InputError,
    Known,
    PluginError,
    Receipt,
    Record,
    Secret,
    Target,
    TargetBusyError,
    Unit,
    UpsertSink,
    option,
)
from muniment.model import JSON
from muniment.proof import Proof, SigningKey, open_signer
from muniment.sinks.upsert import UpsertTarget
from muniment.units import Damage, UnitBounds
from muniment_plugins.sinks.sql.layout import (
    Layout,
    MappedTable,
    check_identifier,
    dialect_of,
    layout,
    layout_problems,
)

if TYPE_CHECKING:
    from muniment.verification import Finding, Inspection
    from muniment_plugins.sinks.sql.archive import Archive
    from muniment_plugins.sinks.sql.rows import Rows
    from muniment_plugins.sinks.sql.session import Place

_PASSWORD = re.compile(r"://[^/?#@]*:[^/?#]*@|[?&]password=", re.IGNORECASE)


def _check_url(_: Any, __: Any, url: str) -> None:
    # The text may hold a secret, so it is not repeated.
    if _PASSWORD.search(url):
        raise ValueError("holds a password; leave it out there and write `password: ${secret:env:NAME}`")
    dialect_of(url)


def _check_schema(_: Any, __: Any, schema: str | None) -> None:
    if schema is not None:
        check_identifier(schema)


def _check_positive(_: Any, __: Any, seconds: float) -> None:
    if seconds <= 0:
        raise ValueError("must be greater than 0")


@frozen(kw_only=True)
class SQL(UpsertSink):
    """A database server or a DuckDB file: conversations, messages and parts in tables, full-text search, the
    exact record with its raw JSON, files inside, earlier versions kept.
    """

    reads_back: ClassVar[bool] = True
    # The rows of the open unit are kept, to be put in again when the connection is lost.
    unit: ClassVar[UnitBounds] = UnitBounds(max_bytes=16 * 2**20)

    url: str = option(
        "The database, without a password: `postgresql://`, `mysql://`, `mariadb://` or `duckdb:///`.",
        identity=False,
        validator=_check_url,
        example="postgresql://archiver@db.example.com/archive",
    )
    password: Secret | None = option("The password, as a reference.", default=None, identity=False)
    schema: str | None = option(
        "The schema (on MariaDB and MySQL: the database) that holds the tables.",
        default=None,
        identity=False,
        validator=_check_schema,
    )
    tables: dict[str, str | MappedTable | None] = option(
        "Other names for tables; a table that exists already, with its columns mapped; null leaves one out.",
        factory=dict,
        identity=False,
        example={"messages": {"name": "chat_messages", "columns": {"id": "message_id", "text": "body"}}},
    )
    create: bool = option(
        "Create what is missing; false creates nothing and checks tables, columns and rights at the start.",
        default=True,
        identity=False,
    )
    index: Literal["words", "trigram", "none"] | None = option(
        "Index for searching messages: words (the default but on DuckDB), trigram (PostgreSQL: any substring"
        " too, by `pg_trgm`) or none.",
        default=None,
        identity=False,
    )
    partition_by: Literal["month"] | None = option(
        "PostgreSQL: partition messages by the month in which their conversation began.", default=None, identity=False
    )
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = option(
        "TLS, in PostgreSQL's words; `verify-full` also checks the server's name.", default=None, identity=False
    )
    sslrootcert: str | None = option(
        "The file of certificates that the server's is checked against.", default=None, is_path=True
    )
    connect_timeout_seconds: float = option(
        "Longest wait for a connection.", default=10.0, identity=False, validator=_check_positive
    )
    proof: Proof | None = option(
        "Who signs the state of the archive: `key`.",
        default=None,
        identity=False,
        example={"key": "${secret:file:sign.key}"},
    )
    timeout_seconds: float = option(
        "Longest wait for an answer while rows are written; then the connection is made anew.",
        default=120.0,
        identity=False,
        validator=_check_positive,
    )

    def check(self) -> Iterable[str]:
        problems = list(layout_problems(self.tables))
        dialect = dialect_of(self.url)
        if dialect != "postgresql":
            if self.index == "trigram":
                problems.append("`index: trigram` is for PostgreSQL; use `words`")
            if self.partition_by is not None:
                problems.append("`partition_by` is for PostgreSQL; leave it out")
        if dialect == "duckdb":
            if self.index == "words":
                problems.append("`index: words` needs a server: DuckDB has no full-text index built in")
            if not self.url.startswith("duckdb:///") or self.url == "duckdb:///":
                problems.append("`url` of DuckDB names a file: `duckdb:///archive.duckdb`, absolute with four slashes")
            problems += [f"`{n}` is for servers" for n in ("password", "sslmode", "sslrootcert") if getattr(self, n)]
        if self.partition_by is not None and not isinstance(self.tables.get("messages", ""), str):
            problems.append("`partition_by` and a mapped or left out table `messages` exclude each other")
        return problems

    def layout(self) -> Layout:
        """Return the tables that these options ask for."""
        return layout(dialect_of(self.url), self.schema, self.tables, partitioned=self.partition_by is not None)

    def encode(self, batch: Batch) -> "list[Rows]":
        from muniment_plugins.sinks.sql.rows import Encoder

        encoder = Encoder(self.layout())
        return [encoder.encode(r) for r in batch.records]

    # --- the connection ---------------------------------------------------------------------

    def connect(self, ctx: Context) -> "Archive":
        return self._connect(ctx, signer=open_signer(self.proof, ctx))

    def disconnect(self, connection: "Archive") -> None:
        connection.close()

    def prepare(self, connection: "Archive") -> None:
        from muniment_plugins.sinks.sql.adopt import adopt
        from muniment_plugins.sinks.sql.setup import prepare

        self.lock(connection)
        prepare(connection.session, connection.layout, create=self.create, index=self._index)
        ctx = connection.context
        with connection.session.transaction():
            connection.manifests.last()
            connection.ledger.begin_run(ctx.run, ctx.pipeline, ctx.path)
            adopt(connection)

    def lock(self, connection: "Archive") -> None:
        """Take the target for this run.

        Raises:
            TargetBusyError: another run holds it.
        """
        tables = connection.layout
        if not connection.session.lock(f"muniment/{tables.schema or ''}/{tables.names['records']}"):
            place = connection.session.place
            raise TargetBusyError(f"{place.path}: another run writes to `{place.name}`; wait until it has finished")

    def begin(self, connection: "Archive") -> None:
        connection.begin()

    # --- rows -------------------------------------------------------------------------------

    def upsert(self, connection: "Archive", rows: "Sequence[Rows]") -> Receipt:
        return connection.write(rows)

    def save_unit(self, connection: "Archive", unit: Unit) -> None:
        connection.save_unit(unit)

    def holds_unit(self, connection: "Archive", unit: Unit) -> bool:
        return connection.ledger.holds_unit(unit)

    def load_checkpoints(self, connection: "Archive") -> Mapping[str, Checkpoint]:
        return connection.manifests.confirmed(connection.ledger.checkpoints())

    def load_quarantine(self, connection: "Archive") -> Iterator[Mapping[str, JSON]]:
        return connection.ledger.quarantined()

    def save_end(self, connection: "Archive", run: str, exit_code: int, counts: Counts) -> None:
        connection.save_end(run, exit_code, counts)

    def load_record(self, connection: "Archive", key: str) -> Record | None:
        from muniment_plugins.sinks.sql.read import find_record

        return find_record(connection, key)

    def load_records(self, connection: "Archive") -> Iterator[Record]:
        from muniment_plugins.sinks.sql.read import read_records, refuse_damage

        return read_records(connection, refuse_damage)

    def open_target(self, ctx: Context) -> Target:
        return _SQLTarget(self, ctx)

    def open_known(self, ctx: Context) -> Known | None:
        from muniment_plugins.sinks.sql.read import SQLKnown

        if dialect_of(self.url) == "duckdb":
            # Only one process can have the file open.
            return None
        known = SQLKnown(lambda: self._connect(ctx, read_only=True))
        if known.is_empty():
            # What this run itself adds is found by the writer.
            known.close()
            return None
        return known

    # --- without a run ----------------------------------------------------------------------

    def verify(self, ctx: Context, inspection: "Inspection") -> "Iterator[Finding]":
        from muniment_plugins.sinks.sql.verify import verify

        with contextlib.closing(self._found(ctx)) as archive, archive.session.snapshot():
            yield from verify(archive, inspection)

    def proof_files(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        from muniment.sinks.database_manifests import proof_files

        with contextlib.closing(self._found(ctx)) as archive, archive.session.snapshot():
            if archive.has_manifests():
                yield from proof_files(archive.stored.entries(), archive.stored.receipts())

    def history(self, ctx: Context) -> History | None:
        try:
            archive = self._found(ctx)
        except InputError:
            return None
        with contextlib.closing(archive):
            ledger = archive.ledger
            return History(
                archive.session.place.name,
                tuple(ledger.runs()),
                tuple(ledger.checkpoints().values()),
                tuple(ledger.quarantined()),
            )

    def _found(self, ctx: Context) -> "Archive":
        """Return an archive that is there already, for reading.

        Raises:
            InputError: there is none.
        """
        from muniment_plugins.sinks.sql.read import open_existing

        return open_existing(self.url, lambda: self._connect(ctx, read_only=True))

    @property
    def _index(self) -> str:
        return self.index or ("none" if dialect_of(self.url) == "duckdb" else "words")

    def _connect(self, ctx: Context, *, read_only: bool = False, signer: SigningKey | None = None) -> "Archive":
        tables = self.layout()
        try:
            from muniment_plugins.sinks.sql.archive import Archive
            from muniment_plugins.sinks.sql.session import open_session

            session = open_session(tables, self._place(ctx), read_only=read_only)
        except ModuleNotFoundError as error:
            raise PluginError(
                f"{ctx.path}: sink `sql` needs the module `{error.name}` for this `url`, which is not installed:"
                f' pip install "muniment[{tables.dialect}]"'
            ) from error
        return Archive(session, tables, ctx, create=self.create, signer=signer)

    def _place(self, ctx: Context) -> "Place":
        from muniment_plugins.sinks.sql.session import Place

        return Place(
            url=self.url,
            path=ctx.path,
            password=None if self.password is None else ctx.reveal(self.password),
            connect_timeout_seconds=self.connect_timeout_seconds,
            timeout_seconds=self.timeout_seconds,
            sslmode=self.sslmode,
            sslrootcert=self.sslrootcert,
        )


class _SQLTarget(UpsertTarget):
    """Holds the lock; makes at the end of a run the indexes that are missing, which is cheaper than on the way."""

    sink: SQL
    _report: Mapping[str, JSON] | None = None

    def note_report(self, report: Mapping[str, JSON]) -> None:
        self._report = report
        if self.connection is not None:
            self.connection.manifests.report = report

    def survey(self, damaged: Callable[[Damage], None]) -> Iterator[Record]:
        from muniment_plugins.sinks.sql.read import read_records

        return read_records(self.connection, damaged)

    def forget(self, missing: Iterable[str], short: Iterable[str], replaced: Sequence[Damage]) -> None:
        from muniment_plugins.sinks.sql.forget import forget

        # What is missing may be there, but damaged.
        forget(self.connection, [*missing, *short, *(key for damage in replaced for key in damage.keys)])

    def open_asset(self, asset: Asset) -> BinaryIO:
        from muniment_plugins.sinks.sql.read import open_asset

        return open_asset(self.connection, asset)

    def reconnect(self) -> "Archive":
        archive: Archive = super().reconnect()
        try:
            self.sink.lock(archive)
        except BaseException:
            archive.close()
            raise
        archive.manifests.report = self._report or {}
        return archive

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        super().end_run(run, exit_code, counts)
        if self.sink.create:
            archive: Archive = self.connection
            archive.session.create_indexes(archive.layout, archive.name, self.sink._index)
