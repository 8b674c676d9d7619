"""``muniment export``: an archive in another format."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muniment.cli import screen
from muniment.cli.assemble import export_plan, is_archive_name, sink_for
from muniment.cli.options import Moment, options_as_usage, run_options, target_options

if TYPE_CHECKING:
    from muniment.plugins import Registry


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
@click.option(
    "--bagit", is_flag=True,
    help="Make TARGET a bag (BagIt 1.0) for a hand-over: JSON Lines, images, files, and the archive's manifests.",
)  # fmt: skip
@click.option(
    "--key", multiple=True, type=click.Path(path_type=Path), metavar="PATH", envvar="MUNIMENT_KEY_FILE",
    help="A key file that opens ARCHIVE, if it is encrypted. Default: what MUNIMENT_KEY_FILE names.",
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
    bagit: bool,
    key: tuple[Path, ...],
    encrypt_key: Path | None,
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
      muniment export archive.db --bagit --to ./for-the-examiner
      muniment export ./encrypted --key archive.key --to all.jsonl.zst
    """
    from muniment.bagit import PAYLOAD, check_free
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
    place = to
    if bagit:
        if format_ or mode or fts or is_archive_name(to):
            raise click.UsageError("a bag is a folder that holds JSON Lines; leave out --format, --mode and --fts")
        check_free(Path(to))
        place, format_, mode = str(Path(to, PAYLOAD)), "jsonl", "append"
    with options_as_usage():
        sink = sink_for(
            registry, place, format_=format_, mode=mode, compression=compression, fts=fts, encrypt_key=encrypt_key
        )
        plan = export_plan(
            registry, archive, sink, transforms, workers=workers, allow_incomplete=allow_incomplete, keys=key
        )
    report = run_plan(plan, registry, silent=quiet or as_json)
    if bagit:
        _finish_bag(registry, Path(to), archive)
    code = finish(report, as_json=as_json, quiet=quiet, more={"target": to})
    if not (quiet or as_json):
        screen.out(f"in {screen.line(to)}")
    return code


def _finish_bag(registry: "Registry", bag: Path, archive: str) -> None:
    """Add the proof of the archive that was exported, and what makes the folder a bag."""
    from muniment.bagit import finish
    from muniment.components import Context

    path = sink_for(registry, archive)
    proof = path.step.component.proof_files(Context(run="", path=path.step.path))
    finish(bag, proof, {"External-Description": "Conversations with language models, exported by muniment"})
