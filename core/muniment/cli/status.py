"""``muniment status``: what was archived, by which runs."""

from collections.abc import Sequence
from pathlib import Path

import click

from muniment.cli import screen
from muniment.cli.assemble import DEFAULT_ARCHIVE
from muniment.cli.import_ import quoted
from muniment.cli.ledgers import TargetLedger, ledgers_of
from muniment.cli.options import json_option
from muniment.units import Checkpoint

SHOWN_RUNS = 10


@click.command(short_help="Show what was archived, and the last runs.")
@click.argument("target", default=DEFAULT_ARCHIVE, type=click.Path(), metavar="[ARCHIVE|PIPELINE.YAML]")
@json_option
def status(target: str, as_json: bool) -> int:
    """Show what was archived, up to where, and how the last runs ended.

    Without an argument it looks at archive.db in the current folder; of a pipeline file it shows
    every sink.

    \b
    Examples:
      muniment status
      muniment status pipeline.yaml --json
    """
    from muniment.plugins import load_registry

    ledgers = ledgers_of(target, load_registry())
    if as_json:
        screen.out_json([ledger.as_json() for ledger in ledgers])
        return 0
    for index, ledger in enumerate(ledgers):
        if index:
            screen.out()
        _print_ledger(ledger, quoted(target))
    return 0


def _inputs(checkpoints: Sequence[Checkpoint]) -> str:
    finished = sum(c.finished for c in checkpoints)
    stopped = sum(not c.finished and c.position is not None for c in checkpoints)
    incomplete = len(checkpoints) - finished - stopped
    said = [f"{finished} complete"]
    if incomplete:
        said.append(f"{incomplete} with something missing (read again next time)")
    if stopped:
        said.append(f"{stopped} stopped in the middle (the next run goes on there)")
    return ", ".join(said)


def _print_ledger(ledger: TargetLedger, target: str) -> None:
    from muniment.cli.report import disk_size

    name = click.style(screen.line(ledger.sink), bold=True)
    if ledger.where is None:
        screen.out(f"{name}: nothing was stored yet, or this target keeps no history on this machine")
        return
    size = f" ({disk_size(ledger.where)})" if isinstance(ledger.where, Path) else ""
    screen.out(f"{name}: {screen.line(str(ledger.where))}{size}")
    screen.out(f"  inputs: {_inputs(ledger.checkpoints)}")
    if ledger.quarantined:
        screen.out(f"  quarantined: {len(ledger.quarantined)} (see `muniment quarantine list {target}`)")
    if not ledger.runs:
        return
    shown = ledger.runs[-SHOWN_RUNS:]
    earlier = len(ledger.runs) - len(shown)
    screen.out(f"  runs: {len(ledger.runs)}{f', the last {len(shown)}' if earlier else ''}")
    rows = [["started", "run", "exit", "read", "stored", "unchanged", "dropped", "quarantined"]]
    for run in reversed(shown):
        rows.append(
            [
                str(run["started_at"])[:19].replace("T", " "),
                str(run["run"]),
                "did not end" if run["exit_code"] is None else str(run["exit_code"]),
                *(f"{run[c]:,}" for c in rows[0][3:]),
            ]
        )
    for text in screen.columns(rows, indent="    ", right=(3, 4, 5, 6, 7)):
        screen.out(text)
