"""How is a command found, and how does it end?

The core's commands are named in a table and imported when they are called, so that ``--help`` stays
fast.  A command that a plugin adds is looked for only when the core has none of that name.
"""

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from muniment.cli import screen
from muniment.errors import ConfigError, MunimentError, PluginError
from muniment.tracebacks import describe_error

CORE_COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Archive": {
        "import": ("import_:import_", "Bring an export into an archive."),
        "export": ("export:export", "Write an archive in another format."),
        "status": ("status:status", "Show what was archived, and the last runs."),
        "quarantine": ("quarantine:quarantine", "See and retry what could not be archived."),
        "verify": ("verify:verify", "Read everything again and prove that nothing was changed."),
        "hold": ("hold:hold", "Say what must not be purged, and see it."),
        "purge": ("purge:purge", "Take records away for good, and leave a proof of it."),
        "gc": ("gc:gc", "Remove what killed runs left behind."),
        "repair": ("repair:repair", "Make one copy of an archive whole from another."),
        "key": ("keys:key", "Make keys, and choose which ones open encrypted files."),
        "decrypt": ("decrypt:decrypt", "Decrypt a file, or a folder of them."),
        "demo": ("demo:demo", "Import, search and export a sample."),
    },
    "Pipelines": {
        "run": ("pipelines:run", "Run a pipeline file."),
        "validate": ("pipelines:validate", "Check a pipeline file; all mistakes at once."),
        "plan": ("pipelines:plan", "Show what a pipeline would do, and what it guarantees."),
        "test": ("pipelines:test", "Run the tests that a pipeline file holds."),
        "schema": ("pipelines:schema", "Print the JSON Schema of pipeline files, for editors."),
    },
    "This installation": {
        "plugins": ("plugins:plugins", "List plugins, components and their options."),
        "completion": ("completion:completion", "Print a script that completes commands in your shell."),
    },
}
"""Section of ``--help`` -> name -> (where it stands in this package, short help)."""

PLUGIN_SECTION = "Archive"
_META = "muniment.plugin_commands"

_CORE = {name: entry for section in CORE_COMMANDS.values() for name, entry in section.items()}


class Muniment(click.Group):
    """The group of all commands.

    A command returns its exit code, or nothing for 0.  What it raises becomes one sentence on
    standard error and the error's exit code; ``MUNIMENT_DEBUG=1`` adds the traceback.
    """

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.context_settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        self.params.append(
            click.Option(
                ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
                help="Show the version and exit.",
            )
        )  # fmt: skip

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> Any:
            return super(Muniment, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        try:
            code = run() or 0
            sys.stdout.flush()
        except Exception as error:  # noqa: BLE001 - the last place that can turn an error into a sentence
            code = report_error(error)
        screen.drop_unwritable_output()
        sys.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_CORE, *(name for name in _plugin_commands(ctx) if name not in _CORE)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _CORE:
            module, _, attribute = _CORE[cmd_name][0].partition(":")
            return _load(f"muniment.cli.{module}", attribute)
        target = _plugin_commands(ctx).get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        try:
            return _load(module, attribute)
        except Exception as error:
            if os.environ.get("MUNIMENT_DEBUG"):
                raise
            raise PluginError(
                f"command `{cmd_name}` of a plugin cannot be loaded from `{target}`: {type(error).__name__}: {error}"
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            names = self.list_commands(ctx)
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there is {', '.join(f'`{n}`' for n in names)}"
            ctx.fail(f"unknown command `{screen.clean(name)}`; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {section: {n: e[1] for n, e in names.items()} for section, names in CORE_COMMANDS.items()}
        for name in _plugin_commands(ctx):
            if name not in _CORE:
                sections[PLUGIN_SECTION][name] = self._short_help(ctx, name)
        width = max(len(name) for names in sections.values() for name in names)
        for section, names in sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in names.items()])

    def _short_help(self, ctx: click.Context, name: str) -> str:
        try:
            command = self.get_command(ctx, name)
        except PluginError:
            return "(cannot be loaded: see `muniment plugins list`)"
        return command.get_short_help_str(limit=80) if command is not None else ""


class Subcommands(click.Group):
    """A group whose commands are listed in the order of their definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def report_error(error: Exception) -> int:
    """Say on standard error what went wrong; return the exit code."""
    if os.environ.get("MUNIMENT_DEBUG") and not isinstance(error, click.exceptions.Abort):
        screen.note(screen.clean(describe_error(error).rstrip("\n")))
    if isinstance(error, click.exceptions.Abort):
        screen.note("stopped")
        return 130
    if isinstance(error, click.ClickException):
        text = error.format_message().rstrip(".")
        screen.error(text[:1].lower() + text[1:])
        if isinstance(error, click.UsageError) and error.ctx is not None:
            screen.note(f"see `{error.ctx.command_path} --help`")
        return error.exit_code
    if isinstance(error, ConfigError):
        for problem in error.problems:
            screen.error(problem.render())
        if len(error.problems) > 1:
            screen.note(f"{len(error.problems)} problems; nothing ran")
        return error.exit_code
    if isinstance(error, MunimentError):
        screen.error(str(error))
        return error.exit_code
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            return 0
        named = f"`{error.filename}`: " if error.filename else ""
        screen.error(f"{named}{(error.strerror or type(error).__name__).lower()}")
        return 1
    # The text of a foreign error may quote a conversation: the type must do.
    screen.error(
        f"`{type(error).__name__}` was raised where nothing should: this is a defect, please report it"
        " (MUNIMENT_DEBUG=1 shows where)"
    )
    return 1


def _load(module: str, attribute: str) -> click.Command:
    command = getattr(import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"`{module}:{attribute}` is not a click command")
    return command


def _plugin_commands(ctx: click.Context) -> Mapping[str, str]:
    """Return the commands that plugins add; the entry points are read once per invocation."""
    commands: Mapping[str, str] | None = ctx.meta.get(_META)
    if commands is None:
        from muniment.plugins import load_registry

        commands = ctx.meta[_META] = load_registry().commands()
    return commands


def _show_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from muniment import __version__

        screen.out(f"muniment {__version__}")
        ctx.exit()
