"""``muniment completion``: commands, options and names, completed by the shell."""

import sys

import click

from muniment.cli import screen

_WHERE = {
    "bash": "echo 'eval \"$(muniment completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(muniment completion zsh)\"' >> ~/.zshrc",
    "fish": "muniment completion fish > ~/.config/fish/completions/muniment.fish",
}


@click.command(short_help="Print a script that completes commands in your shell.")
@click.argument("shell", type=click.Choice(list(_WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and names in your shell.

    \b
    Set it up once:
      echo 'eval "$(muniment completion bash)"' >> ~/.bashrc
      echo 'eval "$(muniment completion zsh)"' >> ~/.zshrc
      muniment completion fish > ~/.config/fish/completions/muniment.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    screen.out(kind(ctx.find_root().command, {}, "muniment", "_MUNIMENT_COMPLETE").source())
    if sys.stdout.isatty():
        screen.note(f"to set it up: {_WHERE[shell]}")
