"""What moves between the parts of a run, and what is noted of it?

All are small frozen values that can be pickled; only a chunk and a batch hold content.
"""

from collections.abc import Sequence
from typing import Any

import attrs
from attrs import frozen

from muniment.model import JSON, Record, Rejected

Position = JSON
"""Where a chunk ended.  Opaque to the engine; always the end of a whole chunk."""


@frozen
class Partition:
    """An independent part of a source.

    ``id`` is stable for the same content; ``fingerprint`` is of content, never of a path.
    ``size`` (bytes, for progress) may be unknown.  ``complete`` says that the partition holds all
    that its source has, so that absence means something.  ``findings`` are codes about the
    partition itself, such as ``missing_shard``.
    """

    id: str
    fingerprint: str
    label: str
    size: int | None = None
    complete: bool = False
    findings: tuple[str, ...] = ()
    locator: JSON = None


@frozen
class Chunk:
    """A raw slice of a partition.  ``size`` is the bytes read for it; ``rejected`` is what the
    reader itself could not cut."""

    partition: Partition
    sequence: int
    end: Position
    data: Any
    size: int = 0
    rejected: tuple[Rejected, ...] = ()


@frozen
class Idle:
    """Nothing came; yielded at least every second so that units can age and signals are seen."""


@frozen
class Checkpoint:
    """How far a partition is stored.  ``finished`` with ``records`` lets a later run skip it."""

    partition: str
    fingerprint: str
    position: Position
    sequence: int
    finished: bool = False
    records: int = 0
    plan_hash: str = ""
    run: str = ""


@frozen
class Batch:
    """Records of one chunk, encoded and written together."""

    partition: str
    sequence: int
    records: Sequence[Record]


@frozen
class Counts:
    """The conservation equation of one sink: ``read == stored + unchanged + dropped + quarantined``."""

    read: int = 0
    stored: int = 0
    unchanged: int = 0
    dropped: int = 0
    quarantined: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))

    @property
    def holds(self) -> bool:
        return self.read == self.stored + self.unchanged + self.dropped + self.quarantined


@frozen
class Receipt:
    """What became of a payload: records stored, records that the target had already, rejected ones."""

    stored: int
    unchanged: int = 0
    rejected: tuple[Rejected, ...] = ()


@frozen
class Unit:
    """What one seal ends and one commit publishes.

    ``read_whole`` says that the unit ends a partition which this run has read from its beginning.
    """

    run: str
    number: int
    checkpoint: Checkpoint
    counts: Counts
    quarantined: tuple[Rejected, ...] = ()
    read_whole: bool = False


@frozen
class UnitBounds:
    """When a unit ends: whatever comes first.  Of conversations, of bytes read, of seconds since it began."""

    max_records: int = 2000
    max_bytes: int = 64 * 2**20
    max_seconds: float = 30.0


@frozen
class Prepared:
    """A sealed unit, as small JSON: what was made, where, and what it holds.

    ``committed`` says that the writer's own transaction has published it already.
    """

    unit: Unit
    objects: tuple[dict[str, JSON], ...] = ()
    committed: bool = False


@frozen
class Orphan:
    """Something that a killed attempt left behind in a target.

    ``doubt`` says why it may be archived data all the same; then nothing removes it.
    """

    where: str
    size: int = 0
    doubt: str = ""


@frozen
class Damage:
    """Something in a target that is missing or not what was stored; ``keys`` are the records it held."""

    where: str
    keys: tuple[str, ...] = ()


@frozen
class Fence:
    """The right to commit: ``token`` grows with every run on a target."""

    run: str
    token: int = 0
