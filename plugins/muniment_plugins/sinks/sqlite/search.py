"""How is an archive searched?  Ranked hits with snippets, words and prefixes, any script."""

import sqlite3
from datetime import datetime
from pathlib import Path

from attrs import frozen

from muniment import FatalError
from muniment_plugins.sinks.sqlite.index import kind_of
from muniment_plugins.sinks.sqlite.read import connect
from muniment_plugins.sinks.sqlite.text import match_expression, plain, terms
from muniment_plugins.sinks.sqlite.vault import find_header

MARK_START, MARK_END = "\x02", "\x03"
SNIPPET_CHARACTERS = 200
TITLE_WEIGHT = 5.0


@frozen
class Hit:
    """A message that was found.  ``snippet`` holds ``\\x02`` and ``\\x03`` around each match;
    ``rank`` is BM25: the smaller, the better."""

    conversation_id: str
    title: str
    message_id: str
    role: str
    created_at: str | None
    visible: bool
    snippet: str
    rank: float


def search(
    path: Path,
    query: str,
    *,
    limit: int = 20,
    role: str | None = None,
    source: str | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
) -> list[Hit]:
    """Return the best hits, best first.  Empty when nothing was found or nothing can be searched for.

    Raises:
        InputError: there is no such archive.
        FatalError: the archive has no full-text index.
    """
    connection = connect(path)
    try:
        fts = kind_of(connection)
        if fts == "none" and find_header(connection) is not None:
            raise FatalError(
                f"`{path}` is encrypted, and so has no full-text index; add `--scan --key PATH` to read all of it,"
                " or search an export"
            )
        if fts == "none":
            raise FatalError(f"`{path}` was made without a full-text index; import again with `--fts words`")
        hits = _find(connection, "messages_fts", match_expression(query), limit, role, source, after, before)
        if not hits and fts == "trigram" and len(query) >= 3:
            quoted = '"' + query.replace('"', '""') + '"'
            hits = _find(connection, "messages_trigram", quoted, limit, role, source, after, before)
        marked = terms(query)
        return [
            Hit(*row[:5], visible=bool(row[5]), snippet=snippet(row[6] or row[1] or "", marked), rank=row[7])
            for row in hits
        ]
    finally:
        connection.close()


def _find(
    connection: sqlite3.Connection, table: str, expression: str, limit: int, role: str | None,
    source: str | None, after: datetime | None, before: datetime | None,
) -> list[tuple[str, str, str, str, str | None, int, str, float]]:  # fmt: skip
    if not expression:
        return []
    conditions, values = [], []
    for condition, value in (
        ("m.role=?", role),
        ("c.source=?", source),
        ("coalesce(m.created_at, c.created_at)>=?", after and after.isoformat()),
        ("coalesce(m.created_at, c.created_at)<?", before and before.isoformat()),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    where = "".join(f" AND {c}" for c in conditions)
    # The text is fetched for the hits that are shown, not for all that match.
    statement = f"""
        SELECT id, title, message_id, role, created_at, visible,
               (SELECT group_concat(p.text, char(10)) FROM parts p WHERE p.message=message_no), rank FROM (
            SELECT c.id AS id, coalesce(c.title, '') AS title, m.id AS message_id, m.role AS role,
                   m.created_at AS created_at, m.visible AS visible, m.no AS message_no,
                   bm25({table}, {TITLE_WEIGHT}, 1.0) AS rank
            FROM {table} JOIN messages m ON m.no={table}.rowid JOIN conversations c ON c.no=m.conversation
            WHERE {table} MATCH ?{where} ORDER BY rank LIMIT ?)"""  # noqa: S608 - table is ours, the rest is bound
    return connection.execute(statement, (expression, *values, limit)).fetchall()


def snippet(text: str, marked: list[str]) -> str:
    """Return the part of ``text`` around the first match on one line, each match between marks."""
    folded, places = _fold_with_places(text)
    found = sorted((folded.find(t), t) for t in marked if t and folded.find(t) >= 0)
    first = places[found[0][0]] if found else 0
    start = max(0, first - SNIPPET_CHARACTERS // 3)
    if start:
        space = text.rfind(" ", max(0, start - 20), start)
        start = space + 1 if space >= 0 else start
    window = text[start : start + SNIPPET_CHARACTERS]
    folded_window, window_places = _fold_with_places(window)
    spans: list[tuple[int, int]] = []
    for term in marked:
        at = folded_window.find(term) if term else -1
        while at >= 0:
            spans.append((window_places[at], window_places[at + len(term)]))
            at = folded_window.find(term, at + len(term))
    out, last = [], 0
    for begin, end in sorted(spans):
        if begin >= last and end > begin:
            out += [window[last:begin], MARK_START, window[begin:end], MARK_END]
            last = end
    line = " ".join("".join([*out, window[last:]]).split())
    return f"{'…' if start else ''}{line}{'…' if start + SNIPPET_CHARACTERS < len(text) else ''}"


def _fold_with_places(text: str) -> tuple[str, list[int]]:
    """Return ``text`` without case and diacritics, and for each of its characters the place in ``text``."""
    if text.isascii():
        return text.lower(), list(range(len(text) + 1))
    out: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for c in plain(character):
            out.append(c)
            places.append(place)
    return "".join(out), [*places, len(text)]
