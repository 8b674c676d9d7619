"""What can a plugin add, and be told?  Every hook is on this screen.

A hook registers or observes; records never pass through one.  A component is given as a class, or
as ``"package.module:Class"``, which is imported when a pipeline uses it.
"""

from collections.abc import Mapping

import pluggy

from muniment.components import Format, Sink, Source, Transform
from muniment.events import RunEvent

hookspec = pluggy.HookspecMarker("muniment")
hookimpl = pluggy.HookimplMarker("muniment")


@hookspec
def muniment_sources() -> Mapping[str, str | type[Source]]:
    """Return the sources that this plugin adds, by their name in YAML."""
    return {}


@hookspec
def muniment_transforms() -> Mapping[str, str | type[Transform]]:
    """Return the transforms that this plugin adds, by their name in YAML."""
    return {}


@hookspec
def muniment_sinks() -> Mapping[str, str | type[Sink]]:
    """Return the sinks that this plugin adds, by their name in YAML."""
    return {}


@hookspec
def muniment_formats() -> Mapping[str, str | type[Format]]:
    """Return the formats that this plugin adds, by their name in YAML."""
    return {}


@hookspec
def muniment_secrets() -> Mapping[str, str]:
    """Return the schemes of secrets that this plugin adds: name in ``${secret:SCHEME:NAME}`` ->
    ``"package.module:function"``, imported when a secret is read.  The function takes the name and returns the
    secret; where it cannot, it raises `muniment.ConfigError` with a sentence that does not hold it."""
    return {}


@hookspec
def muniment_commands() -> Mapping[str, str]:
    """Return the commands that this plugin adds: name -> ``"package.module:command"`` (a click
    command, imported when called).  Names of the core are refused."""
    return {}


@hookspec
def muniment_run_event(event: RunEvent) -> None:
    """Hear what a run does.  Called after the fact; an exception is logged and undoes nothing."""
