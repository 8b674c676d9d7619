"""``muniment search``: find what was said."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muniment.cli import screen
from muniment.cli.keys import keyring_of, keys_options
from muniment.cli.options import Moment, day, json_option

if TYPE_CHECKING:
    from muniment_plugins.sinks.sqlite.search import Hit

ROLES = ("user", "assistant", "system", "tool")


@click.command(short_help="Find what was said: words, phrases, any script.")
@click.argument("query", nargs=-1, required=True, metavar="QUERY...")
@click.option("--archive", default="archive.db", show_default=True, type=click.Path(), help="Where to search.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many hits.")
@click.option("--role", type=click.Choice(ROLES), help="Only what this role said.")
@click.option("--source", metavar="VENDOR", help="Only conversations of this vendor, such as chatgpt.")
@click.option("--after", type=Moment(), help="Only messages from this date on.")
@click.option("--before", type=Moment(), help="Only messages before this date.")
@click.option("--scan", is_flag=True, help="Read everything instead of an index: slow; also finds parts of words.")
@keys_options("key", "passphrase", "service", "opens an encrypted archive, for --scan", variable="MUNIMENT_KEY_FILE")
@json_option
def search(
    query: tuple[str, ...],
    archive: str,
    limit: int,
    role: str | None,
    source: str | None,
    after: datetime | None,
    before: datetime | None,
    scan: bool,
    key: tuple[Path, ...],
    passphrase: tuple[str, ...],
    service: tuple[str, ...],
    as_json: bool,
) -> int:
    """Find messages, the best first.

    All words must occur, the last one may be the beginning of a word; quotes make a phrase; a
    leading - leaves out (write -- before the query then).  Case and accents do not matter.

    \b
    Examples:
      muniment search tax return 2025
      muniment search '"exactly these words"' --role assistant
      muniment search 归档 --archive archive.db --limit 5
      muniment search -- python -snake
      muniment search --scan --key archive.key tax return
    """
    from muniment_plugins.sinks.sqlite.scan import scan as read_all
    from muniment_plugins.sinks.sqlite.search import search as find

    text = " ".join(query)
    if scan:
        keyring = keyring_of(key, passphrase, service) if key or passphrase or service else None
        find = partial(read_all, keyring=keyring)
    hits = find(Path(archive), text, limit=limit, role=role, source=source, after=after, before=before)
    if as_json:
        import attrs

        screen.out_json([{**attrs.asdict(h), "snippet": _plain(h.snippet)} for h in hits])
    elif not hits:
        screen.note(f"nothing in {screen.line(archive)} matches `{screen.line(text)}`")
    for index, hit in enumerate(hits if not as_json else ()):
        if index:
            screen.out()
        _print_hit(hit)
    return 0


def _print_hit(hit: "Hit") -> None:
    title = screen.shorten(screen.line(hit.title) or "(no title)", screen.terminal_width() - 40)
    facts = [day(hit.created_at), hit.role, "" if hit.visible else "other branch"]
    said = " · ".join(screen.line(f) for f in facts if f)
    screen.out(f"{click.style(title, bold=True)}  {click.style(said, dim=True)}")
    for text in _lines(hit.snippet):
        screen.out(f"  {text}")


def _lines(snippet: str) -> list[str]:
    """Return the snippet wrapped to the terminal, each match highlighted."""
    marked: list[tuple[str, bool]] = []
    inside = False
    for character in snippet:
        if character == "\x02":
            inside = True
        elif character == "\x03":
            inside = False
        elif clean := screen.clean(character):
            marked.append((clean, inside))
    return [_styled(row) for row in _wrapped(marked, screen.terminal_width() - 2)]


def _wrapped(marked: list[tuple[str, bool]], cells: int) -> list[list[tuple[str, bool]]]:
    rows: list[list[tuple[str, bool]]] = [[]]
    used = 0
    for item in marked:
        wide = screen.width(item[0])
        if used + wide > cells:
            last = rows[-1]
            space = next((i for i in range(len(last) - 1, 0, -1) if last[i][0] == " "), None)
            rest = last[space + 1 :] if space is not None else []
            rows[-1] = last[:space] if space is not None else last
            rows.append(rest)
            used = sum(screen.width(c) for c, _ in rest)
        rows[-1].append(item)
        used += wide
    return rows


def _styled(row: list[tuple[str, bool]]) -> str:
    from itertools import groupby

    return "".join(
        click.style("".join(c for c, _ in run), fg="yellow", bold=True) if inside else "".join(c for c, _ in run)
        for inside, run in groupby(row, key=lambda item: item[1])
    )


def _plain(snippet: str) -> str:
    return snippet.replace("\x02", "").replace("\x03", "")
