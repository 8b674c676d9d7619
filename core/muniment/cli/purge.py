"""``muniment purge``: take records away for good, in two steps, with a proof of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
import click

from muniment.cli import screen
from muniment.cli.custody import (
    actor_option,
    actor_or_me,
    opened,
    reason_option,
    sink_option,
    sinks_of,
    target_argument,
)
from muniment.cli.group import Subcommands
from muniment.cli.options import json_option
from muniment.errors import FatalError, InputError
from muniment.private_files import create_private_file

if TYPE_CHECKING:
    from muniment.purge import PurgePlan, PurgeReport

_MOST_BYTES = 2**30

clock_option = click.option(
    "--clock-is-right", "clock_reason", default="", metavar="REASON",
    help="Purge though the clock seems to have jumped; the reason stays in the archive.",
)  # fmt: skip


@click.group(cls=Subcommands, short_help="Take records away for good, and leave a proof of it.")
def purge() -> None:
    """Take records away for good: first a plan that people can read, then the run of that plan.

    Every version, copy and file of a record goes that nothing else needs.  What stays is a tombstone in
    the archive's chain: which record, its digests, why, who and when.  Nothing that is held is purged.

    \b
    Examples:
      muniment purge plan archive.db --keep-days 365 --reason "policy 7" --out purge.json
      muniment purge run purge.json
    """


@purge.command(short_help="Write down what would be purged.")
@target_argument
@sink_option
@click.option("--keep-days", type=click.IntRange(min=0), metavar="N", help="Purge what is older than so many days.")
@click.option(
    "--by", type=click.Choice(["archived", "updated"]), default="archived", show_default=True,
    help="What makes a record old: when it was last stored here, or its own newest time.",
)  # fmt: skip
@click.option(
    "--conversation", "keys", multiple=True, metavar="KEY",
    help="Purge this record, as `<source>:<id>`; can be repeated.",
)  # fmt: skip
@reason_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="PATH", help="Where the plan goes.")
@clock_option
@json_option
def plan(
    target: str,
    sink_name: str | None,
    keep_days: int | None,
    by: Literal["archived", "updated"],
    keys: tuple[str, ...],
    reason: str,
    out: Path,
    clock_reason: str,
    as_json: bool,
) -> int:
    """Write down what would be purged, and what is held and why.  Nothing is changed.

    \b
    Examples:
      muniment purge plan archive.db --keep-days 365 --reason "policy 7" --out purge.json
      muniment purge plan ./chats --conversation chatgpt:68a1 --reason "request 12" --out purge.json
    """
    from muniment.purge import make_plan
    from muniment.retention import Policy

    if (keep_days is None) == (not keys):
        raise click.UsageError("say what is purged: --keep-days N, or --conversation KEY")
    sinks = sinks_of(target, sink_name)
    if len(sinks) > 1:
        raise click.UsageError("a plan is of one archive; name the sink with --sink")
    path, ctx = sinks[0]
    with opened(path, ctx) as custody:
        made = make_plan(
            custody,
            target=str(Path(target).absolute()),
            sink=sink_name or "",
            policy=Policy(keep_days, by) if keep_days is not None else None,
            keys=keys,
            reason=reason,
            now=datetime.now(UTC),
            clock_reason=clock_reason,
        )
    _write(out, made.to_json())
    if as_json:
        screen.out_json({"purge": len(made.records), "held": [attrs.asdict(h) for h in made.held], "kept": made.kept})
        return 0
    _say(made)
    screen.out(f"look at it, then run it: muniment purge run {screen.line(str(out))}")
    return 0


@purge.command(short_help="Purge what a plan says.")
@click.argument("plan_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PLAN.JSON")
@click.option("--yes", is_flag=True, help="Do not ask.")
@actor_option
@clock_option
@json_option
def run(plan_file: Path, yes: bool, actor: str | None, clock_reason: str, as_json: bool) -> int:
    """Purge what a plan says, unless the archive is another one by now, or something of it is held or changed.

    A run that was killed is run again, with the same plan.

    \b
    Example:
      muniment purge run purge.json
    """
    from muniment.purge import PurgePlan, run_plan

    with plan_file.open("rb") as file:
        made = PurgePlan.from_json(file.read(_MOST_BYTES))
    if not yes:
        _say(made)
        screen.out(f"archive: {screen.line(made.target)}; reason: {screen.line(made.reason)}")
        click.confirm("purge these records for good?", abort=True)
    [(path, ctx)] = sinks_of(made.target, made.sink or None)
    with opened(path, ctx) as custody:
        report = run_plan(made, custody, actor=actor_or_me(actor), now=datetime.now(UTC), clock_reason=clock_reason)
    if as_json:
        screen.out_json(attrs.asdict(report))
    else:
        _tell(report)
    return 0


def _say(made: "PurgePlan") -> None:
    screen.out(f"{_several(len(made.records), 'record')} to purge, {len(made.held):,} held, {made.kept:,} kept")
    for held in made.held[:5]:
        screen.out(f"  held: {screen.line(held.key)}: {screen.line(held.reason)} ({screen.line(held.actor)})")


def _tell(report: "PurgeReport") -> None:
    files = f", {_several(report.assets, 'file')}" if report.assets else ""
    stones = _several(len(report.tombstones), "tombstone")
    screen.out(f"purged {_several(report.purged, 'record')}{files}; {stones} in the chain")
    if report.shredded:
        screen.out(
            f"  {_several(report.shredded, 'key')} destroyed; encrypted text that stays cannot be read by anybody"
        )
    if report.locked_assets:
        screen.out(
            f"  {_several(report.locked_assets, 'file')} that only these records needed cannot be removed, since the"
            " storage is locked; the key of the archive opens them"
        )
    if report.before:
        screen.out(f"  {_several(report.before, 'record')} had been purged before")
    if report.kept_assets:
        screen.out("  images and files may remain that only these records needed: this format does not name them")
    screen.out("  not purged: other copies of this archive, backups, versions that a bucket keeps")


def _several(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


def _write(path: Path, data: bytes) -> None:
    try:
        create_private_file(path, data)
    except FileExistsError:
        raise InputError(f"there is a file `{path}` already; choose another name for the plan") from None
    except OSError as error:
        raise FatalError(f"`{path}` cannot be written: {(error.strerror or 'it fails').lower()}") from error
