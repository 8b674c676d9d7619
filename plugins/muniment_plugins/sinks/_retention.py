"""How long can nobody remove an object?"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from attrs import frozen

from muniment import option


@frozen(kw_only=True)
class Retention:
    """A time for which the store refuses to delete or replace an object."""

    mode: Literal["unlocked", "locked"] = option(
        "unlocked: who has the right can shorten it; locked: nobody can.", default="unlocked"
    )
    retain_days: int | None = option("How many days an object is kept, from when it is written.", default=None)
    retain_until: datetime | None = option("Until when every object is kept, instead.", default=None)

    def problem(self) -> str:
        """Return what is wrong with the options together, or nothing."""
        if (self.retain_days is None) == (self.retain_until is None):
            return "`object_lock` needs either `retain_days` or `retain_until`"
        if self.retain_days is not None and self.retain_days < 1:
            return "`object_lock.retain_days` must be at least 1"
        return ""

    def until(self) -> datetime:
        """Return when the retention of an object ends that is written now."""
        if self.retain_until is not None:
            return self.retain_until if self.retain_until.tzinfo else self.retain_until.replace(tzinfo=UTC)
        return datetime.now(UTC) + timedelta(days=self.retain_days or 0)
