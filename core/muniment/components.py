"""What does a Source, a Transform, a Sink, a Format promise?

A component is a frozen attrs class whose fields (made with `muniment.option`) are its YAML
options.  It holds no connection, thread or file, so it can be compared, pickled and sent to
another process.  ``open`` gives a session that does the work.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, Flag, auto
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

from attrs import field, frozen

from muniment.model import JSON, Asset, Dropped, Origin, Record, Rejected
from muniment.secrets import Secret, reveal
from muniment.units import (
    Batch,
    Checkpoint,
    Chunk,
    Counts,
    Damage,
    Fence,
    Idle,
    Orphan,
    Partition,
    Position,
    Prepared,
    Receipt,
    Unit,
    UnitBounds,
)

if TYPE_CHECKING:
    from muniment.crypto import NewHeader
    from muniment.custody import Custody
    from muniment.verification import Finding, Inspection


class Replay(Enum):
    """What a source does when it is read again from a position."""

    EXACT = "exact"  # files: the same records, in the same order
    OVERLAP = "overlap"  # APIs: some come again; keys and hashes tell
    NONE = "none"  # webhooks: must be spooled first


class Effect(Flag):
    """What a transform does to the records that pass it."""

    PURE = 0
    ALTERS_CONTENT = auto()
    DROPS = auto()
    CALLS_OUT = auto()


# --- what a session is given ----------------------------------------------------------------


def never() -> bool:
    """Say no: the default of `Context.stopping`."""
    return False


def no_assets(asset: Asset) -> BinaryIO:
    """Find nothing: the default of `Context.open_asset`."""
    raise FileNotFoundError(asset.id)


def keep_nothing(rejected: Sequence[Rejected]) -> None:
    """Keep nothing: the default of `Context.keep`."""


@frozen
class Context:
    """What the engine gives to a component that it opens.

    ``path`` names the component in messages (``sinks[0] (sqlite)``); ``plan_hash`` is of the path
    from the source to this sink; ``state_dir`` is where local state lives for targets that cannot
    hold their own; ``on_plan_change`` is ``keep``, ``new_version`` or ``rewrite``; ``first_unit`` is
    the number of the first unit that a writer will seal, so that it can name what it begins;
    ``fingerprint`` is of the partition that a writer is opened for.  ``made_with`` says which versions
    of what bring the records, for the manifests.  ``keep`` is called by the writer of a sink that
    `refuses late <Sink.refuses_late>`, before it commits.
    """

    run: str
    path: str = ""
    pipeline: str = ""
    plan_hash: str = ""
    state_dir: Path = field(factory=Path)
    on_plan_change: str = "keep"
    first_unit: int = 1
    fingerprint: str = ""
    made_with: Mapping[str, JSON] = field(factory=dict)
    open_asset: Callable[[Asset], BinaryIO] = no_assets
    stopping: Callable[[], bool] = never
    keep: Callable[[Sequence[Rejected]], None] = keep_nothing

    def reveal(self, secret: Secret) -> str:
        """Return the value of a secret, read anew; only in the process that opens the component.

        Raises:
            ConfigError: there is no value, or its file can be read by others.
        """
        return reveal(secret, self.path)


class Session:
    """A context manager; leaving it closes it."""

    def close(self) -> None:
        """Release what the session holds.  Called exactly once, also after an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- components -----------------------------------------------------------------------------


@frozen(kw_only=True)
class Component:
    """Base of all components."""

    def check(self) -> Iterable[str]:
        """Return what is wrong with these options together, one sentence each; reads nothing."""
        return ()


@frozen(kw_only=True)
class Source(Component):
    """Where conversations come from."""

    replay: ClassVar[Replay] = Replay.EXACT
    normaliser: ClassVar[str] = "1"
    """Version of what `decode` makes; part of the plan hash."""
    endless: ClassVar[bool] = False

    def open(self, ctx: Context) -> "Reader":
        raise NotImplementedError

    def decode(self, chunk: Chunk) -> Iterator[Record | Rejected]:
        """Turn a chunk into records.  Pure CPU; may run in another process.

        Default: the chunk's data holds the records already.
        """
        yield from chunk.data

    def slices(self, chunk: Chunk) -> Iterable[tuple[Origin, bytes]]:
        """Yield the original bytes of what stands in a chunk, each under the origin that `decode` gives it.

        This is the form in which the quarantine keeps a record.  Default: nothing, for sources without
        such bytes; of those the decoded record is kept.
        """
        return ()

    def restore(self, partition: Partition, origin: Origin, data: bytes) -> Chunk:
        """Return a chunk of one record, of bytes that `slices` has yielded; `decode` takes it without the input."""
        raise NotImplementedError


class Reader(Session, ABC):
    """A source that was opened: sequential reading."""

    @abstractmethod
    def partitions(self) -> Iterable[Partition]:
        """Yield the independent parts, in a stable order."""

    @abstractmethod
    def read(self, partition: Partition, after: Position | None) -> Iterator[Chunk | Idle]:
        """Yield chunks from exactly behind ``after`` (None: the start).  I/O only, sequential.

        Raises:
            InputError: the input cannot be read any further.
        """

    def open_asset(self, asset: Asset) -> BinaryIO:
        """Return the bytes of an asset that this source's records name.

        Raises:
            FileNotFoundError: the source does not hold it.
        """
        raise FileNotFoundError(asset.id)


@frozen(kw_only=True)
class Transform(Component):
    """What happens to a record on its way.  One record in, at most one out; raising rejects it."""

    effect: ClassVar[Effect] = Effect.ALTERS_CONTENT

    def open(self, ctx: Context) -> Callable[[Record], Record | Dropped]:
        """Return the function to apply; called once per worker."""
        return self.apply

    def apply(self, record: Record) -> Record | Dropped:
        raise NotImplementedError


@frozen
class History:
    """The ledger of a target: ``runs`` oldest first, ``quarantined`` the open entries; ``where`` is for people."""

    where: str
    runs: tuple[Mapping[str, Any], ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    quarantined: tuple[Mapping[str, JSON], ...] = ()


class Known(Session, ABC):
    """What a target holds already, asked in a worker before the work of encoding is done.

    With ``hides`` the hashes that it gives are pseudonyms.
    """

    hides: ClassVar[bool] = False

    @abstractmethod
    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        """Return (source_hash, plan_hash) for those of ``keys`` that the target holds."""

    def noted(self, source_hash: str) -> str:
        """Return what `find` gives for a record with this hash: itself, or a pseudonym where content is hidden."""
        return source_hash


@frozen(kw_only=True)
class Sink(Component):
    """Where records go.  Plugin authors inherit `BatchSink`, `UpsertSink` or `ObjectSink` instead."""

    reads_back: ClassVar[bool] = False
    protocol: ClassVar[str] = "staged"  # or "transactional"; `plan` prints it
    unit: ClassVar[UnitBounds] = UnitBounds()
    """Where a unit of this sink ends unless its pipeline says so."""
    refuses_late: ClassVar[bool] = False
    """Whether a record may be refused only when its unit is sealed.  The writer then gives what it is about to
    reject to `Context.keep` before it commits the unit."""

    @property
    def guarantee(self) -> str:
        """What holds with these options: ``effectively once``, perhaps with a condition, or ``at least once``."""
        return "effectively once"

    def encode(self, batch: Batch) -> Any:
        """Turn records into the payload that `Writer.write` takes.  Pure CPU; may run in another process."""
        return batch

    def open(self, ctx: Context) -> "Writer":
        """Return a writer for one attempt at a partition."""
        raise NotImplementedError

    def open_target(self, ctx: Context) -> "Target":
        """Return the target; one per run, on the driver: it owns commits."""
        raise NotImplementedError

    def open_leftovers(self, ctx: Context) -> "Target | None":
        """Return a target of which only `Target.orphans` and `Target.collect` are used.

        Opening it changes nothing.  Default: None, for places where a killed attempt leaves nothing.
        """
        return None

    def is_locked(self, ctx: Context) -> bool:
        """Say whether `open_leftovers` keeps other runs away.  Default: yes, for nothing is left."""
        return True

    def state_path(self, ctx: Context) -> Path | None:
        """Return the SQLite file that holds the ledger of this target: runs, checkpoints, quarantine."""
        return None

    def history(self, ctx: Context) -> "History | None":
        """Return what the target says of its past where that is in no file; None if nothing was stored yet."""
        return None

    def open_known(self, ctx: Context) -> Known | None:
        """Return a look-up of what is stored (read-only; opened in workers), or None to skip the look-up."""
        return None

    def verify(self, ctx: Context, inspection: "Inspection") -> "Iterator[Finding]":
        """Read everything and yield what is not as the manifests say.  Nothing is written, no lock is taken.

        Raises:
            NotImplementedError: this sink keeps no manifests.
            InputError: there is nothing to verify.
        """
        raise NotImplementedError(f"{ctx.path} keeps no manifests, so nothing can be verified")

    def rewrap(self, ctx: Context, change: "Callable[[BinaryIO], NewHeader]") -> bool:
        """Replace the header that says who can read a target; return whether that changed it.

        For targets that keep one header inside; where encrypted files lie, each has its own.

        Raises:
            NotImplementedError: this sink keeps no such header.
            ConfigError: the target is not encrypted.
            WrongKeyError: the keys that ``change`` has do not open it.
        """
        raise NotImplementedError(f"{ctx.path} keeps no header of its own")

    def open_custody(self, ctx: Context) -> "Custody":
        """Return the archive, opened to hold and to purge; it must be there.

        Raises:
            NotImplementedError: this sink cannot.
            InputError: there is no archive.
        """
        raise NotImplementedError(f"{ctx.path} cannot hold or purge records")

    def proof_files(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        """Yield the manifests and the checkpoint as files, (name, bytes), for a hand-over.  Default: none."""
        return iter(())


class Writer(Session, ABC):
    """Writes one partition's payloads, in sequence."""

    @abstractmethod
    def write(self, payload: Any) -> Receipt: ...

    def touch(self, keys: Sequence[str]) -> None:
        """Hear that these records were seen again, unchanged."""

    @abstractmethod
    def seal(self, unit: Unit) -> Prepared:
        """End a unit: what was written since the last one is durable now (and, where the target is
        transactional, published with its checkpoint and its quarantine entries)."""


class Target(Session, ABC):
    """A place that holds an archive; the authority on what is stored."""

    @property
    def whole_run(self) -> bool:
        """True if the run is one unit: nothing is published before the end, and a killed run restarts."""
        return False

    @abstractmethod
    def committed(self) -> Mapping[str, Checkpoint]:
        """Return the checkpoint of every partition that this target has seen, by partition id."""

    @abstractmethod
    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        """Publish sealed units.  Idempotent by (partition, unit)."""

    def abort(self, prepared: Sequence[Prepared]) -> None:
        """Remove what sealed but uncommitted units left."""

    def orphans(self) -> Iterator[Orphan]:
        """Yield what killed attempts left behind."""
        return iter(())

    def collect(self, orphan: Orphan) -> None:
        """Remove what `orphans` has yielded.

        Raises:
            NotImplementedError: this target has no orphans.
        """
        raise NotImplementedError

    def read_back(self) -> Iterator[Record]:
        """Yield every stored record, merged from its versions.

        Raises:
            NotImplementedError: this target cannot be read.
        """
        raise NotImplementedError

    def survey(self, damaged: Callable[[Damage], None]) -> Iterator[Record]:
        """Yield what `read_back` does, and go on behind what is damaged, which ``damaged`` hears of.

        Of a damaged object no record is yielded.
        """
        return self.read_back()

    def noted(self, key: str) -> str:
        """Return what `Damage.keys` calls a record: its key, or a pseudonym where content is hidden."""
        return key

    def open_asset(self, asset: Asset) -> BinaryIO:
        """Return the bytes of an asset that a stored record names.

        Raises:
            FileNotFoundError: this target does not hold them.
        """
        raise FileNotFoundError(asset.id)

    def holds_newer(self, record: Record) -> bool:
        """Say whether another version of this record is stored, as late or later, with all of its messages.

        A quarantined record is then superseded, whether it can be handled by now or not.  Default: no, for
        targets that cannot tell before a record is written.
        """
        return False

    def forget(self, missing: Iterable[str], short: Iterable[str], replaced: Sequence[Damage]) -> None:
        """Let the next write store these records, though the ledger says that they are stored already.

        Of ``missing`` ones nothing is there, of ``short`` ones not all; what is ``replaced`` no longer
        counts once the next unit is committed.  Default: nothing, for targets whose writer looks at the
        data itself.
        """

    def mark_absent(self, fingerprint: str, later: Sequence[str]) -> int:
        """Mark what a complete source no longer holds; nothing is removed.

        Every record of the partitions with this fingerprint has been written or touched; some of them
        again under the fingerprints of what was read ``later``.  Absent are other records of the same
        source and account which are as old as those, or older; the mark goes when such a record comes
        again.

        Returns:
            How many records were marked by this call.  Default: none, for targets that cannot.
        """
        return 0

    def note_report(self, report: Mapping[str, JSON]) -> None:
        """Hear what the manifest of the run's end is to say about its sources; before `end_run`."""

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        """Hear how the run ended; after the last commit."""

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        """Yield the open quarantine entries.

        Each has what a `Rejected` says (``stage``, ``reason``, ``record``: its key; ``label``, ``partition``,
        ``start``, ``end`` and ``digest`` of its origin), the ``run`` that noted it, and as ``id`` its
        `muniment.state.quarantine_id`: all sinks call it the same.
        """
        return iter(())


@frozen(kw_only=True)
class Format(Component):
    """How records become bytes.  ``suffix`` is the file ending, with the dot."""

    suffix: ClassVar[str]
    media_type: ClassVar[str] = "application/octet-stream"
    reads_back: ClassVar[bool] = False
    default_mode: ClassVar[str] = "append"
    """How a folder of this format is laid out unless the sink is told: ``append`` or ``mirror``."""

    def encode(self, record: Record, links: "AssetLinks") -> bytes:
        """Return one record's piece.  Pure; ``links`` tells where assets will stand."""
        raise NotImplementedError

    def encode_in_pieces(self, record: Record, links: "AssetLinks") -> Iterator[bytes]:
        """Yield what `encode` returns.  A large record is asked for so: a format that need not make it whole
        spares its memory.  Default: whole.
        """
        yield self.encode(record, links)

    def header(self) -> bytes:
        """Return what stands before the first piece of a part."""
        return b""

    def separator(self) -> bytes:
        """Return what stands between two pieces."""
        return b""

    def footer(self) -> bytes:
        """Return what stands behind the last piece."""
        return b""

    def decode(self, stream: BinaryIO, origin: Origin) -> Iterator[Record]:
        """Yield the records of a part; only where ``reads_back``."""
        raise NotImplementedError


AssetLinks = Callable[[Asset], str]
"""Gives the relative path, as a URL path, where an asset's bytes stand; empty where it has none."""


@frozen(kw_only=True)
class Engine(Component):
    """How a plan runs: in one process, on all cores, on a cluster."""

    workers: int = 1

    def open(self, job: Any, reader: Reader) -> Any:
        """Return the `muniment.engine.Workers` that read and process; ``reader`` is the source, opened here."""
        raise NotImplementedError
