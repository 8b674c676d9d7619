"""How is an object written once, though answers get lost?  It carries a mark by which its writer knows it again.

An answer that does not come leaves open whether the object was written.  With a precondition, writing it
again would fail because of one's own success; without one it would make a second version.  So every
object has the random mark of the attempt that made it, and after an unclear answer the store is asked
whose object stands there; what is then written is bound to just that.
"""

import time
from collections.abc import Callable
from typing import Protocol

from muniment import TransientError
from muniment.retry import retry

MARK = "muniment_attempt"
"""The key of the mark in an object's metadata; a form that every store takes."""

ABSENT = ""
"""The version of what does not exist."""


class UnclearError(TransientError):
    """It failed for the moment, and whether the request was carried out is not known."""


class ChangedError(Exception):
    """What stands at a name is not the version that the request was bound to."""


class Marked(Protocol):
    """An object that stands in the store; ``version`` changes with every write."""

    @property
    def version(self) -> str: ...

    @property
    def mark(self) -> str: ...


def write_once(
    name: str,
    mark: str,
    *,
    find: Callable[[], Marked | None],
    write: Callable[[str | None], object],
    if_absent: bool,
    looks: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write an object, trying again until it is clear that it stands there.

    Args:
        name: what the caller calls the object.
        mark: the mark that ``write`` gives it.
        find: returns what stands at the name.
        write: writes, bound to a version of what it replaces (`ABSENT`, or any with None); raises
            `ChangedError` where the precondition does not hold.
        if_absent: nothing may be replaced.
        looks: look first, because the store ignores preconditions.
        sleep: waits between attempts.

    Raises:
        FileExistsError: ``if_absent``, and the name is another's.
        TransientError: it was tried for a while; the same call may work later.
    """
    version = ABSENT if if_absent and not looks else None
    unclear = looks and if_absent

    def stands_already() -> bool:
        """Say whether the object is there; if not, bind the next write to what is there instead."""
        nonlocal version
        found = find()
        if found is not None and found.mark == mark:
            return True
        if found is not None and if_absent:
            raise FileExistsError(name)
        version = found.version if found else ABSENT
        return False

    def attempt() -> None:
        nonlocal unclear
        if unclear and stands_already():
            return
        unclear = False
        try:
            write(version)
        except UnclearError:
            unclear = True
            raise
        except ChangedError:
            if not stands_already():
                raise TransientError(f"object `{name}` is being written by another at the same time") from None

    retry(attempt, sleep=sleep)
