"""Everything in one process: the path that a debugger wants."""

from collections.abc import Iterable, Iterator

from attrs import frozen

from muniment.components import Chunk, Engine, Idle
from muniment.engine import Workers
from muniment.process import Job, Processed, Processor


@frozen(kw_only=True)
class Local(Engine):
    """Run in this process."""

    def open(self, job: Job) -> Workers:
        return _LocalWorkers(Processor(job))


class _LocalWorkers(Workers):
    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def map(self, chunks: Iterable[Chunk | Idle]) -> Iterator[Processed | Idle]:
        for chunk in chunks:
            yield chunk if isinstance(chunk, Idle) else self._processor.process(chunk)

    def close(self) -> None:
        self._processor.close()
