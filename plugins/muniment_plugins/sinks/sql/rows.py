"""How does a record become rows?  Pure CPU, in any process.

A block holds the rows of one record for one table, as the database takes them: lines of PostgreSQL's
COPY, tuples of MySQL's ``VALUES``, or Python tuples for DuckDB.  The conversation's number, which only the
writer knows, is put in front by `numbered`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from operator import itemgetter
from typing import Any, get_args

from msgspec import Struct, to_builtins

from muniment.canonical import to_json
from muniment.model import (
    Asset,
    Conversation,
    FilePart,
    Message,
    Origin,
    Part,
    Record,
    TextPart,
    part_text,
    visible_path,
)
from muniment.record_blob import blob_of
from muniment_plugins.sinks.sql.layout import Dialect, Kind, Layout, Shown

Row = tuple[Any, ...]
Block = bytes | list[Row]

PIECE_BYTES = 2**20
"""No value of the kept tables is larger: servers limit what one statement may hold."""

# The month of what has no usable time; it stands in the default partition.
NO_MONTH = date(1, 1, 1)
_MONTH_YEARS = range(1970, 2100)

_TAGS = {kind: kind.__struct_config__.tag for kind in get_args(Part)}
_UNFIT = re.compile("[\0\ud800-\udfff]")
_EXTRA = ("metadata", "usage", "feedback", "citations")


class Rows(Struct, frozen=True, gc=False):
    """One record as rows.

    ``source`` and ``id`` are as columns hold them.  ``blocks`` are by table; ``counts`` say how many rows
    each has.  ``record`` is the zstd blob, ``stored_hash`` its SHA-256.
    """

    key: str
    source: str
    id: str
    origin: Origin
    source_hash: str
    digest: bytes
    blocks: dict[str, Block]
    counts: dict[str, int]
    month: date
    assets: tuple[Asset, ...]
    record: bytes
    stored_hash: bytes

    @property
    def stored_key(self) -> str:
        """The key as columns hold it."""
        return f"{self.source}:{self.id}"


def digest_of(key: str) -> bytes:
    """Return the 32 bytes that a key is found by: of any length, exact in case and form."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class Encoder:
    """Makes the rows of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._tables = [_TableEncoder(s, layout.dialect) for s in layout.shown.values()]
        self._parts = "parts" in layout.shown
        parts = layout.shown.get("parts")
        self._all_parts = parts is not None and parts.mapped
        messages = layout.shown.get("messages")
        self._parts_inside = messages is not None and "parts" in messages.columns

    def encode(self, record: Record) -> Rows:
        c = record.conversation
        line = to_json(c)
        unfit = _is_unfit(line)
        digest = digest_of(c.key)
        month = _month(c.created_at)
        blocks: dict[str, Block] = {}
        counts: dict[str, int] = {}
        for table, some in self._scrubbed(c, digest.hex(), month, unfit):
            counts[table.name] = len(some)
            if some:
                blocks[table.name] = table.encode(some)
        blob = blob_of(line, record.raw)
        source, identity = (scrub(c.source), scrub(c.id)) if unfit else (c.source, c.id)
        return Rows(
            c.key, source, identity, record.origin, record.source_hash, digest, blocks, counts, month, c.assets, blob,
            hashlib.sha256(blob).digest(),
        )  # fmt: skip

    def values(self, record: Record) -> dict[str, list[Row]]:
        """Return the rows of a record as Python values, by table, without the conversation's number."""
        c = record.conversation
        month = _month(c.created_at)
        tables = self._scrubbed(c, digest_of(c.key).hex(), month, _is_unfit(to_json(c)))
        return {table.name: table.choose(some) for table, some in tables}

    def _scrubbed(
        self, c: Conversation, key: str, month: date, unfit: bool
    ) -> "Iterator[tuple[_TableEncoder, list[Row]]]":
        rows = self._rows(c, key, month, unfit)
        for table in self._tables:
            some = rows[table.name]
            if unfit:
                some = [tuple(scrub(v) if type(v) is str else v for v in row) for row in some]
            yield table, some

    def _rows(self, c: Conversation, key: str, month: date, unfit: bool) -> Mapping[str, list[Row]]:
        path = visible_path(c)
        whose = (key, c.source, c.id)
        title = c.title
        messages: list[Row] = []
        parts: list[Row] = []
        for position, m in enumerate(c.messages):
            given = m.parts
            if len(given) == 1 and type(given[0]) is TextPart and _is_plain(given[0]):
                text = given[0].content
                if self._all_parts:
                    parts.append(_part(position, 0, given[0], whose, m.id, unfit))
            else:
                text = "\n\n".join([t for p in given if (t := part_text(p))])
                if self._parts:
                    parts += [_part(position, i, p, whose, m.id, unfit) for i, p in enumerate(given)]
            extra = _extra(m, unfit) if m.metadata or m.usage or m.feedback or m.citations else None
            messages.append((
                position, m.id, m.parent_id, m.role, m.author, m.recipient, m.channel, m.created_at, m.updated_at,
                m.model, m.hidden, m.id in path, m.status, text, extra, *whose, title,
                _json(given, unfit) if self._parts_inside else None, month,
            ))  # fmt: skip
        conversation = (
            c.source, c.id, c.account, title, c.created_at, c.updated_at, c.model, c.current, len(c.messages),
            _json(c.metadata, unfit) if c.metadata else None, key,
        )  # fmt: skip
        assets = [(i, a.id, a.name, a.mime_type, a.size, a.sha256, a.missing, *whose) for i, a in enumerate(c.assets)]
        return {"conversations": [conversation], "messages": messages, "parts": parts, "assets": assets}


def numbered(block: Block, number: int, shown: Shown, dialect: Dialect) -> Block:
    """Return a block with the conversation's number in front of each row, where the table has it."""
    if isinstance(block, list):
        return [(number, *row) for row in block] if shown.numbered else block
    if dialect == "postgresql":
        if not shown.numbered:
            return block
        prefix = b"%d\t" % number
    else:
        prefix = b"(%d," % number if shown.numbered else b"("
    # Line breaks inside a value are escaped: each one in the block ends a row.
    return prefix + block[:-1].replace(b"\n", b"\n" + prefix) + b"\n"


def pieces(blob: bytes) -> Iterator[bytes]:
    """Cut a blob; at least one piece."""
    for start in range(0, len(blob) or 1, PIECE_BYTES):
        yield blob[start : start + PIECE_BYTES]


def _is_unfit(line: bytes) -> bool:
    # Our JSON holds these escapes only for what columns cannot hold, or in a text about it.
    return b"\\u0000" in line or b"\\ud" in line


def scrub(text: str) -> str:
    """Return ``text`` with U+FFFD for what not every database can hold: NUL and lone surrogates."""
    return _UNFIT.sub("\ufffd", text)


# --- columns --------------------------------------------------------------------------------


class _TableEncoder:
    """Chooses the columns of a table and writes them down for a dialect."""

    def __init__(self, shown: Shown, dialect: Dialect) -> None:
        self.name = shown.table.name
        # The number is not among what `_rows` makes.
        order = [c.name for c in shown.table.columns[1:]]
        wanted = shown.columns[1:] if shown.numbered else shown.columns
        places = [order.index(c) for c in wanted]
        self._leading = places == list(range(len(places)))
        self._width = len(places)
        self._choose: Callable[[Row], Any] = (
            itemgetter(*places) if len(places) > 1 else lambda row: row[slice(*_one(places))]
        )
        kinds = shown.kinds[1:] if shown.numbered else shown.kinds
        self._formats = None if dialect == "duckdb" else [_FORMATS[dialect][k] for k in kinds]
        self._comma, self._end = ("\t", "\n") if dialect == "postgresql" else (",", ")\n")

    def choose(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows with the columns of this table only."""
        width = self._width
        return [row[:width] for row in rows] if self._leading else [self._choose(row) for row in rows]

    def encode(self, rows: Sequence[Row]) -> Block:
        some = self.choose(rows)
        formats = self._formats
        if formats is None:
            return some
        comma, end = self._comma, self._end
        lines = [comma.join([f(v) for f, v in zip(formats, row, strict=True)]) + end for row in some]
        return "".join(lines).encode()


def _one(places: Sequence[int]) -> tuple[int, int]:
    # Nothing but the number is wanted: an empty row.
    return (places[0], places[0] + 1) if places else (0, 0)


def _part(position: int, number: int, part: Part, whose: Row, message: str, unfit: bool) -> Row:
    file_id = part.file_id if isinstance(part, FilePart) else None
    return (
        position, number, _TAGS[type(part)], getattr(part, "kind", ""), file_id, _json(part, unfit), *whose, message,
        part_text(part),
    )  # fmt: skip


def _is_plain(part: TextPart) -> bool:
    return not (part.kind or part.language or part.title or part.url or part.metadata)


def _extra(message: Message, unfit: bool) -> str:
    return _json({n: v for n in _EXTRA if (v := getattr(message, n))}, unfit)


def _json(value: Any, unfit: bool) -> str:
    data = to_json(value)
    if unfit and (b"\\u0000" in data or b"\\ud" in data):
        data = to_json(_scrub_json(to_builtins(value)))
    return data.decode()


def _scrub_json(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub(k): _scrub_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_scrub_json(v) for v in value]
    return value


def _month(time: datetime | None) -> date:
    return NO_MONTH if time is None or time.year not in _MONTH_YEARS else date(time.year, time.month, 1)


# --- how a value is written -----------------------------------------------------------------


def _copy_text(value: str | None) -> str:
    if value is None:
        return "\\N"
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if "\n" in value:
        value = value.replace("\n", "\\n")
    if "\r" in value:
        value = value.replace("\r", "\\r")
    if "\t" in value:
        value = value.replace("\t", "\\t")
    return value


def _copy_plain(value: Any) -> str:
    return "\\N" if value is None else str(value)


def _copy_flag(value: Any) -> str:
    return "t" if value else "f"


def _copy_time(value: datetime | None) -> str:
    return "\\N" if value is None else value.isoformat()


def _copy_bytes(value: bytes | None) -> str:
    return "\\N" if value is None else "\\\\x" + value.hex()


def _sql_text(value: str | None) -> str:
    if value is None:
        return "NULL"
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if "'" in value:
        value = value.replace("'", "\\'")
    if "\n" in value:
        value = value.replace("\n", "\\n")
    return f"'{value}'"


def _sql_plain(value: Any) -> str:
    return "NULL" if value is None else str(value)


def _sql_flag(value: Any) -> str:
    return "1" if value else "0"


def sql_time(value: datetime | None) -> str:
    """Return a time as MySQL writes it; UTC."""
    return "NULL" if value is None else f"'{value.isoformat(' ', 'microseconds')[:26]}'"


def _sql_date(value: date) -> str:
    return f"'{value.isoformat()}'"


def _sql_bytes(value: bytes | None) -> str:
    return "NULL" if value is None else f"X'{value.hex()}'"


_FORMATS: Mapping[Dialect, Mapping[Kind, Callable[[Any], str]]] = {
    "postgresql": {
        "number": _copy_plain, "count": _copy_plain, "flag": _copy_flag, "text": _copy_text, "short": _copy_text,
        "digest": _copy_bytes, "bytes": _copy_bytes, "json": _copy_text, "time": _copy_time, "month": _copy_plain,
    },
    "mysql": {
        "number": _sql_plain, "count": _sql_plain, "flag": _sql_flag, "text": _sql_text, "short": _sql_text,
        "digest": _sql_bytes, "bytes": _sql_bytes, "json": _sql_text, "time": sql_time, "month": _sql_date,
    },
}  # fmt: skip


def sql_row(kinds: Sequence[Kind], row: Row) -> bytes:
    """Return a row as a tuple of MySQL's ``VALUES``."""
    formats = _FORMATS["mysql"]
    return f"({','.join([formats[k](v) for k, v in zip(kinds, row, strict=True)])})".encode()
