"""What may be purged?  A policy of age, the holds that win over it, and nothing that is not certain."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal

from attrs import define, field, frozen

from muniment.manifest import Manifest

ALL = "all"
"""What stands for the hold of every record, where holds are listed."""


class Verdict(Enum):
    """What becomes of a record."""

    KEEP = "keep"
    HELD = "held"
    PURGE = "purge"


@frozen
class Policy:
    """How long records are kept: so many days since the last version of one was ``archived``, or ``updated``."""

    keep_days: int = field()
    by: Literal["archived", "updated"] = "archived"

    @keep_days.validator
    def _check(self, _: Any, value: int) -> None:
        if value < 0:
            raise ValueError("a record is kept for 0 days or more")


@frozen
class Hold:
    """Why a record must not be purged, who says so, and since when."""

    reason: str = ""
    actor: str = ""
    at: str = ""


@define
class Holds:
    """Which records must not be purged: those of ``keys``, and with ``everything`` all of them."""

    keys: dict[str, Hold] = field(factory=dict)
    everything: Hold | None = None

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> "Holds":
        """Return what all holds and releases of an archive come to, in their order."""
        holds = cls()
        for manifest in manifests:
            holds.hear(manifest)
        return holds

    def hear(self, manifest: Manifest) -> None:
        event: Any = manifest.event
        kind = event.get("kind")
        if kind == "hold":
            hold = Hold(event.get("reason", ""), event["actor"], event["at"])
            self.keys.update(dict.fromkeys(event.get("keys", ()), hold))
            self.everything = hold if event.get("all") else self.everything
        elif kind == "release":
            for key in event.get("keys", ()):
                self.keys.pop(key, None)
            self.everything = None if event.get("all") else self.everything

    def find(self, key: str) -> Hold | None:
        """Return the hold of a record; None where nothing holds it."""
        return self.keys.get(key) or self.everything


@frozen
class Holding:
    """What an archive holds of a record.

    ``archived_at`` is when the last version of it was stored, ``updated_at`` its newest own time (ISO 8601, or
    None where nobody knows); ``hashes`` are those of all of its versions, as the chain has them.
    """

    key: str
    archived_at: str | None
    updated_at: str | None
    hashes: frozenset[str] = frozenset()


def decide(holding: Holding, policy: Policy | None, holds: Holds, now: datetime) -> Verdict:
    """Return what becomes of a record; without a policy it was asked for by name.

    A hold wins over everything.  A record of unknown age is kept.
    """
    if holds.find(holding.key) is not None:
        return Verdict.HELD
    if policy is None:
        return Verdict.PURGE
    since = moment(holding.archived_at if policy.by == "archived" else holding.updated_at)
    if since is None or now - since < timedelta(days=policy.keep_days):
        return Verdict.KEEP
    return Verdict.PURGE


def moment(text: str | None) -> datetime | None:
    """Return a time of a manifest or a record; None where it says none.  Without a zone it is of UTC."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def purged_keys(manifests: Iterable[Manifest]) -> Iterator[str]:
    """Yield the keys of every tombstone."""
    for manifest in manifests:
        if manifest.event.get("kind") == "purge":
            tombstones: Any = manifest.event.get("tombstones", ())
            yield from (t["key"] for t in tombstones)


# --- the clock ------------------------------------------------------------------------------

MOST_BACK = timedelta(minutes=5)
"""How far the clocks of two machines may be apart."""
MOST_AHEAD = timedelta(days=366)
"""How long an archive may have been left alone."""


def clock_problem(now: datetime, last_seen: datetime | None) -> str:
    """Return why the clock is not to be believed; empty where it is.

    ``last_seen`` is the newest time that the archive knows of.
    """
    if last_seen is None:
        return ""
    if now < last_seen - MOST_BACK:
        return f"the clock says {_text(now)}, and this archive was written at {_text(last_seen)}"
    if now > last_seen + MOST_AHEAD:
        return (
            f"the clock says {_text(now)}, more than {MOST_AHEAD.days} days after anything that this archive knows of"
            f" ({_text(last_seen)})"
        )
    return ""


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
