"""``muniment archive``: is an archive sound, and could it be smaller?"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from muniment.cli import screen
from muniment.cli.group import Subcommands
from muniment.cli.keys import keyring_of, keys_options
from muniment.cli.options import json_option

archive_argument = click.argument("archive", default="archive.db", type=click.Path(), metavar="[ARCHIVE]")


@click.group(cls=Subcommands, short_help="Check an archive, or make it smaller.")
def archive() -> None:
    """Check an archive (archive.db), or make it smaller."""


@archive.command(short_help="Read everything and compare it with what was stored.")
@archive_argument
@keys_options("key", "passphrase", "service", "opens it, if it is encrypted", variable="MUNIMENT_KEY_FILE")
@json_option
def check(
    archive: str, key: tuple[Path, ...], passphrase: tuple[str, ...], service: tuple[str, ...], as_json: bool
) -> int:
    """Read every page, record and file of an archive and compare them with what was stored.

    Nothing is written.  The exit code is 1 where something is wrong: restore the archive from a copy
    then, or import the exports again into a new one.

    An encrypted archive needs its key; `muniment verify` finds changes without one.

    \b
    Examples:
      muniment archive check archive.db
      muniment archive check archive.db --key archive.key
    """
    from muniment_plugins.sinks.sqlite import check as checking

    path = Path(archive)
    keyring = keyring_of(key, passphrase, service) if key or passphrase or service else None
    total = checking.count(path)
    with _progress(f"checking {path.name}", total) as seen:
        problems = list(checking.check(path, seen, keyring))
    if as_json:
        screen.out_json({"checked": total, "problems": [{"where": p.where, "what": p.what} for p in problems]})
    else:
        for problem in problems:
            screen.out(f"{screen.line(problem.where)} {screen.line(problem.what)}")
        sound = f"{len(problems):,} problems" if problems else "sound"
        screen.out(f"{screen.line(archive)}: {total:,} conversations and files checked: {sound}")
    return 1 if problems else 0


@archive.command(short_help="Rewrite an archive without its gaps.")
@archive_argument
@json_option
def vacuum(archive: str, as_json: bool) -> int:
    """Merge the index and rewrite the file without gaps.

    It needs as much free space as the archive has, and no import may run meanwhile.  A kill leaves
    the archive as it was.

    \b
    Example:
      muniment archive vacuum archive.db
    """
    from muniment_plugins.sinks.sqlite.vacuum import vacuum as rewrite

    path = Path(archive)
    with _progress(f"rewriting {path.name}", None):
        before, after = rewrite(path)
    if as_json:
        screen.out_json({"bytes_before": before, "bytes_after": after})
    else:
        screen.out(f"{screen.line(archive)}: {before:,} bytes before, {after:,} after")
    return 0


@contextlib.contextmanager
def _progress(label: str, total: int | None) -> Iterator[Callable[[], object]]:
    """Show a bar on a terminal; give a function to call after each step."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(screen.line(label), total=total)
        yield lambda: bar.advance(task)
