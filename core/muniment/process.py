"""How does a chunk become payloads?  Decode, transform, encode: pure CPU, in any process."""

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from attrs import field, frozen

from muniment.components import Context, Known, Sink, Source, Transform
from muniment.errors import FatalError, RecordError
from muniment.model import Dropped, Record, Rejected
from muniment.units import Batch, Chunk, Position

if TYPE_CHECKING:
    from muniment.quarantine import Evidence, Keeping

Apply = Callable[[Record], Record | Dropped]


@frozen
class Route:
    """One sink's way: its own transforms, and the context that its components are opened with.

    ``skip`` is the number of the last chunk, by partition, that the sink does not need.
    """

    sink: Sink
    context: Context
    transforms: tuple[Transform, ...] = ()
    skip: Mapping[str, int] = field(factory=dict)


@frozen
class Job:
    """What a worker needs to process chunks; small and picklable.

    With ``keeping`` the content of what is rejected is encrypted where it is; ``source_step`` is the type
    and the place of the source.
    """

    source: Source
    transforms: tuple[Transform, ...]
    routes: tuple[Route, ...]
    keeping: "Keeping | None" = None
    source_step: tuple[str, str] = ("", "")


@frozen
class RouteResult:
    """What one chunk came to for one sink: a payload (None when nothing is to be written), the keys
    that the target holds already, what was dropped by reason, what was rejected."""

    payload: Any = None
    unchanged: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(factory=dict)
    rejected: tuple[Rejected, ...] = ()


_SKIPPED = RouteResult()


@frozen
class Processed:
    """A chunk after all the CPU work.  ``read`` counts records and what was rejected before any route.

    ``kept`` is the encrypted content of what was rejected, by entry; ``evidence`` is what of the others
    is to be kept if a writer refuses them.  Both only where a pipeline keeps content.
    """

    partition: str
    sequence: int
    end: Position
    size: int
    read: int
    conversations: int
    messages: int
    findings: Mapping[str, int]
    routes: tuple[RouteResult, ...]
    kept: Mapping[str, bytes] = field(factory=dict)
    evidence: "Evidence | None" = None


# A run makes millions of short-lived tuples and no cycles: the collector's default, a pass after every
# 700 new objects, would cost a sixth of its time.
GC_THRESHOLDS = (100_000, 20, 50)


@contextlib.contextmanager
def patient_gc() -> Iterator[None]:
    """Let the garbage collector look less often while records move."""
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Processor:
    """A job that was opened in this process."""

    def __init__(self, job: Job) -> None:
        context = job.routes[0].context
        self._source = job.source
        self._shared = [t.open(context) for t in job.transforms]
        self._routes = [_OpenRoute(r) for r in job.routes]
        self._seal = _sealing(job)

    def decode(self, chunk: Chunk) -> list[Record | Rejected]:
        """Return what stands in a chunk, before any transform."""
        return list(self._source.decode(chunk))

    def process(self, chunk: Chunk) -> Processed:
        """Return the payloads of a chunk, in the order of the job's routes."""
        rejected: list[Rejected] = list(chunk.rejected)
        records: list[Record] = []
        for item in self._source.decode(chunk):
            (rejected if type(item) is Rejected else records).append(item)  # type: ignore[arg-type]
        read = len(records) + len(rejected)
        findings: Counter[str] = Counter()
        for record in records:
            if record.findings:
                findings.update(record.findings)
        conversations = len(records)
        messages = sum(len(r.conversation.messages) for r in records)
        kept, dropped = _transform(self._shared, records, rejected)
        routes = tuple(r.process(chunk, kept, dropped, rejected) for r in self._routes)
        result = Processed(
            chunk.partition.id, chunk.sequence, chunk.end, chunk.size, read, conversations, messages, findings,
            routes,
        )  # fmt: skip
        if self._seal is None and not any(r.rejected for r in routes):
            return result
        return self._with_evidence(result, chunk, records)

    def _with_evidence(self, result: Processed, chunk: Chunk, records: Sequence[Record]) -> Processed:
        """Add the digests of what was rejected, and its content where that is kept."""
        from muniment.quarantine import Evidence, place_of, slices_of, with_digest

        slices = slices_of(self._source, chunk)
        routes = tuple(
            attrs.evolve(r, rejected=tuple(with_digest(x, slices.get(place_of(x.origin))) for x in r.rejected))
            if r.rejected
            else r
            for r in result.routes
        )
        if self._seal is None:
            return attrs.evolve(result, routes=routes)
        evidence = Evidence.of(slices, records)
        kept = self._seal(chunk, [x for r in routes for x in r.rejected], evidence)
        written = any(r.payload is not None for r in routes)
        return attrs.evolve(result, routes=routes, kept=kept, evidence=evidence if written else None)

    def close(self) -> None:
        for route in self._routes:
            route.close()


def _sealing(job: Job) -> "Callable[[Chunk, Sequence[Rejected], Evidence], dict[str, bytes]] | None":
    """Return what encrypts the content of rejected records, by entry; its keys are opened once."""
    if job.keeping is None:
        return None
    from muniment.quarantine import Keeper

    keeper, source = Keeper.of(job.keeping, job.routes[0].context), job.source_step

    def seal(chunk: Chunk, rejected: Sequence[Rejected], evidence: "Evidence") -> dict[str, bytes]:
        contents = (evidence.content(r, source, chunk.partition) for r in rejected)
        by_id = {c.id: c for c in contents if c is not None}
        return {name: keeper.seal(content) for name, content in by_id.items()}

    return seal


class _OpenRoute:
    def __init__(self, route: Route) -> None:
        self._sink = route.sink
        self._context = route.context
        self._skip = route.skip
        self._transforms = [t.open(route.context) for t in route.transforms]
        self._known: Known | None = route.sink.open_known(route.context)

    def process(
        self, chunk: Chunk, records: list[Record], dropped: Counter[str], rejected: list[Rejected]
    ) -> RouteResult:
        if chunk.sequence <= self._skip.get(chunk.partition.id, 0):
            return _SKIPPED
        own_rejected: list[Rejected] = list(rejected)
        if self._transforms:
            records, own_dropped = _transform(self._transforms, records, own_rejected)
            dropped = dropped + own_dropped
        unchanged: tuple[str, ...] = ()
        if self._known is not None and records:
            found = self._known.find([r.key for r in records])
            if found:
                fresh = [r for r in records if not self._is_known(r, found)]
                if len(fresh) < len(records):
                    kept = set(map(id, fresh))
                    unchanged = tuple(r.key for r in records if id(r) not in kept)
                    records = fresh
        payload = self._encode(chunk, records, own_rejected) if records else None
        return RouteResult(payload, unchanged, dropped, tuple(own_rejected))

    def close(self) -> None:
        if self._known is not None:
            self._known.close()

    def _is_known(self, record: Record, found: Mapping[str, tuple[str, str]]) -> bool:
        stored = found.get(record.key)
        if stored is None or self._known is None or stored[0] != self._known.noted(record.source_hash):
            return False
        return stored[1] == self._context.plan_hash or self._context.on_plan_change == "keep"

    def _encode(self, chunk: Chunk, records: list[Record], rejected: list[Rejected]) -> Any:
        def encode(some: Sequence[Record]) -> Any:
            return self._sink.encode(Batch(chunk.partition.id, chunk.sequence, some))

        try:
            return encode(records)
        except FatalError:
            raise
        except Exception:  # noqa: BLE001 - a stranger's code; the record at fault is found below
            good: list[Record] = []
            for record in records:
                try:
                    encode([record])
                except FatalError:
                    raise
                except Exception as error:  # noqa: BLE001
                    rejected.append(_reject(record, "encode", error))
                else:
                    good.append(record)
            return encode(good) if good else None


def _transform(
    transforms: Sequence[Apply], records: list[Record], rejected: list[Rejected]
) -> tuple[list[Record], Counter[str]]:
    """Return what the transforms kept and why they dropped the rest; failures go to ``rejected``."""
    dropped: Counter[str] = Counter()
    for apply in transforms:
        kept: list[Record] = []
        for record in records:
            try:
                result = apply(record)
            except FatalError:
                raise
            except Exception as error:  # noqa: BLE001 - a stranger's code: fail closed
                rejected.append(_reject(record, "transform", error))
                continue
            if isinstance(result, Dropped):
                dropped[result.reason] += 1
            elif result is record:
                kept.append(record)
            else:
                # Whatever the plugin says it does: a changed record does not keep what it was made from.
                kept.append(msgspec.structs.replace(result, raw=None))
        records = kept
    return records, dropped


def _reject(record: Record, stage: str, error: Exception) -> Rejected:
    # Only our own error is known to hold no content; of any other the type must do.
    reason = error.reason if isinstance(error, RecordError) else f"{type(error).__name__} was raised"
    return Rejected(record.origin, stage, reason, record.key)
