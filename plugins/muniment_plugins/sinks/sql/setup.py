"""Is the database ready?  What is missing is created, or named where nothing may be created."""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema, CreateTable

from muniment import ConfigError
from muniment_plugins.sinks.sql.layout import ADDED, ALL, KEPT, MONTH, VERSION, Layout, Shown, Table
from muniment_plugins.sinks.sql.ledger import full_name, now
from muniment_plugins.sinks.sql.session import Denied, RefusedError, Session

_BEING_MADE = 0


def tables_of(session: Session | type[Session], layout: Layout) -> dict[str, sa.Table]:
    """Return every table of ours as SQLAlchemy knows it, by our name; mapped ones are not among them."""
    metadata = sa.MetaData(schema=layout.schema)
    found: dict[str, sa.Table] = {}
    for name, table in ALL.items():
        shown = layout.shown.get(name)
        if name not in KEPT and (shown is None or shown.mapped):
            continue
        columns = [c for c in table.columns if c.own]
        key: tuple[str, ...] = table.key
        more: dict[str, Any] = {}
        if layout.partitioned and name == "messages":
            columns.append(MONTH)
            key, more = (*key, MONTH.name), {"postgresql_partition_by": f"RANGE ({MONTH.name})"}
        found[name] = sa.Table(
            layout.names[name],
            metadata,
            # Always quoted: the names are reserved words here and there.
            *(
                sa.Column(c.name, session.type_of(c.kind), nullable=c.null, autoincrement=False, quote=True)
                for c in columns
            ),
            sa.PrimaryKeyConstraint(*key),
            *([sa.UniqueConstraint(*table.unique)] if table.unique else []),
            quote=True,
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
            mysql_collate="utf8mb4_bin",
            mysql_row_format="DYNAMIC",
            **more,
        )
    return found


def statements(session: type[Session], layout: Layout, *, role: str = "") -> Iterator[str]:
    """Yield what an administrator runs for a sink that may create nothing; with the rights of ``role``."""
    if layout.schema and layout.dialect != "mysql":
        yield str(CreateSchema(layout.schema, if_not_exists=True).compile(dialect=session.dialect))
    for table in tables_of(session, layout).values():
        yield str(CreateTable(table).compile(dialect=session.dialect)).strip()
        yield from _after(session, layout, table)
    if _has_transcript(layout):
        yield _transcript(session, layout)
    meta = full_name(session, tables_of(session, layout)["muniment_meta"])
    month = "month" if layout.partitioned else ""
    yield f"INSERT INTO {meta} VALUES (1, {VERSION}, '', '{month}', CURRENT_TIMESTAMP)"  # noqa: S608 - our own
    if not role or layout.dialect == "duckdb":
        return
    grantee = session.quote(role) if layout.dialect == "postgresql" else role
    if layout.schema and layout.dialect == "postgresql":
        yield f"GRANT USAGE ON SCHEMA {session.quote(layout.schema)} TO {grantee}"
    for name, columns in ALL.items():
        if name in KEPT or name in layout.shown:
            full = _full_name(session, layout, layout.names[name])
            yield f"GRANT SELECT, {', '.join(columns.rights)} ON {full} TO {grantee}"


def prepare(session: Session, layout: Layout, *, create: bool, index: str) -> None:
    """Make the database ready for a run.

    Raises:
        ConfigError: something is missing that may not be created, or the tables are somebody else's.
        FatalError: the archive is of a newer muniment.
    """
    place = session.place
    existing = session.tables(layout.schema)
    version = _version(session, layout, existing)
    if version is not None and version > VERSION:
        raise place.fatal(
            f"the archive in `{place.name}` was written by a newer muniment (schema version {version}); update muniment"
        )
    if create and version in (None, _BEING_MADE):
        _refuse_strangers(session, layout, existing, version)
        try:
            _create(session, layout, existing)
        except Denied as error:
            raise ConfigError(
                f"{place.path}: the tables cannot be created in `{place.name}` ({error}); grant the right, choose"
                " `schema`, or let its administrator create them and set `create: false`"
            ) from error
    elif version is not None and version < VERSION:
        _migrate(session, layout, existing, version, create=create)
    problems = list(_problems(session, layout, thorough=not create))
    if problems:
        raise ConfigError(*(f"{place.path}: {p}" for p in problems))
    if create:
        session.prepare_indexes(index)
    _check_partitioned(session, layout)


def _version(session: Session, layout: Layout, existing: Mapping[str, set[str]]) -> int | None:
    """Return the version of the tables; None before they were made."""
    if layout.names["muniment_meta"] not in existing:
        return None
    meta = tables_of(session, layout)["muniment_meta"]
    try:
        rows = session.execute(sa.select(meta.c.version).where(meta.c.id == 1))
    except Denied:
        return VERSION
    return int(rows[0][0]) if rows else None


def _create(session: Session, layout: Layout, existing: Mapping[str, set[str]]) -> None:
    tables = tables_of(session, layout)
    meta = tables["muniment_meta"]
    name = layout.names["muniment_meta"]
    session.begin()
    try:
        if layout.schema and not session.schema_exists(layout.schema):
            session.run(str(CreateSchema(layout.schema).compile(dialect=session.dialect)))
        if name not in existing:
            session.run(str(CreateTable(meta).compile(dialect=session.dialect)))
        if not session.execute(sa.select(meta.c.id)):
            # Where DDL cannot be undone, this says after a kill whose half-made tables these are.
            session.load_values(
                full_name(session, meta),
                [c.name for c in KEPT["muniment_meta"].columns],
                [c.kind for c in KEPT["muniment_meta"].columns],
                [(1, _BEING_MADE, "", "month" if layout.partitioned else "", now())],
            )
        for key, table in tables.items():
            if key != "muniment_meta" and layout.names[key] not in existing:
                session.run(str(CreateTable(table).compile(dialect=session.dialect)))
                for statement in _after(session, layout, table):
                    session.run(statement)
        if _has_transcript(layout) and f"{_prefix(layout)}transcript" not in existing:
            session.run(_transcript(session, layout))
        session.execute(sa.update(meta).where(meta.c.id == 1).values(version=VERSION))
        session.commit()
    except BaseException:
        session.rollback()
        raise


def _after(session: Session | type[Session], layout: Layout, table: sa.Table) -> Iterator[str]:
    """Yield what a table needs beside its own statement."""
    if layout.dialect != "postgresql":
        return
    name = full_name(session, table)
    if table.name in {layout.names[n] for n in ("records", "record_chunks", "versions", "asset_chunks")}:
        # It is compressed already.
        yield f"ALTER TABLE {name} ALTER COLUMN data SET STORAGE EXTERNAL"
    if layout.partitioned and table.name == layout.names["messages"]:
        schema = f"{session.quote(layout.schema)}." if layout.schema else ""
        yield f"CREATE TABLE {schema}{session.quote(f'{table.name}_rest')} PARTITION OF {name} DEFAULT"


def _transcript(session: Session | type[Session], layout: Layout) -> str:
    tables = tables_of(session, layout)
    view = session.quote(f"{_prefix(layout)}transcript")
    schema = f"{session.quote(layout.schema)}." if layout.schema else ""
    return (
        f"CREATE VIEW {schema}{view} AS SELECT c.no AS conversation, c.title, m.position, m.role, m.author,"  # noqa: S608
        f" m.created_at, m.model, m.visible, m.text FROM {full_name(session, tables['conversations'])} c"
        f" JOIN {full_name(session, tables['messages'])} m ON m.conversation = c.no"
    )


def _has_transcript(layout: Layout) -> bool:
    return all(n in layout.shown and not layout.shown[n].mapped for n in ("conversations", "messages"))


def _full_name(session: Session | type[Session], layout: Layout, name: str) -> str:
    return full_name(session, sa.Table(name, sa.MetaData(), schema=layout.schema, quote=True))


def _prefix(layout: Layout) -> str:
    """Return what stands before the view's name: what was put before that of the messages."""
    return layout.names["messages"].removesuffix("messages") if layout.names["messages"].endswith("messages") else ""


def _refuse_strangers(session: Session, layout: Layout, existing: Mapping[str, set[str]], version: int | None) -> None:
    if version is not None:
        return
    taken = sorted(name for name in tables_of(session, layout) if layout.names[name] in existing)
    if taken and taken != ["muniment_meta"]:
        listed = ", ".join(f"`{layout.names[n]}`" for n in taken)
        raise ConfigError(
            f"{session.place.path}: `{session.place.name}` has {listed} already, and no"
            f" `{layout.names['muniment_meta']}` says that they are an archive's; choose another"
            " `schema`, or other names in `tables`"
        )


def _migrate(session: Session, layout: Layout, existing: Mapping[str, set[str]], version: int, *, create: bool) -> None:
    if not create:
        raise ConfigError(
            f"{session.place.path}: the archive has schema version {version}, this muniment needs {VERSION}; run once"
            " with `create: true` and a role that may alter its tables"
        )
    tables = tables_of(session, layout)
    meta = tables["muniment_meta"]
    for step in range(version + 1, VERSION + 1):
        try:
            with session.transaction():
                for name in ADDED[step]:
                    # Where DDL cannot be undone, a killed migration has left some of them.
                    if layout.names[name] not in existing:
                        session.run(str(CreateTable(tables[name]).compile(dialect=session.dialect)))
                session.execute(sa.update(meta).where(meta.c.id == 1).values(version=step))
        except Denied as error:
            raise ConfigError(
                f"{session.place.path}: the archive in `{session.place.name}` has schema version {version}, this"
                f" muniment needs {VERSION}, and its tables cannot be created ({error}); grant the right for one run"
            ) from error


def _check_partitioned(session: Session, layout: Layout) -> None:
    meta = tables_of(session, layout)["muniment_meta"]
    rows = session.execute(sa.select(meta.c.partition_by).where(meta.c.id == 1))
    is_partitioned = bool(rows and rows[0][0])
    if is_partitioned != layout.partitioned:
        has = "is partitioned by month: set" if is_partitioned else "is not partitioned: leave out"
        raise ConfigError(
            f"{session.place.path}: the archive in `{session.place.name}` {has} `partition_by: month`, which is"
            " decided when its tables are made"
        )


# --- the start-up check ---------------------------------------------------------------------


def _problems(session: Session, layout: Layout, *, thorough: bool) -> Iterator[str]:
    """Yield each table, column and right that is missing; changes nothing."""
    existing = session.tables(layout.schema)
    for name, table in ALL.items():
        shown = layout.shown.get(name)
        is_mapped = shown is not None and shown.mapped
        if name in SHOWN_ONLY and shown is None:
            continue
        if not (is_mapped or thorough):
            continue
        target = layout.names[name]
        columns = [*(shown.targets if shown is not None else (c.name for c in table.columns if c.own))]
        if target not in existing:
            yield f"there is no table `{target}` in `{session.place.name}`, or this role has no right on it"
            continue
        missing = [c for c in columns if c not in existing[target]]
        for column in missing:
            yield f"table `{target}` has no column `{column}`"
        if not missing:
            full = _full_name(session, layout, target)
            yield from _missing_rights(session, full, table, columns, shown)
    if thorough and layout.names["muniment_meta"] in existing and _version(session, layout, existing) is None:
        yield (
            f"table `{layout.names['muniment_meta']}` is empty; insert its row:"
            f" (1, {VERSION}, '', '{'month' if layout.partitioned else ''}', now())"
        )


SHOWN_ONLY = frozenset(ALL) - frozenset(KEPT)


def _missing_rights(
    session: Session, full: str, table: Table, columns: list[str], shown: Shown | None
) -> Iterator[str]:
    listed = ", ".join(map(session.quote, columns))
    first = session.quote(columns[-1])
    probes = {
        "SELECT": f"SELECT {listed} FROM {full} WHERE 1=0",  # noqa: S608 - quoted names
        "INSERT": f"INSERT INTO {full} ({listed}) SELECT {listed} FROM {full} WHERE 1=0",  # noqa: S608
        "UPDATE": f"UPDATE {full} SET {first}={first} WHERE 1=0",  # noqa: S608
        "DELETE": f"DELETE FROM {full} WHERE 1=0",  # noqa: S608
    }
    is_mapped = shown is not None and shown.mapped
    for right in ("SELECT", *table.rights, *(["UPDATE"] if is_mapped else [])):
        if not _is_allowed(session, probes[right]):
            yield f"this role may not {right} on `{full}`; GRANT {right} ON {full} TO <role>"
            if right == "SELECT":
                return
    if shown is not None and is_mapped:
        session.begin()
        try:
            session.probe_merge(full, shown)
        except (Denied, RefusedError):
            key = ", ".join(f"`{shown.target(c)}`" for c in shown.key)
            yield f"table `{full}` needs a unique key over {key}, by which its rows are told apart"
        finally:
            session.rollback()


def _is_allowed(session: Session, sql: str) -> bool:
    """Try a statement that concerns no row, in a transaction that is undone."""
    session.begin()
    try:
        session.run(sql)
    except Denied:
        return False
    finally:
        session.rollback()
    return True
