"""Everything in one process: the path that a debugger wants."""

from collections.abc import Iterator

from attrs import frozen

from muniment.components import Engine, Reader
from muniment.engine import Workers, numbered
from muniment.process import Job, Processed, Processor
from muniment.units import Idle, Partition, Position


@frozen(kw_only=True)
class Local(Engine):
    """Run in this process."""

    def open(self, job: Job, reader: Reader) -> Workers:
        return LocalWorkers(job, reader)


class LocalWorkers(Workers):
    """No workers at all."""

    def __init__(self, job: Job, reader: Reader) -> None:
        self._reader = reader
        self._processor = Processor(job)

    def process(self, partition: Partition, after: Position | None, sequence: int) -> Iterator[Processed | Idle]:
        for chunk in numbered(self._reader, partition, after, sequence):
            yield chunk if isinstance(chunk, Idle) else self._processor.process(chunk)

    def close(self) -> None:
        self._processor.close()
