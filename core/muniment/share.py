"""Which sinks need a partition, and from where does each of them?"""

import sys
from collections.abc import Sequence

from attrs import frozen

from muniment.sink_run import SinkRun
from muniment.units import Checkpoint, Partition


@frozen
class Share:
    """A partition that is to be read, the sinks that need it, and how far each of them has it.

    With ``skips`` a sink takes nothing until its own place comes; otherwise it knows its records by
    key and hash.
    """

    partition: Partition
    sinks: Sequence[SinkRun]
    own: Sequence[Checkpoint | None]
    skips: bool = False

    @property
    def start(self) -> Checkpoint | None:
        """Where reading starts: the oldest checkpoint, None for the beginning."""
        return min((c for c in self.own if c), key=lambda c: c.sequence) if all(self.own) else None

    def skip_of(self, sink: SinkRun) -> int:
        """Return the number of the last chunk that a sink does not need; 0 where it takes all."""
        if sink not in self.sinks:
            return sys.maxsize
        own = self.own[self.sinks.index(sink)]
        first = self.start.sequence if self.start else 0
        return own.sequence if self.skips and own and own.sequence > first else 0

    def alive(self) -> list[SinkRun]:
        return [s for s in self.sinks if not s.failed]

    def of_the_lost(self) -> "list[Share]":
        """Return what is to be read again, from the start, by sinks that did not find their place."""
        lost = [s for s in self.alive() if s.is_lost]
        for sink in lost:
            sink.forget(self.partition)
        return [from_the_start(self.partition, lost)] if lost else []


def share(partition: Partition, sinks: Sequence[SinkRun], *, exact: bool) -> Share | None:
    """Return what is to be read of a partition; None if every sink has finished it.

    Args:
        partition: what may need reading.
        sinks: those that take part in the run.
        exact: the source gives the same chunks again: a sink that has finished is left out (its
            records count as unchanged), and one that is ahead skips to its place.
    """
    done = {s.name: c for s in sinks if (c := s.finished(partition))}
    if exact or len(done) == len(sinks):
        for sink in sinks:
            if sink.name in done:
                sink.count_unchanged(done[sink.name].records)
        sinks = [s for s in sinks if s.name not in done]
    if not sinks:
        return None
    own = [s.start_of(partition) for s in sinks]
    return Share(partition, sinks, own, skips=exact) if exact or all(own) else from_the_start(partition, sinks)


def from_the_start(partition: Partition, sinks: Sequence[SinkRun]) -> Share:
    """Return a share in which nobody relies on a checkpoint."""
    return Share(partition, sinks, [None] * len(sinks))
