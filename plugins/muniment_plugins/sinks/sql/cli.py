"""``muniment sql-schema``: what an administrator runs for a sink that may create nothing."""

import click


@click.command("sql-schema", short_help="Print the SQL that makes the tables of a sink `sql`.")
@click.argument("dialect", type=click.Choice(["postgresql", "mysql", "duckdb"]))
@click.option("--schema", help="The schema (on MySQL: the database) that holds the tables.")
@click.option("--partition-by", type=click.Choice(["month"]), help="As the sink's option (PostgreSQL).")
@click.option("--role", help="Also print the rights of this role; on MySQL as `'user'@'host'`.")
def sql_schema(dialect: str, schema: str | None, partition_by: str | None, role: str | None) -> int:
    """Print the statements that make the tables of a sink `sql`, and grant a role what it needs to fill them.

    The sink then runs with `create: false`.  MariaDB takes what is printed for mysql.

    \b
    Examples:
      muniment sql-schema postgresql --schema archive --role archiver | psql -d company
    """
    from muniment import ConfigError
    from muniment_plugins.sinks.sql.layout import check_identifier, dialect_of, layout
    from muniment_plugins.sinks.sql.session import session_class
    from muniment_plugins.sinks.sql.setup import statements

    if partition_by is not None and dialect != "postgresql":
        raise ConfigError("--partition-by is for PostgreSQL; leave it out")
    try:
        tables = layout(
            dialect_of(f"{dialect}:"),
            None if schema is None else check_identifier(schema),
            {},
            partitioned=partition_by is not None,
        )
        session = session_class(tables.dialect)
    except ValueError as error:
        raise ConfigError(f"--schema: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(f'the module `{error.name}` is not installed: pip install "muniment[{dialect}]"') from error
    for statement in statements(session, tables, role=role or ""):
        click.echo(f"{statement};")
    return 0
