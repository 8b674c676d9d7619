"""``muniment gc``: what killed runs left behind is removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click
from attrs import define, field

from muniment.cli import screen
from muniment.cli.options import json_option, quiet_option
from muniment.components import Context
from muniment.errors import InputError
from muniment.units import Orphan

if TYPE_CHECKING:
    from muniment.plan import SinkPath
    from muniment.plugins import Registry


@define
class Collected:
    """What was found at one target: removed (or to be), and kept with the reason."""

    sink: str
    removed: list[Orphan] = field(factory=list)
    kept: list[Orphan] = field(factory=list)

    @property
    def size(self) -> int:
        return sum(o.size for o in self.removed)


@click.command(short_help="Remove what killed runs left behind.")
@click.argument("target", type=click.Path(), metavar="ARCHIVE|PIPELINE.YAML")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option(
    "--alone", is_flag=True,
    help="Say that no other run writes to this target now, where no lock can tell: buckets.",
)  # fmt: skip
@quiet_option
@json_option
def gc(target: str, dry_run: bool, alone: bool, as_json: bool, quiet: bool) -> int:
    """Remove what killed runs left behind: objects that were never finished, parts that no manifest names.

    The next run on a folder or an archive does this by itself.  Of a bucket nobody on one machine knows
    which runs on others are alive, so it is done when you say so.  A part that may belong to the archive
    all the same is kept and named; the exit code is then 3.

    \b
    Examples:
      muniment gc chats/ --dry-run
      muniment gc pipeline.yaml --alone
    """
    from muniment.plugins import load_registry

    registry = load_registry()
    found = [_collect(path, context, dry_run=dry_run, alone=alone) for path, context in _sinks(target, registry)]
    found += _content(target, registry, dry_run=dry_run)
    if as_json:
        screen.out_json(
            [
                {
                    "sink": f.sink,
                    "dry_run": dry_run,
                    "removed": [{"where": o.where, "size": o.size} for o in f.removed],
                    "kept": [attrs.asdict(o) for o in f.kept],
                }
                for f in found
            ]
        )
    elif not quiet:
        for one in found:
            for text in _said(one, dry_run=dry_run):
                screen.out(text)
    return 3 if any(f.kept for f in found) else 0


def _sinks(target: str, registry: "Registry") -> "Iterator[tuple[SinkPath, Context]]":
    from muniment.cli.assemble import sink_for
    from muniment.cli.ledgers import is_pipeline_file

    if is_pipeline_file(target):
        from muniment import config

        plan = config.load(Path(target), registry)
        for path in plan.sinks:
            yield path, Context(run="", path=path.step.path, state_dir=plan.state_dir)
    else:
        path = sink_for(registry, target)
        yield path, Context(run="", path=path.step.path)


def _collect(path: "SinkPath", context: Context, *, dry_run: bool, alone: bool) -> Collected:
    sink, collected = path.step.component, Collected(path.name)
    if not (dry_run or alone or sink.is_locked(context)):
        raise InputError(
            f"sink `{path.name}`: no lock tells whether another run writes there now, and its work would be removed;"
            " make sure that none does, and add --alone (or look with --dry-run)"
        )
    target = sink.open_leftovers(context)
    if target is None:
        return collected
    with target:
        for orphan in list(target.orphans()):
            if orphan.doubt:
                collected.kept.append(orphan)
                continue
            if not dry_run:
                target.collect(orphan)
            collected.removed.append(orphan)
    return collected


def _content(target: str, registry: "Registry", *, dry_run: bool) -> "Iterator[Collected]":
    """Yield what is kept of records that no sink of a pipeline owes any more, where that keeps any."""
    from muniment.cli.ledgers import is_pipeline_file

    if not is_pipeline_file(target):
        return
    from muniment import config
    from muniment.quarantine_retry import remove_orphans

    plan = config.load(Path(target), registry)
    if plan.keeping is not None:
        names = remove_orphans(plan, registry, dry_run=dry_run)
        yield Collected("quarantine", [Orphan(name) for name in names])


def _said(found: Collected, *, dry_run: bool) -> Iterator[str]:
    from muniment.cli.report import size

    name = click.style(screen.line(found.sink), bold=True)
    if not (found.removed or found.kept):
        yield f"{name}: nothing was left behind"
        return
    verb = "would be removed" if dry_run else "removed"
    things = "1 leftover" if len(found.removed) == 1 else f"{len(found.removed):,} leftovers"
    yield f"{name}: {things} {verb} ({size(found.size)})"
    for orphan in found.removed if dry_run else ():
        yield f"  {screen.line(orphan.where)}"
    for orphan in found.kept:
        yield f"  kept: {screen.line(orphan.where)}: {orphan.doubt}"
