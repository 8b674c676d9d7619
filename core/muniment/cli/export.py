"""``muniment export``: an archive in another format."""

import re
from datetime import datetime
from typing import Any

import click

from muniment.cli import screen
from muniment.cli.assemble import export_plan, sink_for
from muniment.cli.options import Moment, options_as_usage, run_options, target_options


@click.command("export", short_help="Write an archive in another format.")
@click.argument("archive", type=click.Path())
@click.option(
    "--to", required=True, type=click.Path(), metavar="TARGET",
    help="A folder, a file like chats.jsonl.zst, or another archive (.db).",
)  # fmt: skip
@click.option("--after", type=Moment(), help="Only conversations that were last active on this date or later.")
@click.option("--before", type=Moment(), help="Only conversations that were last active before this date.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME",
    help="Only conversations with this model; gpt-4* matches several. May be repeated.",
)  # fmt: skip
@click.option("--title", metavar="TEXT", help="Only conversations whose title holds this text.")
@click.option(
    "--branch", type=click.Choice(["all", "visible"]), default="all", show_default=True,
    help="All branches, or only the one that the vendor's page shows.",
)  # fmt: skip
@target_options
@run_options
def export(
    archive: str,
    to: str,
    after: datetime | None,
    before: datetime | None,
    models: tuple[str, ...],
    title: str | None,
    branch: str,
    format_: str | None,
    mode: str | None,
    compression: str | None,
    fts: str | None,
    workers: int | None,
    allow_incomplete: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Write what ARCHIVE holds in another format.

    ARCHIVE is an archive.db, or JSONL or JSON that muniment wrote.  A folder as the target gets a
    file per conversation (parts, for JSONL); a name with an ending gets one file.

    \b
    Examples:
      muniment export archive.db --format markdown --to ./chats
      muniment export archive.db --to all.jsonl.zst
      muniment export archive.db --to 2025.csv --after 2025-01-01 --before 2026-01-01
    """
    from muniment.cli.running import finish, run_plan
    from muniment.plugins import load_registry

    criteria: dict[str, Any] = {
        "after": after and after.isoformat(),
        "before": before and before.isoformat(),
        "models": list(models),
        "title": title and re.escape(title),
    }
    criteria = {name: value for name, value in criteria.items() if value}
    transforms: list[tuple[str, dict[str, Any]]] = [("filter", criteria)] if criteria else []
    if branch == "visible":
        transforms.append(("select_branch", {}))
    registry = load_registry()
    with options_as_usage():
        sink = sink_for(registry, to, format_=format_, mode=mode, compression=compression, fts=fts)
        plan = export_plan(registry, archive, sink, transforms, workers=workers, allow_incomplete=allow_incomplete)
    report = run_plan(plan, registry, silent=quiet or as_json)
    code = finish(report, as_json=as_json, quiet=quiet, more={"target": to})
    if not (quiet or as_json):
        screen.out(f"in {screen.line(to)}")
    return code
