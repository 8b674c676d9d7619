"""How is an unexpected error shown, without what it holds?

Its text may quote a conversation or a secret, and so may a local variable: shown is where it was raised, in
which lines of the program, and its type.  The text is shown of our own errors alone, which never hold either.
"""

import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from muniment.errors import MunimentError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"


def describe_error(error: BaseException) -> str:
    """Return the traceback of an error, behind those of what led to it; it ends with a line break."""
    return "".join(_described(error, set()))


def install_hooks() -> None:
    """Show errors that nobody catches, in threads and finalisers too, as `describe_error` does, in this process."""
    sys.excepthook = _show
    threading.excepthook = _show_of_thread
    sys.unraisablehook = _show_unraisable


def _described(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _described(before, seen)
        yield _CAUSED if error.__cause__ else _DURING
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(error.__traceback__)
    yield f"{_named(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from (f"  | {line}" for line in describe_error(inner).splitlines(keepends=True))


def _named(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    # Which module or name is not there is no content either.
    if isinstance(error, MunimentError | ImportError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    return name


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(describe_error(error))


def _show_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _show(args.exc_type, args.exc_value, args.exc_traceback)


def _show_unraisable(args: "UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        _show(args.exc_type, args.exc_value, args.exc_traceback)
