"""Write the reference pages from the code: ``python docs/reference/generate.py``.

A test fails while a page differs from what this would write.
"""

from pathlib import Path

import click

from muniment.cli import cli
from muniment.options import describe
from muniment.plugins import load_registry

FOLDER = Path(__file__).parent
KINDS = {
    "sources": "Where conversations come from.",
    "transforms": "What happens to a conversation on its way.",
    "sinks": "Where conversations go.",
    "formats": "How conversations become bytes, for sinks that store files.",
    "engines": "How the work is spread over processes.",
}


def components() -> str:
    """Return the page of all components and their options."""
    registry = load_registry(allow=["muniment"])
    lines = ["# Components and options", "", "Generated from the code.", ""]
    for kind, meaning in KINDS.items():
        lines += [f"## {kind.capitalize()}", "", meaning, ""]
        for name in registry.names(kind):
            cls = registry.get(kind, name)
            lines += [f"### `{name}`", "", " ".join((cls.__doc__ or "").split()), ""]
            if options := describe(cls):
                lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
                lines += [
                    f"| `{o.name}` | {o.type} | {'required' if o.required else f'`{o.default}`'} | {o.help} |".replace(
                        "\n", " "
                    )
                    for o in options
                ]
                lines.append("")
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all commands, as ``--help`` shows them."""
    context = click.Context(cli, info_name="muniment", terminal_width=100, **cli.context_settings)
    lines = ["# Commands", "", "Generated from the code.", ""]
    lines += _command(cli, context, "muniment")
    return "\n".join(lines)


def _command(command: click.Command, context: click.Context, path: str) -> list[str]:
    lines = [f"## `{path}`", "", "```text", command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                lines += _command(
                    inner, click.Context(inner, info_name=name, parent=context, terminal_width=100), f"{path} {name}"
                )
    return lines


PAGES = {"components.md": components, "cli.md": commands}

if __name__ == "__main__":
    for page, text in PAGES.items():
        (FOLDER / page).write_text(text())
