"""Which tables and columns does an archive have?  Documented in ``docs/formats/sql.md``.

``records`` holds each conversation whole and exact (canonical JSON with the raw JSON, zstd).  The *shown*
tables say the same in columns, for people and SQL; only they can be mapped to tables of somebody else.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from muniment import option

VERSION = 2
"""Version of these tables."""

ADDED: Mapping[int, tuple[str, ...]] = {2: ("manifests", "receipts")}
"""The tables that a version has and the one before it lacks."""

Kind = Literal["number", "count", "flag", "text", "short", "digest", "bytes", "json", "time", "month"]
"""What a column holds.  ``short``: ASCII of at most 64 characters; ``digest``: 32 bytes; ``month``: a date."""

Dialect = Literal["postgresql", "mysql", "duckdb"]

_SCHEMES: Mapping[str, Dialect] = {
    "postgresql": "postgresql", "postgresql+psycopg": "postgresql", "mysql": "mysql", "mysql+pymysql": "mysql",
    "mariadb": "mysql", "mariadb+pymysql": "mysql", "duckdb": "duckdb",
}  # fmt: skip


def dialect_of(url: str) -> Dialect:
    """Return the dialect of a URL.

    Raises:
        ValueError: there is none for its scheme.
    """
    scheme = url.partition(":")[0]
    if scheme not in _SCHEMES:
        raise ValueError("must begin with `postgresql://`, `mysql://`, `mariadb://` or `duckdb:///`")
    return _SCHEMES[scheme]


@frozen
class Column:
    """A column of our own; ``own`` is false for what only a mapping can ask for."""

    name: str
    kind: Kind
    null: bool = True
    own: bool = True


@frozen
class Table:
    """A table.  ``key`` are the columns of its primary key; ``rights`` what the role needs beside SELECT."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rights: tuple[str, ...] = ("INSERT", "DELETE")
    unique: tuple[str, ...] = ()

    def kind(self, name: str) -> Kind:
        return next(c.kind for c in self.columns if c.name == name)


def _columns(text: str, own: bool = True) -> tuple[Column, ...]:
    """Read ``name:kind`` words; a ``!`` behind the kind means NOT NULL."""
    words = (word.partition(":") for word in text.split())
    return tuple(Column(n, k.removesuffix("!"), not k.endswith("!"), own) for n, _, k in words)  # type: ignore[arg-type]


_OF_CONVERSATION = _columns("conversation_key:short! source:text! conversation_id:text!", own=False)
# A column of messages in an archive that is partitioned by month.
MONTH = Column("month", "month", null=False, own=False)

SHOWN: Mapping[str, Table] = {
    t.name: t
    for t in (
        Table(
            "conversations",
            _columns(
                "no:number! source:text! id:text! account:text title:text created_at:time updated_at:time model:text"
                " current:text message_count:count! metadata:json"
            ) + _columns("key:short!", own=False),
            ("no",),
        ),
        Table(
            "messages",
            _columns(
                "conversation:number! position:count! id:text! parent_id:text role:text! author:text recipient:text"
                " channel:text created_at:time updated_at:time model:text hidden:flag! visible:flag! status:text"
                " text:text! metadata:json"
            ) + _OF_CONVERSATION + _columns("title:text parts:json", own=False) + (MONTH,),
            ("conversation", "position"),
        ),
        Table(
            "parts",
            _columns(
                "conversation:number! message:count! position:count! type:short! kind:text! file_id:text content:json!"
            ) + _OF_CONVERSATION + _columns("message_id:text! text:text!", own=False),
            ("conversation", "message", "position"),
        ),
        Table(
            "assets",
            _columns(
                "conversation:number! position:count! id:text! name:text! mime_type:text! size:number sha256:short"
                " missing:text"
            ) + _OF_CONVERSATION,
            ("conversation", "position"),
        ),
    )
}  # fmt: skip
"""Tables for people, in the order in which they are written."""

KEPT: Mapping[str, Table] = {
    t.name: t
    for t in (
        Table(
            "muniment_meta",
            _columns("id:count! version:count! holder:short! partition_by:short! created_at:time!"),
            ("id",), ("UPDATE",),
        ),
        Table(
            "records",
            _columns(
                "no:number! key_digest:digest! source_hash:short! plan_hash:short! run:short! chunks:count! data:bytes!"
            ),
            ("no",), ("INSERT", "UPDATE", "DELETE"), ("key_digest",),
        ),
        Table(
            "record_chunks", _columns("no:number! position:count! data:bytes!"), ("no", "position"),
            ("INSERT", "DELETE"),
        ),
        Table(
            "versions",
            _columns(
                "no:number! version:count! position:count! source_hash:short! run:short! superseded_at:time!"
                " data:bytes!"
            ),
            ("no", "version", "position"), ("INSERT", "DELETE"),
        ),
        Table(
            "asset_chunks", _columns("sha256:short! position:count! data:bytes!"), ("sha256", "position"),
            ("INSERT", "DELETE"),
        ),
        Table(
            "runs",
            _columns(
                "run:short! pipeline:text! sink:text! started_at:time! finished_at:time exit_code:count"
                " read_count:number! stored_count:number! unchanged_count:number! dropped_count:number!"
                " quarantined_count:number!"
            ),
            ("run",), ("INSERT", "UPDATE"),
        ),
        Table(
            "units",
            _columns(
                "run:short! unit:number! partition_key:digest! noted_at:time! read_count:number! stored_count:number!"
                " unchanged_count:number! dropped_count:number! quarantined_count:number!"
            ),
            ("run", "unit"), ("INSERT",),
        ),
        Table(
            "checkpoints",
            _columns(
                "partition_key:digest! partition_id:text! fingerprint:text! position:text! sequence:number!"
                " finished:flag! records:number! plan_hash:short! run:short!"
            ),
            ("partition_key",), ("INSERT", "DELETE"),
        ),
        Table(
            "quarantine",
            _columns(
                "id:short! stage:text! reason:text! label:text! partition_id:text! start_byte:number!"
                " end_byte:number! digest:short! record:text! run:short! status:short! noted_at:time!"
            ),
            ("id",), ("INSERT", "UPDATE", "DELETE"),
        ),
        Table(
            "manifests", _columns("number:number! run:short! manifest:text! checkpoint:text!"), ("number",),
            ("INSERT",),
        ),
        Table(
            "receipts",
            _columns("manifest:number! position:number! no:number! key:text! stored_hash:digest! gone:flag!"),
            ("manifest", "position"), ("INSERT",),
        ),
    )
}  # fmt: skip
"""Tables that muniment itself reads: the exact records, the ledger, and what proves both."""

ALL: Mapping[str, Table] = {**KEPT, **SHOWN}

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def check_identifier(name: str) -> str:
    """Return ``name``.

    Raises:
        ValueError: it is no plain name of a table, column or schema.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"`{name}` must be letters, digits and `_`, at most 63, not beginning with a digit")
    return name


@frozen(kw_only=True)
class MappedTable:
    """A table that exists already and belongs to somebody else."""

    name: str = option("Its name.")
    columns: dict[str, str] = option("Its columns that are written, by muniment's names for what goes into them.")


@frozen
class Shown:
    """A shown table as one archive has it.

    ``columns`` are muniment's names in the order in which they are written, ``targets`` what they are
    called there; ``conversation`` are those that tell whose a row is, ``key`` those that tell it apart.
    """

    table: Table
    name: str
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    mapped: bool
    key: tuple[str, ...] = ()
    conversation: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self.table.kind(c) for c in self.columns)

    @property
    def numbered(self) -> bool:
        """True if the first column is the conversation's number, which only the writer knows."""
        return self.columns[0] == self.table.columns[0].name

    def target(self, column: str) -> str:
        return self.targets[self.columns.index(column)]


@frozen
class Layout:
    """The tables of one archive: what they are called and which of their columns are written."""

    dialect: Dialect
    schema: str | None
    partitioned: bool
    names: Mapping[str, str]
    shown: Mapping[str, Shown] = field(hash=False)


_IDENTITIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "conversations": (("no",), ("key",), ("source", "id"), ("id",)),
    "": (("conversation",), ("conversation_key",), ("source", "conversation_id"), ("conversation_id",)),
}
_ORDINALS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "conversations": ((),),
    "messages": (("position",), ("id",)),
    "parts": (("message", "position"), ("message_id", "position")),
    "assets": (("position",), ("id",)),
}


def layout(
    dialect: Dialect, schema: str | None, tables: Mapping[str, str | MappedTable | None], *, partitioned: bool
) -> Layout:
    """Return the layout that the options of a sink ask for.

    Raises:
        ValueError: see `layout_problems`.
    """
    names = {n: (given if isinstance(given := tables.get(n, n), str) else n) for n in ALL}
    shown: dict[str, Shown] = {}
    for name, table in SHOWN.items():
        given = tables.get(name, name)
        if isinstance(given, MappedTable):
            shown[name] = _mapped(table, given)
            names[name] = given.name
        elif given is not None:
            own = tuple(c.name for c in table.columns if c.own)
            if partitioned and name == "messages":
                own += (MONTH.name,)
            shown[name] = Shown(table, given, own, own, mapped=False)
    return Layout(dialect, schema, partitioned, names, shown)


def layout_problems(tables: Mapping[str, str | MappedTable | None]) -> Iterator[str]:
    """Yield what is wrong with a mapping of tables, one sentence each."""
    for name, given in tables.items():
        if name not in ALL:
            from muniment.structure import closest

            yield f"`tables`: there is no table `{name}`{closest(name, ALL)}"
        elif not isinstance(given, str) and name in KEPT:
            yield f"`tables.{name}` must be a name: muniment reads this table itself"
        else:
            yield from _table_problems(name, given)


def _table_problems(name: str, given: "str | MappedTable | None") -> Iterator[str]:
    texts: list[str] = [given] if isinstance(given, str) else []
    if isinstance(given, MappedTable):
        texts = [given.name, *given.columns.values()]
        known = {c.name for c in SHOWN[name].columns} - {MONTH.name}
        for column in given.columns:
            if column not in known:
                from muniment.structure import closest

                yield f"`tables.{name}.columns`: there is no column `{column}`{closest(column, known)}"
        for what, choices in (("whose", _identities(name)), ("which", _ORDINALS[name])):
            if _first(choices, given.columns) is None:
                listed = " or ".join(" with ".join(f"`{c}`" for c in choice) for choice in choices)
                yield f"`tables.{name}.columns` must hold {listed}, to tell {what} a row is"
    for text in texts:
        try:
            check_identifier(text)
        except ValueError as error:
            yield f"`tables.{name}`: {error}"


def _mapped(table: Table, given: MappedTable) -> Shown:
    whose = _first(_identities(table.name), given.columns)
    which = _first(_ORDINALS[table.name], given.columns)
    if whose is None or which is None:
        raise ValueError("; ".join(_table_problems(table.name, given)))
    # The number stands first: the writer puts it there.
    columns = sorted(given.columns, key=lambda c: c != table.columns[0].name)
    return Shown(
        table, given.name, tuple(columns), tuple(given.columns[c] for c in columns), True, (*whose, *which), whose
    )


def _identities(name: str) -> tuple[tuple[str, ...], ...]:
    return _IDENTITIES.get(name, _IDENTITIES[""])


def _first(choices: Sequence[tuple[str, ...]], columns: Iterable[str]) -> tuple[str, ...] | None:
    given = set(columns)
    return next((c for c in choices if given.issuperset(c)), None)
