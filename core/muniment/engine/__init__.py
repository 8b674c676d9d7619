"""How are chunks spread over processes?"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from muniment.components import Chunk, Idle
from muniment.process import Job, Processed


class Workers(ABC):
    """An engine that was opened for one job; a context manager."""

    @abstractmethod
    def map(self, chunks: Iterable[Chunk | Idle]) -> Iterator[Processed | Idle]:
        """Yield each chunk's result, in the order of the chunks, at most a small window behind them."""

    def close(self) -> None:  # noqa: B027 - not every engine has something to stop
        """Stop the workers."""

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["Job", "Processed", "Workers"]
