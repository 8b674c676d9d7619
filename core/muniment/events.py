"""What does a run tell its observers?  Counts and names, never content."""

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from muniment.units import Counts

EventKind = Literal["started", "reading", "committed", "quarantined", "finished"]


@frozen
class RunEvent:
    """Something that happened in a run.

    ``reading`` comes about every tenth of a second with ``bytes_done`` of ``bytes_total`` (of all
    that is to be read; None where that is unknown), in the partition ``label``; ``committed`` after
    each unit; ``finished`` once, with ``exit_code``.  ``counts`` are the sums so far, by sink.
    """

    kind: EventKind
    run: str
    pipeline: str = ""
    label: str = ""
    bytes_done: int = 0
    bytes_total: int | None = None
    conversations: int = 0
    messages: int = 0
    counts: Mapping[str, Counts] = field(factory=dict)
    exit_code: int | None = None
