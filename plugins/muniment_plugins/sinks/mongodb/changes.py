"""What does a unit do to the conversations that it names?"""

from collections.abc import Iterable, Iterator

import attrs
from attrs import define, field, frozen

from muniment import Origin
from muniment_plugins.sinks.mongodb.encode import Document

_BATCH_BYTES = 8 * 2**20
_BATCH_OPERATIONS = 1000


@frozen
class Held:
    """What the archive, or the open unit, holds of a conversation.  ``record`` is empty until it is needed."""

    source_hash: str
    plan_hash: str
    run: str = ""
    record: bytes = b""


@define
class Change:
    """What a unit does to one conversation.

    ``origins`` are of the records that count as stored by it; ``versions`` are earlier states to keep.
    ``forgets``: all earlier states go, ``gone`` among them.
    """

    document: Document
    replaces: bool
    origins: list[Origin] = field(factory=list)
    versions: list[Held] = field(factory=list)
    forgets: bool = False
    gone: list[bytes] = field(factory=list)

    def copy(self) -> "Change":
        """Return a change that can be changed without this one."""
        return attrs.evolve(self, origins=list(self.origins), versions=list(self.versions), gone=list(self.gone))


def batches(documents: Iterable[tuple[Change, bytes]]) -> Iterator[list[tuple[Change, bytes]]]:
    """Yield documents in batches of bounded size and number; one that is larger stands alone."""
    batch: list[tuple[Change, bytes]] = []
    size = 0
    for change, data in documents:
        if batch and (size + len(data) > _BATCH_BYTES or len(batch) >= _BATCH_OPERATIONS):
            yield batch
            batch, size = [], 0
        batch.append((change, data))
        size += len(data)
    if batch:
        yield batch
