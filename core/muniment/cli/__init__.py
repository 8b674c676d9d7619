"""The commands: thin, one module per group, each imported when it is called."""

from muniment.cli.group import Muniment

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
    cli.main(prog_name="muniment")
