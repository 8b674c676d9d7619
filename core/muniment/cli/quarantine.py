"""``muniment quarantine``: what could not be archived, and another try."""

from pathlib import Path
from typing import Any

import click

from muniment.cli import screen
from muniment.cli.group import Subcommands
from muniment.cli.ledgers import is_pipeline_file, ledgers_of
from muniment.cli.options import ComponentName, json_option, run_options
from muniment.errors import InputError

REASON_CELLS = 60

target_argument = click.argument("target", type=click.Path(), metavar="ARCHIVE|PIPELINE.YAML")


@click.group(cls=Subcommands, short_help="See and retry what could not be archived.")
def quarantine() -> None:
    """See and retry what could not be archived.

    An entry says where a record stands (file, byte range, SHA-256 of the bytes), at which stage it
    failed and why.  It never holds the text.
    """


@quarantine.command("list", short_help="List the open entries.")
@target_argument
@json_option
def list_(target: str, as_json: bool) -> int:
    """List the open entries of an archive, or of every sink of a pipeline file.

    \b
    Example:
      muniment quarantine list archive.db
    """
    entries = _entries(target)
    if as_json:
        screen.out_json(entries)
    elif not entries:
        screen.out("nothing is quarantined")
    else:
        rows = [["id", "stage", "where", "reason"]]
        rows += [[e["id"], e["stage"], _where(e), screen.shorten(str(e["reason"]), REASON_CELLS)] for e in entries]
        for text in screen.columns(rows, indent=""):
            screen.out(text)
    return 0


@quarantine.command(short_help="Show one entry whole.")
@target_argument
@click.argument("entry_id", metavar="ID")
@json_option
def show(target: str, entry_id: str, as_json: bool) -> int:
    """Show one entry whole; the beginning of its ID is enough.

    \b
    Example:
      muniment quarantine show archive.db 3f9a
    """
    found = [e for e in _entries(target) if str(e["id"]).startswith(entry_id)]
    if len({e["id"] for e in found}) != 1:
        what = "several entries begin" if found else "no open entry begins"
        raise InputError(f"{what} with `{entry_id}`; `muniment quarantine list {target}` shows all")
    if as_json:
        screen.out_json(found[0])
    else:
        for text in screen.columns([[name, str(value)] for name, value in found[0].items()], indent=""):
            screen.out(text)
    return 0


@quarantine.command(short_help="Read the quarantined records again.")
@target_argument
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[EXPORT...]")
@click.option("--source", type=ComponentName("sources"), metavar="TYPE", help="How to read EXPORT.")
@run_options
def retry(
    target: str,
    paths: tuple[str, ...],
    source: str | None,
    workers: int | None,
    allow_incomplete: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Read the inputs again that have quarantined records.

    For an archive say which exports they came from; a pipeline file knows.  What is stored already
    counts as unchanged, and an entry that does not come again is resolved.

    \b
    Examples:
      muniment quarantine retry archive.db export.zip
      muniment quarantine retry pipeline.yaml
    """
    import attrs

    from muniment import config
    from muniment.cli.assemble import engine_for, import_plan, sink_for
    from muniment.cli.running import finish, run_plan
    from muniment.plugins import load_registry

    registry = load_registry()
    entries = _entries(target)
    if not entries:
        if as_json:
            screen.out_json({"quarantined": 0, "retried": 0})
        elif not quiet:
            screen.out("nothing is quarantined")
        return 0
    if is_pipeline_file(target):
        if paths:
            raise click.UsageError("a pipeline file knows its sources; leave EXPORT out")
        plan = config.load(Path(target), registry)
        if workers is not None:
            plan = attrs.evolve(plan, engine=engine_for(workers, ()))
        plan = attrs.evolve(plan, allow_incomplete=plan.allow_incomplete or allow_incomplete)
    else:
        if not paths:
            labels = ", ".join(f"`{label}`" for label in sorted({str(e["label"]) for e in entries}))
            raise click.UsageError(f"say which export to read again, the one with {labels}")
        sink = sink_for(registry, target)
        plan = import_plan(registry, paths, sink, source=source, workers=workers, allow_incomplete=allow_incomplete)
    report = run_plan(plan, registry, silent=quiet or as_json, retry_quarantined=True)
    if not report.bytes_read:
        raise InputError(
            f"nothing was read again: no entry of `{target}` comes from this content; a file that was repaired"
            " is a new one: import it"
        )
    left = len(_entries(target))
    resolved = len(entries) - left
    code = finish(report, as_json=as_json, quiet=quiet, more={"resolved": resolved, "left": left})
    if not (quiet or as_json):
        screen.out(f"resolved {resolved}, still quarantined {left}")
    return code if left == 0 or report.failed else 3


def _entries(target: str) -> list[dict[str, Any]]:
    from muniment.plugins import load_registry

    return [
        {**entry, "sink": ledger.sink} for ledger in ledgers_of(target, load_registry()) for entry in ledger.quarantined
    ]


def _where(entry: dict[str, Any]) -> str:
    return f"{entry['label']} bytes {entry['start']}-{entry['end']}"
