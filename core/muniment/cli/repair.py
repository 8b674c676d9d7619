"""``muniment repair``: one copy of an archive is made whole from another."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muniment.cli import screen
from muniment.cli.options import json_option, pipeline_argument, quiet_option

if TYPE_CHECKING:
    from muniment.comparison import Difference
    from muniment.repair import RepairReport

_MOST_NAMED = 5


@click.command(short_help="Make one copy of an archive whole from another.")
@pipeline_argument
@click.option("--from", "source", required=True, metavar="SINK", help="The sink that is whole, by its name.")
@click.option("--to", "target", required=True, metavar="SINK", help="The sink that was found short.")
@click.option("--dry-run", is_flag=True, help="Compare, and write nothing.")
@quiet_option
@json_option
def repair(pipeline: str, source: str, target: str, dry_run: bool, as_json: bool, quiet: bool) -> int:
    """Write to one sink of a pipeline what another one holds and it lacks.

    Both are read and compared, conversation by conversation, with their images and files.  What is
    missing, damaged or different is written again, in a run of its own, and read again as the proof.
    Nothing is taken away.  The exit code is 0 if the copy is whole, 3 if something needs attention.

    \b
    Examples:
      muniment repair pipeline.yaml --from sqlite --to s3 --dry-run
      muniment repair pipeline.yaml --from sqlite --to s3
    """
    from muniment import config
    from muniment.cli.running import observed
    from muniment.plugins import load_registry
    from muniment.repair import repair as run_repair

    registry = load_registry()
    plan = config.load(Path(pipeline), registry)
    with observed(registry, silent=quiet or as_json) as stop:
        report = run_repair(plan, registry, source=source, target=target, stop=stop, dry_run=dry_run)
    if as_json:
        screen.out_json(report.as_json())
    elif not quiet:
        for text in summary(report):
            screen.out(text)
    return report.exit_code


def summary(report: "RepairReport") -> Iterator[str]:
    """Yield the lines that tell how a repair ended."""
    from muniment.cli.report import equation, seconds

    name = click.style(screen.line(report.target), bold=True)
    yield f"compared with {screen.line(report.source)} in {seconds(report.seconds)}"
    yield f"{name}: {difference(report.found)}"
    yield from _named("cannot be read", report.damaged)
    yield from _named(f"cannot be read in {screen.line(report.source)}", report.damaged_original)
    if not report.assets_compared:
        yield "  images and files were not compared: this sink cannot give them back"
    if report.left is not None:
        yield f"{name}: {equation(report.counts)}"
        yield f"{name} now: {difference(report.left)}"
        yield from _named("still cannot be read, and holds what is nowhere else", report.still_damaged)
    elif not report.found.is_whole or report.damaged:
        yield "nothing was written; without --dry-run it is repaired"


def difference(found: "Difference") -> str:
    """Return a comparison as people read it."""
    if found.is_whole:
        said = f"whole, {found.same:,} conversations are the same"
    else:
        said = f"{found.same:,} conversations are the same, {found.missing:,} missing, {found.short:,} short"
    return said + (f"; {found.extra:,} more are only here" if found.extra else "")


def _named(what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        shown = ", ".join(screen.line(n) for n in names[:_MOST_NAMED])
        more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        yield f"  {what}: {shown}{more}"
