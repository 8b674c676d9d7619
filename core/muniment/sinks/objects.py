"""The base of sinks that are stores of objects: files, buckets.

An object sink is format x compression x storage, in one of three modes.  `append` makes immutable
parts, one per unit.  `mirror` keeps one object per conversation and replaces it.  `snapshot` writes
one object whole and swaps it in at the end.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from attrs import frozen

from muniment.components import Batch, Context, Format, Known, Sink, Target, Writer
from muniment.errors import ConfigError
from muniment.objects import Compression, Wrapper, compressing
from muniment.options import option
from muniment.sinks._object_payload import Layout, Payload, encode
from muniment.sinks.known import StateKnown
from muniment.state import State
from muniment.storage import Storage

__all__ = ["Layout", "Mode", "ObjectSink", "Payload"]

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
        "How objects are compressed.", default=None, identity=False, example="zstd"
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
        return Layout(name, self.mode or self.default_mode(name), self.compression or "none")

    def default_mode(self, format_name: str) -> str:
        """Return the mode without the option: what the format says, else ``append``."""
        mode: str = getattr(self.format_class(format_name), "default_mode", "append")
        return mode

    def wrappers(self) -> list[Wrapper]:
        """Return what is put round each part's stream, the innermost to the data first."""
        return [compressing(self.layout.compression)]

    # --- what the engine calls --------------------------------------------------------------

    def check(self) -> Iterable[str]:
        try:
            self.make_format()
        except (TypeError, ValueError) as error:
            yield f"`format_options` do not fit format `{self.layout.format}`: {error}"

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

    def open_known(self, ctx: Context) -> Known | None:
        if self.layout.mode == "snapshot":
            return None
        path = self.state_path(ctx)
        return StateKnown(State.open(path, read_only=True)) if path.exists() else None

    # --- formats ----------------------------------------------------------------------------

    def format_class(self, name: str) -> type[Format]:
        """Return the class of the format that is registered as ``name``."""
        return _registered_format(name)

    def make_format(self, name: str = "", options: Mapping[str, Any] | None = None) -> Format:
        """Return a format: this sink's, or the one that wrote an older object."""
        if name:
            return self.format_class(name)(**(options or {}))
        return self.format_class(self.layout.format)(**self.format_options)


@cache
def _registered_format(name: str) -> type[Format]:
    from muniment.plugins import load_registry

    found: type[Format] = load_registry().get("formats", name)
    return found
