"""The commands: thin, one module per group, each imported when it is called."""

import os

from muniment.cli.group import Muniment
from muniment.tracebacks import install_hooks

cli = Muniment(
    "muniment",
    help=(
        "Archive conversations with language models: lossless, searchable, yours.\n\n"
        "\b\n"
        "Start here:\n"
        "  muniment demo                      see it work on a sample\n"
        "  muniment import export.zip         a ChatGPT export becomes archive.db\n"
        '  muniment search "tax return"       find what was said\n'
        "  muniment export archive.db --format markdown --to ./chats"
    ),
    epilog="`muniment COMMAND --help` explains a command, with examples.",
)


def main() -> None:
    """Run the command line and exit with its code."""
    # Some libraries make files by the umask alone; what this program writes is nobody else's.
    os.umask(0o077)
    install_hooks()
    cli.main(prog_name="muniment")
