"""How is the reading and processing of chunks spread over processes?"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import attrs

from muniment.components import Reader, Session
from muniment.process import Processed
from muniment.units import Chunk, Idle, Partition, Position


class Workers(Session, ABC):
    """An engine that was opened for one job; closing it stops the workers."""

    @abstractmethod
    def process(self, partition: Partition, after: Position | None, sequence: int) -> Iterator[Processed | Idle]:
        """Yield the results of a partition's chunks from behind ``after``, in the order of the chunks.

        Chunks are numbered from ``sequence`` + 1.  Only a bounded number of chunks is ever under way.

        Raises:
            InputError: the source cannot be read any further; what came before has been yielded.
        """


def numbered(reader: Reader, partition: Partition, after: Position | None, sequence: int) -> Iterator[Chunk | Idle]:
    """Yield a partition's chunks with their numbers."""
    for chunk in reader.read(partition, after):
        if isinstance(chunk, Idle):
            yield chunk
        else:
            sequence += 1
            yield attrs.evolve(chunk, sequence=sequence)
