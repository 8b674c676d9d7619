"""``muniment plugins``: what is installed, and what it takes."""

from typing import TYPE_CHECKING, Any

import click

from muniment.cli import screen
from muniment.cli.group import Subcommands
from muniment.cli.options import json_option
from muniment.errors import PluginError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from muniment.options import OptionInfo
    from muniment.plugins import Registry

KINDS = ("sources", "transforms", "sinks", "formats", "engines")


class _AnyComponent(click.ParamType):  # type: ignore[type-arg]
    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        from muniment.plugins import load_registry

        registry = load_registry()
        names = {name for kind in KINDS for name in registry.names(kind)}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


@click.group(cls=Subcommands, short_help="List plugins, components and their options.")
def plugins() -> None:
    """List plugins, the components they add, and the options these take."""


@plugins.command("list", short_help="List all components and who adds them.")
@json_option
def list_(as_json: bool) -> int:
    """List all components and the distributions that add them; and what is broken, with the reason.

    \b
    Example:
      muniment plugins list
    """
    from muniment.plugins import load_registry

    registry = load_registry()
    if as_json:
        screen.out_json(_everything(registry))
        return 0
    for kind in KINDS:
        screen.out(click.style(kind, bold=True))
        rows = [[name, _summary(registry, kind, name), _owner(registry, kind, name)] for name in registry.names(kind)]
        room = screen.terminal_width() - 6 - sum(max((len(r[c]) for r in rows), default=0) for c in (0, 2))
        for row in rows:
            row[1] = screen.shorten(row[1], max(room, 20))
        for text in screen.columns(rows):
            screen.out(text)
    screen.out(click.style("secrets", bold=True))
    for text in screen.columns([[name, _owner(registry, "secrets", name)] for name in registry.names("secrets")]):
        screen.out(text)
    commands = registry.commands()
    if commands:
        screen.out(click.style("commands", bold=True))
        for text in screen.columns([[name, target] for name, target in commands.items()]):
            screen.out(text)
    for problem in _problems(registry):
        screen.out(f"{click.style('unusable:', fg='red')} {screen.line(problem)}")
    return 0


@plugins.command(short_help="Show the options of a component.")
@click.argument("name", type=_AnyComponent())
@json_option
def show(name: str, as_json: bool) -> int:
    """Show what a component does, who adds it, and every option.

    \b
    Example:
      muniment plugins show sqlite
    """
    from muniment.plugins import load_registry
    from muniment.structure import closest

    registry = load_registry()
    kinds = [kind for kind in KINDS if name in registry.names(kind)]
    if not kinds:
        names = sorted({n for kind in KINDS for n in registry.names(kind)})
        raise PluginError(f"there is no component `{name}`{closest(name, names)}")
    if as_json:
        screen.out_json([_component(registry, kind, name) for kind in kinds])
        return 0
    for index, kind in enumerate(kinds):
        if index:
            screen.out()
        _print_component(registry, kind, name)
    return 0


def _print_component(registry: "Registry", kind: str, name: str) -> None:
    import inspect

    from muniment.options import describe

    cls = registry.get(kind, name)
    screen.out(f"{click.style(name, bold=True)}, a {kind[:-1]} of {_owner(registry, kind, name)}")
    screen.out()
    _print_wrapped(inspect.cleandoc(cls.__doc__ or ""), "")
    options = describe(cls)
    if not options:
        screen.out()
        screen.out("It takes no options.")
    for option in options:
        screen.out()
        screen.out(f"  {click.style(option.name, bold=True)}: {option.type.replace('`', '')}, {_given(option)}")
        _print_wrapped(option.help, "      ")
        if option.example:
            screen.out(f"      example: {screen.line(option.example)}")


def _print_wrapped(text: str, indent: str) -> None:
    wrapped = click.formatting.wrap_text(
        screen.clean(text).replace("``", "`"), screen.terminal_width(), initial_indent=indent, subsequent_indent=indent,
        preserve_paragraphs=True,
    )  # fmt: skip
    screen.out(wrapped)


def _given(option: "OptionInfo") -> str:
    if option.required:
        return "required"
    return f"default {option.default}" if option.default else "optional"


def _everything(registry: "Registry") -> dict[str, Any]:
    return {
        "plugins": [{"name": p.name, "distribution": p.distribution, "version": p.version} for p in registry.plugins],
        "components": {
            kind: [
                {"name": name, "owner": _owner(registry, kind, name), "summary": _summary(registry, kind, name)}
                for name in registry.names(kind)
            ]
            for kind in KINDS
        },
        "secrets": [{"name": n, "owner": _owner(registry, "secrets", n)} for n in registry.names("secrets")],
        "commands": registry.commands(),
        "unusable": _problems(registry),
    }


def _component(registry: "Registry", kind: str, name: str) -> dict[str, Any]:
    import inspect

    import attrs

    from muniment.options import describe

    cls = registry.get(kind, name)
    return {
        "kind": kind[:-1],
        "name": name,
        "owner": _owner(registry, kind, name),
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "options": [attrs.asdict(o) for o in describe(cls)],
    }


def _problems(registry: "Registry") -> list[str]:
    return [*(f"plugin {p}: {p.reason}" for p in registry.broken), *registry.conflicts]


def _owner(registry: "Registry", kind: str, name: str) -> str:
    try:
        return " ".join(registry.owner(kind, name)).rstrip()
    except PluginError:
        return "more than one distribution"


def _summary(registry: "Registry", kind: str, name: str) -> str:
    """Return the first sentence about a component, or why it cannot be used."""
    try:
        text = " ".join((registry.get(kind, name).__doc__ or "").split("\n\n")[0].split())
    except PluginError as error:
        return f"(unusable: {error})"
    return text.split(". ")[0].rstrip(".").replace("``", "`")
