"""How does a command open the archive that it is to look after?"""

import contextlib
import getpass
import socket
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from muniment.errors import ConfigError, InputError

if TYPE_CHECKING:
    from muniment.components import Context
    from muniment.custody import Custody
    from muniment.plan import SinkPath

F = TypeVar("F", bound=Callable[..., Any])

target_argument = click.argument("target", type=click.Path(), metavar="ARCHIVE|FOLDER|PIPELINE.YAML")
sink_option = click.option("--sink", "sink_name", metavar="NAME", help="Of a pipeline, only this sink.")
reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it stays in the archive for good.")
actor_option = click.option(
    "--actor", metavar="NAME", help="Who does it, as the archive is to say. Default: your login name and host."
)


def actor_or_me(actor: str | None) -> str:
    return actor or f"{_login()}@{socket.gethostname()}"


def sinks_of(target: str, sink_name: str | None) -> "list[tuple[SinkPath, Context]]":
    """Return the sinks that a command names, each with a context for a run of its own.

    Raises:
        InputError: there is no such archive.
        ConfigError: there is no such sink.
    """
    from muniment.cli.assemble import sink_for
    from muniment.cli.ledgers import is_pipeline_file
    from muniment.components import Context
    from muniment.plugins import load_registry
    from muniment.structure import closest

    registry = load_registry()
    if not is_pipeline_file(target):
        if sink_name:
            raise click.UsageError("--sink goes with a pipeline file")
        if not Path(target).exists():
            raise InputError(f"there is no archive `{target}`; make one with `muniment import EXPORT --to {target}`")
        path = sink_for(registry, target)
        return [(path, Context(run=_run(), path=path.step.path))]
    from muniment import config
    from muniment.provenance import made_with

    plan = config.load(Path(target), registry)
    names = [s.name for s in plan.sinks]
    if sink_name and sink_name not in names:
        raise ConfigError(f"there is no sink `{sink_name}` in `{target}`{closest(sink_name, names)}")
    context = Context(run="", pipeline=plan.name, state_dir=plan.state_dir)
    return [
        (p, attrs.evolve(context, run=_run(), path=p.step.path, made_with=made_with(plan, p)))
        for p in plan.sinks
        if sink_name in (None, p.name)
    ]


@contextlib.contextmanager
def opened(path: "SinkPath", ctx: "Context") -> "Iterator[Custody]":
    """Give the custody of a sink's archive.

    Raises:
        ConfigError: the sink has none.
    """
    try:
        custody = path.step.component.open_custody(ctx)
    except NotImplementedError as error:
        raise ConfigError(f"{error}; of a pipeline, name one that can with --sink") from error
    with custody:
        yield custody


def _run() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may have no name for its user.
        return "unknown"
