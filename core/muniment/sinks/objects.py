"""The base of sinks that are stores of objects: files, buckets.

An object sink is format x compression x storage, in one of three modes.  `append` makes immutable
parts, one per unit.  `mirror` keeps one object per conversation and replaces it.  `snapshot` writes
one object whole and swaps it in at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

from attrs import frozen

from muniment.components import Context, Format, Known, Sink, Target, Writer
from muniment.crypto import SUFFIX, Encryption
from muniment.crypto.frames import KEYS
from muniment.errors import ConfigError
from muniment.objects import Compression, compression_of
from muniment.options import option
from muniment.proof import Proof
from muniment.sinks._object_key import KeyTemplate, problems
from muniment.sinks._object_parts import PartLimits
from muniment.sinks._object_payload import Layout, Payload, encode
from muniment.sinks.known import StateKnown, VeiledKnown
from muniment.state import State
from muniment.storage import Storage
from muniment.tables import TableFormat
from muniment.units import Batch, UnitBounds

if TYPE_CHECKING:
    from muniment.crypto import NewHeader
    from muniment.custody import Custody
    from muniment.verification import Finding, Inspection

__all__ = ["Layout", "Mode", "ObjectSink", "PartLimits", "Payload"]

Mode = Literal["append", "mirror", "snapshot"]


@frozen(kw_only=True)
class ObjectSink(Sink):
    """A store of objects.  A subclass says which `storage`, and where local state lives.

    Everything else is here: what is stored already is skipped, nothing half-written is ever visible,
    each commit leaves a manifest, and a killed run goes on where it was.
    """

    protocol: ClassVar[str] = "staged"
    reads_back: ClassVar[bool] = True
    """Where the format can be read; else `Target.read_back` raises NotImplementedError."""

    format: str | None = option("How records become bytes.", default=None, choices_from="formats", example="jsonl")
    format_options: Mapping[str, Any] = option("Options of the format.", factory=dict)
    mode: Mode | None = option(
        "append: parts that never change; mirror: one object per conversation; snapshot: one object, written whole.",
        default=None,
        example="append",
    )
    compression: Compression | None = option(
        "How objects are compressed.  Default: as the ending of `key` says.",
        default=None,
        identity=False,
        example="zstd",
    )
    key: str | None = option(
        "How objects are named: literal text with `{source}`, `{account}`, `{year}`, `{month}`, `{day}`,"
        " `{year_month}` and `{format}`, dates of when a conversation began (UTC; `undated` without one); `{part}`"
        " for parts, `{table}` for tables, `{title}` and `{id}` in a mirror.",
        default=None,
        identity=False,
        example="chats/{source}/{year}/{part}.jsonl.zst",
    )
    part: PartLimits | None = option(
        "When a part ends before its unit does: `max_bytes`, `max_records`.",
        default=None,
        identity=False,
        example={"max_bytes": 100_000_000},
    )
    latest: bool = option(
        "Write `latest`, which holds each conversation once, merged from its versions, at the end of each run that"
        " stored something.",
        default=False,
        identity=False,
    )

    encryption: Encryption | None = option(
        "Who can read what is stored; without it, everyone who can read the place.",
        default=None,
        identity=False,
        example={"key": "${secret:file:archive.key}"},
    )
    proof: Proof | None = option(
        "Who signs the state of the archive: `key`.",
        default=None,
        identity=False,
        example={"key": "${secret:file:sign.key}"},
    )

    # --- what a subclass says ---------------------------------------------------------------

    def storage(self) -> Storage:
        """Return a new session with the place; its user closes it."""
        raise NotImplementedError

    def state_path(self, ctx: Context) -> Path:
        """Return where the local state of this target lives: a cache of its manifests."""
        raise NotImplementedError

    def lock_path(self, ctx: Context) -> Path | None:
        """Return what to lock, where all runs on this target share a machine.

        With a lock, what killed runs left is removed when the target is opened.
        """
        return None

    def snapshot_name(self) -> str:
        """Return the name of the one object of a snapshot."""
        raise NotImplementedError

    @property
    def layout(self) -> Layout:
        """The options with their defaults filled in."""
        name = self.format or "jsonl"
        mode = self.mode or self.default_mode(name)
        key = "" if mode == "snapshot" else self.key_of(name)
        return Layout(name, mode, self.compression_by(self.key or ""), key=key, encrypted=self.encryption is not None)

    def compression_by(self, name: str) -> Compression:
        """Return the compression: the option, or what the ending of ``name`` says."""
        return self.compression or compression_of(name.removesuffix(SUFFIX))

    def key_of(self, format_name: str) -> str:
        """Return the template of names: the option, or what a format of tables says; empty without either."""
        form = self.format_class(format_name)
        suffix = form.suffix + (SUFFIX if self.encryption else "")
        return self.key or (form.default_key + suffix if issubclass(form, TableFormat) else "")

    def default_mode(self, format_name: str) -> str:
        """Return the mode without the option: what the format says, else ``append``."""
        mode: str = getattr(self.format_class(format_name), "default_mode", "append")
        return mode

    def part_prefixes(self) -> tuple[str, ...]:
        """Return what the names of parts begin with, one of these."""
        key, form = self.layout.key, self.make_format()
        tables = form.table_names if isinstance(form, TableFormat) else ()
        prefixes = KeyTemplate(key).prefixes(tables) if key else ("part-",)
        return (*prefixes, *(KEYS + p for p in prefixes)) if self.seals_records else prefixes

    @property
    def seals_records(self) -> bool:
        """Whether each record has a key of its own."""
        return self.encryption is not None and self.encryption.per == "conversation"

    # --- what the engine calls --------------------------------------------------------------

    @property
    def unit(self) -> UnitBounds:  # type: ignore[override]
        form = self.format_class(self.layout.format)
        return form.unit if issubclass(form, TableFormat) else UnitBounds()

    def check(self) -> Iterable[str]:
        layout = self.layout
        try:
            form = self.make_format()
        except (TypeError, ValueError) as error:
            yield f"`format_options` do not fit format `{layout.format}`: {error}"
            return
        if self.encryption is not None:
            yield from self.encryption.check()
        yield from form.check()
        tables = form.table_names if isinstance(form, TableFormat) else ()
        if tables:
            yield from _wrong_for_tables(layout, tables)
        if self.seals_records:
            yield from _wrong_for_sealing(self, layout, tables)
        if self.latest and layout.mode != "append":
            yield "`latest` goes with `mode: append`; in the other modes each conversation is there once anyway"
        elif self.latest and not form.reads_back:
            yield f"`latest` needs a format that can be read back, which `{layout.format}` cannot with these options"
        if layout.mode == "snapshot":
            if self.key is not None or self.part is not None:
                option_name = "part" if self.key is None else "key"
                yield f"`{option_name}` does not go with `mode: snapshot`, which is one object"
            return
        if self.part is not None and layout.mode == "mirror":
            yield "`part` does not go with `mode: mirror`, where each conversation is an object"
        if layout.key:
            ending = form.suffix + layout.ending
            yield from problems(layout.key, mode=layout.mode, ending=ending, tables=tables, encrypted=layout.encrypted)

    def encode(self, batch: Batch) -> Payload:
        return encode(batch.records, self.make_format(), self.layout)

    def open(self, ctx: Context) -> Writer:
        from muniment.sinks._object_snapshot import SnapshotWriter
        from muniment.sinks._object_writer import AppendWriter, MirrorWriter

        mode = self.layout.mode
        if mode == "snapshot":
            return SnapshotWriter(ctx)
        return MirrorWriter(self, ctx) if mode == "mirror" else AppendWriter(self, ctx)

    def open_target(self, ctx: Context) -> Target:
        from muniment.sinks._object_snapshot import SnapshotTarget
        from muniment.sinks._object_target import ObjectTarget

        mode = self.layout.mode
        if mode == "append" and ctx.on_plan_change == "rewrite":
            raise ConfigError(
                f"{ctx.path}: `on_plan_change: rewrite` cannot remove what the parts of `mode: append` hold;"
                " use `mode: mirror`, `mode: snapshot`, or `on_plan_change: new_version`"
            )
        return SnapshotTarget(self, ctx) if mode == "snapshot" else ObjectTarget(self, ctx)

    def verify(self, ctx: Context, inspection: "Inspection") -> "Iterator[Finding]":
        from muniment.sinks._object_verify import verify

        return verify(self, ctx, inspection)

    def rewrap(self, ctx: Context, change: "Callable[[BinaryIO], NewHeader]") -> bool:
        from muniment.sinks._object_rewrap import rewrap

        return rewrap(self, ctx, change)

    def open_leftovers(self, ctx: Context) -> Target | None:
        from muniment.sinks._object_leftovers import ObjectLeftovers

        path = self.lock_path(ctx)
        return None if path is not None and not path.parent.is_dir() else ObjectLeftovers(self, ctx)

    def is_locked(self, ctx: Context) -> bool:
        return self.lock_path(ctx) is not None

    def open_custody(self, ctx: Context) -> "Custody":
        from muniment.sinks._object_purge import ObjectCustody

        return ObjectCustody(self, ctx)

    def proof_files(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        from muniment.sinks._object_manifest import proof_files

        if self.layout.mode != "snapshot":
            with self.storage() as storage:
                yield from proof_files(storage)

    def open_known(self, ctx: Context) -> Known | None:
        if self.layout.mode == "snapshot":
            return None
        path = self.state_path(ctx)
        if not path.exists():
            return None
        if self.encryption is None:
            return StateKnown(State.open(path, read_only=True))
        from muniment.sinks._object_vault import open_cover

        with self.storage() as storage:
            cover = open_cover(self, ctx, storage)
        return VeiledKnown(State.open(path, read_only=True), cover.key, cover.source_hash)

    # --- formats ----------------------------------------------------------------------------

    def format_class(self, name: str) -> type[Format]:
        """Return the class of the format that is registered as ``name``."""
        return _registered_format(name)

    def make_format(self, name: str = "", options: Mapping[str, Any] | None = None) -> Format:
        """Return a format: this sink's, or the one that wrote an older object."""
        if name:
            return self.format_class(name)(**(options or {}))
        return self.format_class(self.layout.format)(**self.format_options)


def _wrong_for_tables(layout: Layout, tables: Sequence[str]) -> Iterator[str]:
    if layout.mode == "mirror":
        yield f"format `{layout.format}` makes tables of many conversations; use `mode: append`"
    elif layout.mode == "snapshot" and len(tables) > 1:
        listed = ", ".join(f"`{t}`" for t in tables)
        yield (
            f"format `{layout.format}` makes several tables, which one file cannot hold; name a folder, or choose one"
            f" table with `format_options`: {listed}"
        )
    if layout.compression != "none":
        yield f"format `{layout.format}` compresses by itself; leave out `compression`"


def _wrong_for_sealing(sink: ObjectSink, layout: Layout, tables: Sequence[str]) -> Iterator[str]:
    """Say what holds many records together, or shows them in a second place."""
    said = "`encryption.per: conversation` does not go with"
    if tables:
        yield f"{said} format `{layout.format}`, which makes tables of many conversations; use `format: jsonl`"
    if layout.mode == "snapshot":
        yield f"{said} `mode: snapshot`, which is one object, written whole"
    if sink.latest:
        yield f"{said} `latest`, which holds every conversation once more"


@cache
def _registered_format(name: str) -> type[Format]:
    from muniment.plugins import load_registry

    found: type[Format] = load_registry().get("formats", name)
    return found
