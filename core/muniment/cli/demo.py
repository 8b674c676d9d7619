"""``muniment demo``: the main job on a sample, in one command."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muniment.cli import screen
from muniment.cli.options import json_option, quiet_option

if TYPE_CHECKING:
    from muniment.pipeline import RunReport

QUESTION = "archive"
"""What the demo searches for; the sample holds it."""


@click.command(short_help="Import, search and export a sample.")
@click.option(
    "--dir", "folder", default="muniment-demo", show_default=True, type=click.Path(file_okay=False),
    help="Where to put everything.",
)  # fmt: skip
@quiet_option
@json_option
@click.pass_context
def demo(ctx: click.Context, folder: str, quiet: bool, as_json: bool) -> int:
    """Import a small sample export, search it, and write Markdown; nothing outside one folder is touched.

    \b
    Example:
      muniment demo --dir try
    """
    from importlib.resources import as_file, files

    from muniment.cli.assemble import export_plan, import_plan, sink_for
    from muniment.cli.import_ import quoted
    from muniment.cli.running import run_plan
    from muniment.local_storage import make_folder
    from muniment.plugins import load_registry

    root = Path(folder)
    archive, chats = str(root / "archive.db"), str(root / "chats")
    registry = load_registry()
    silent = quiet or as_json

    def say(text: str = "") -> None:
        if not silent:
            screen.out(text)

    make_folder(root)
    with as_file(files("muniment.sample") / "chatgpt-export.zip") as sample:
        _say_command(say, "1. import a ChatGPT export into an archive", "import", sample.name, "--to", archive)
        imported = run_plan(
            # What the sample names and does not hold is part of the show.
            import_plan(registry, [str(sample)], sink_for(registry, archive), allow_incomplete=True),
            registry,
            silent=silent,
        )
    _say_report(say, imported)
    say()
    _say_command(say, "2. search it", "search", QUESTION, "--archive", archive, "--limit", "3")
    if not silent:
        command = ctx.find_root().command
        assert isinstance(command, click.Group)
        search = command.get_command(ctx, "search")
        if search is not None:
            # As a child of the root, whose settings a command takes on the first time it is run.
            words = [QUESTION, "--archive", archive, "--limit", "3"]
            search.main(words, prog_name="search", standalone_mode=False, parent=ctx.find_root())
    say()
    _say_command(say, "3. write Markdown", "export", archive, "--format", "markdown", "--to", chats)
    exported = run_plan(
        export_plan(registry, archive, sink_for(registry, chats, format_="markdown"), [], allow_incomplete=True),
        registry,
        silent=silent,
    )
    _say_report(say, exported)
    say()
    say(f"Everything is in {screen.line(folder)}: archive.db is an SQLite file, chats/ holds the Markdown.")
    say(f"Look around: muniment search WORDS --archive {quoted(archive)}")
    say("Then your own: muniment import ~/Downloads/export.zip")
    if as_json:
        screen.out_json(
            {"folder": folder, "import": imported.as_json(), "export": exported.as_json()},
        )
    return max(imported.exit_code, exported.exit_code)


def _say_command(say: Callable[[str], None], what: str, *words: str) -> None:
    import shlex

    say(click.style(what, bold=True))
    say(f"$ muniment {screen.line(shlex.join(words))}")


def _say_report(say: Callable[[str], None], report: "RunReport") -> None:
    from muniment.cli.report import summary

    for text in summary(report):
        say(text)
