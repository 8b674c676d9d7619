"""Which options do several commands share?"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muniment.errors import ConfigError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def quiet_option(function: F) -> F:
    return click.option("-q", "--quiet", is_flag=True, help="Print errors only.")(function)


def run_options(function: F) -> F:
    """Add what every command takes that runs a plan."""
    for option in (
        json_option,
        quiet_option,
        click.option(
            "--allow-incomplete", is_flag=True,
            help="Exit 0 though files that the source names are missing.",
        ),
        click.option(
            "--workers", type=click.IntRange(min=1), metavar="N",
            help="Processes in all. Default: every core for large inputs, else one.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def target_options(function: F) -> F:
    """Add what every command takes that writes to a target named by ``--to``."""
    for option in (
        click.option(
            "--encrypt-key", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH",
            help="Encrypt the target for this key file, which `muniment key new` made; the name of one file then ends"
            " in .enc.",
        ),
        click.option(
            "--fts", type=click.Choice(["words", "trigram", "none"]),
            help="Full-text index of a new archive. trigram also finds parts of words, and is three times larger.",
        ),
        click.option(
            "--compression", type=click.Choice(["none", "gzip", "zstd"]),
            help="Compress files. Default: what the file's name says.",
        ),
        click.option(
            "--mode", type=click.Choice(["append", "mirror", "snapshot"]),
            help="Parts that never change, one file per conversation, or one file written whole.",
        ),
        click.option(
            "--format", "format_", type=ComponentName("formats"),
            help="jsonl, json, csv, txt, markdown. Default: what the file's name says.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


class ComponentName(click.ParamType):  # type: ignore[type-arg]
    """The name of an installed component of one kind."""

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from muniment.plugins import load_registry
        from muniment.structure import closest

        names = load_registry().names(self.kind)
        if value not in names:
            self.fail(f"there is no {self.kind[:-1]} `{value}`{closest(value, names)}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        from muniment.plugins import load_registry

        return [CompletionItem(n) for n in load_registry().names(self.kind) if n.startswith(incomplete)]


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A date or a time; without a zone it is UTC, and a date is its first moment."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"`{value}` is no date; write 2025-01-31 or 2025-01-31T12:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class PipelineFile(click.Path):
    """A pipeline file; completion offers files."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(dir_okay=False)


pipeline_argument = click.argument("pipeline", type=PipelineFile(), metavar="PIPELINE.YAML")


def day(moment: datetime | date | str | None) -> str:
    """Return the day of a time as people read it; empty for none."""
    return str(moment)[:10] if moment else ""


@contextlib.contextmanager
def options_as_usage() -> Iterator[None]:
    """Make what a component says about its options an error of the command line."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError("; ".join(p.message for p in error.problems)) from error
