"""How is a call tried again where the one above it cannot be repeated?"""

from collections.abc import Callable
from typing import TypeVar

from muniment.errors import FatalError, TransientError
from muniment.retry import retry

T = TypeVar("T")


def retried_here(call: Callable[[], T]) -> T:
    """Return what ``call`` returns; what the caller did before is not done twice.

    Raises:
        FatalError: it fails still.
    """
    try:
        return call()
    except TransientError:
        # The usual case has no need of the machinery: this is called for each record.
        pass
    try:
        return retry(call)
    except TransientError as error:
        raise FatalError(f"{error}; run the same command again to resume") from error
