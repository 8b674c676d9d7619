"""``muniment import``: an export becomes an archive."""

from pathlib import Path

import click

from muniment.cli import screen
from muniment.cli.assemble import DEFAULT_ARCHIVE, import_plan, is_archive_name, sink_for
from muniment.cli.options import ComponentName, options_as_usage, run_options, target_options


@click.command("import", short_help="Bring an export into an archive.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option(
    "--to", default=DEFAULT_ARCHIVE, show_default=True, type=click.Path(), metavar="TARGET",
    help="An archive (.db), a folder, or a file like chats.jsonl.zst.",
)  # fmt: skip
@click.option(
    "--source", type=ComponentName("sources"), metavar="TYPE",
    help="How to read PATH. Default: archive for what muniment wrote (.db, .jsonl, folders), else chatgpt_export.",
)  # fmt: skip
@target_options
@run_options
def import_(
    paths: tuple[str, ...],
    to: str,
    source: str | None,
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
    """Bring an export into an archive, or top one up.

    PATH is a ChatGPT export: the zip as it was downloaded, the folder it was unpacked to, or a
    conversations.json.  What the archive holds already is left alone, so the same export can be
    imported again, and a newer one adds what is new.

    \b
    Examples:
      muniment import ~/Downloads/export.zip
      muniment import newer-export.zip --to archive.db
      muniment import export.zip --to chats.jsonl.zst
      muniment import chats.jsonl.zst --to copy.db
      muniment import export.zip --to ./encrypted --encrypt-key archive.key
    """
    from muniment.cli.running import finish, run_plan
    from muniment.plugins import load_registry

    registry = load_registry()
    with options_as_usage():
        sink = sink_for(
            registry, to, format_=format_, mode=mode, compression=compression, fts=fts, encrypt_key=encrypt_key
        )
        plan = import_plan(registry, paths, sink, source=source, workers=workers, allow_incomplete=allow_incomplete)
    report = run_plan(plan, registry, silent=quiet or as_json)
    code = finish(report, as_json=as_json, quiet=quiet, more={"target": to})
    if not (quiet or as_json):
        _say_where(to)
        if report.quarantined:
            screen.out(f"see what was quarantined: muniment quarantine list {quoted(to)}")
        if report.incomplete and not allow_incomplete:
            screen.out("exit code 3, because the export is not complete (--allow-incomplete makes it 0)")
        if is_archive_name(to):
            archive = "" if to == DEFAULT_ARCHIVE else f" --archive {quoted(to)}"
            # An encrypted archive has no full-text index.
            scan = f" --scan --key {quoted(str(encrypt_key))}" if encrypt_key else ""
            screen.out(f'next: muniment search "words to find"{archive}{scan}')
    return code


def quoted(path: str) -> str:
    """Return a path as a shell takes it."""
    import shlex

    return screen.line(shlex.quote(path))


def _say_where(to: str) -> None:
    from muniment.cli.report import disk_size

    size = disk_size(Path(to))
    screen.out(f"in {screen.line(to)}{f' ({size})' if size else ''}")
