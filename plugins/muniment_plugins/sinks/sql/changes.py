"""What does a batch do to the records that an archive holds?"""

from collections.abc import Iterator, Sequence

from attrs import frozen

from muniment_plugins.sinks.sql.rows import Rows


@frozen
class Held:
    """What the archive holds under a key."""

    number: int
    source_hash: str
    plan_hash: str


@frozen
class Change:
    """A record to be written.  ``before`` is what stands in its place; ``keeps_version``: beside it as a version."""

    rows: Rows
    before: Held | None = None
    keeps_version: bool = False
    drops_versions: bool = False
    is_merged: bool = False


def waves(batch: Sequence[Rows]) -> Iterator[list[Rows]]:
    """Cut a batch so that no conversation comes twice in a part: the second must find the first stored."""
    wave: list[Rows] = []
    seen: set[bytes] = set()
    for rows in batch:
        if rows.digest in seen:
            yield wave
            wave, seen = [], set()
        wave.append(rows)
        seen.add(rows.digest)
    if wave:
        yield wave
