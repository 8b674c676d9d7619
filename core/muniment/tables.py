"""How do records become tables: several objects, encoded a batch at a time?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import frozen

from muniment.components import AssetLinks, Format
from muniment.model import Record
from muniment.objects import ByteStream
from muniment.units import UnitBounds


class TablePart(ABC):
    """The tables of one part while they are written."""

    @property
    @abstractmethod
    def held(self) -> int:
        """Bytes that wait in memory."""

    @abstractmethod
    def add(self, batch: Any) -> None:
        """Add what `TableFormat.encode_batch` or `TableFormat.select` made."""

    @abstractmethod
    def flush(self) -> None:
        """Write what waits."""

    @abstractmethod
    def close(self) -> None:
        """Write what waits and what stands at the end of each table.  The streams stay open."""


@frozen(kw_only=True)
class TableFormat(Format):
    """A format that encodes many records at once and assembles its parts itself, one object per table.

    It is for folders and buckets in ``mode: append``, and, with one table, for one file in
    ``mode: snapshot``.  Where the records are is its own: the first of its tables is the one that
    `decode` reads.
    """

    default_key: ClassVar[str]
    """The template of names, without the ending; ``{table}`` and ``{part}`` stand in it."""
    unit: ClassVar[UnitBounds] = UnitBounds(50_000, 256 * 2**20, 300.0)
    """Where a unit ends unless the pipeline says so: many small parts make tables slow to read."""

    @property
    def table_names(self) -> tuple[str, ...]:
        """The tables that these options ask for."""
        raise NotImplementedError

    def encode_batch(self, records: Sequence[Record], links: AssetLinks) -> Any:
        """Return the rows of ``records``, as something that can be pickled.  Pure; runs in a worker."""
        raise NotImplementedError

    def select(self, batch: Any, records: Sequence[int]) -> Any:
        """Return a batch with only these records, by place and ascending, that shares no memory with ``batch``."""
        raise NotImplementedError

    def join(self, batches: Sequence[Any]) -> Any:
        """Return one batch with the records of all, in their order; ``batches`` may be used up."""
        raise NotImplementedError

    def size_of(self, batch: Any) -> int:
        """Return the bytes of memory that a batch takes."""
        raise NotImplementedError

    def begin(self, streams: Mapping[str, ByteStream]) -> TablePart:
        """Begin a part, whose tables go into ``streams`` by name."""
        raise NotImplementedError
