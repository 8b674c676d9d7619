"""How did a run end?"""

from collections import Counter
from typing import Any

import attrs
from attrs import field, frozen

from muniment.units import Counts


@frozen
class RunReport:
    """How a run ended: ``sinks`` holds the conservation equation of each sink, by name.

    ``failed`` says of each sink that failed, while others continued, why: its checkpoint stays where it
    was, and the next run goes on from there.
    ``findings`` counts what was noticed, by code; ``unchanged_partitions`` are (label, run that
    archived it, records) of inputs that were finished before; ``incomplete`` says that the source
    names a shard or asset which is missing; ``absent`` counts, by sink, what a complete source no
    longer holds, and which is marked since this run; ``superseded`` are, by sink, quarantine entries that
    this run has resolved because the sink holds a newer version.
    """

    run: str
    pipeline: str
    exit_code: int
    sinks: dict[str, Counts]
    findings: dict[str, int]
    dropped: dict[str, int]
    conversations: int
    messages: int
    bytes_read: int
    seconds: float
    unchanged_partitions: tuple[tuple[str, str, int], ...]
    quarantined: int
    incomplete: bool
    failed: dict[str, str] = field(factory=dict)
    absent: dict[str, int] = field(factory=dict)
    superseded: dict[str, tuple[str, ...]] = field(factory=dict)

    def behind(self, before: "RunReport") -> "RunReport":
        """Return what this run and the one ``before`` it came to together, as one report."""
        names = {**before.sinks, **self.sinks}
        return attrs.evolve(
            self,
            sinks={n: before.sinks.get(n, Counts()) + self.sinks.get(n, Counts()) for n in names},
            findings=dict(Counter(before.findings) + Counter(self.findings)),
            dropped=dict(Counter(before.dropped) + Counter(self.dropped)),
            conversations=before.conversations + self.conversations,
            messages=before.messages + self.messages,
            bytes_read=before.bytes_read + self.bytes_read,
            seconds=before.seconds + self.seconds,
            incomplete=before.incomplete or self.incomplete,
            failed={**before.failed, **self.failed},
            superseded={**before.superseded, **self.superseded},
            exit_code=1 if before.failed else self.exit_code,
        )

    def as_json(self) -> dict[str, Any]:
        report = attrs.asdict(self)
        report["unchanged_partitions"] = [
            {"label": label, "run": run, "records": n} for label, run, n in self.unchanged_partitions
        ]
        return report
