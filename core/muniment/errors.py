"""What went wrong, and what happens next: one tree, by recovery strategy.

::

    MunimentError
    ├── ConfigError      nothing ran; every problem of the file at once          exit 78
    ├── PluginError      this plugin is unusable; the others still work          exit 78
    ├── RecordError      this record cannot be handled: quarantine it, go on     exit 3 at the end
    ├── TransientError   the same call may work later: retry with back-off
    └── FatalError       stop; what was committed stands                         exit 1
        ├── InputError       the input cannot be read                            exit 1
        │   └── DamagedError     encrypted bytes are not what was written        exit 1
        ├── WrongKeyError    no key that was given opens what is encrypted       exit 12
        ├── TargetBusyError  another run holds the target                        exit 11
        └── StoppedError     a signal stopped the run; it can be resumed         exit 130, 143

Plugins choose a class; only the engine decides what to do with it.  A message says what, where and
what to do; it never holds conversation text or a secret.
"""

import attrs


class MunimentError(Exception):
    """Base of every error that muniment raises on purpose."""

    exit_code = 1


_SHOWN_BEFORE = 100  # characters of a line, before the caret and behind it


@attrs.frozen
class Problem:
    """One thing that is wrong in a configuration, with the place where it stands.

    ``line`` and ``column`` count from 1; 0 means that no place is known.  ``source_line`` is the
    text of that line, for the caret.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    source_line: str = ""

    def __str__(self) -> str:
        where = ":".join(str(x) for x in (self.file, self.line, self.column) if x)
        return f"{where}: {self.message}" if where else self.message

    def render(self) -> str:
        """Return the message, the line it stands on and a caret under the column."""
        if not self.source_line:
            return str(self)
        start = max(0, self.column - _SHOWN_BEFORE)
        shown = self.source_line[start : start + 2 * _SHOWN_BEFORE]
        return f"{self}\n    {shown}\n    {' ' * (self.column - 1 - start)}^"


class ConfigError(MunimentError):
    """The configuration cannot be used; nothing ran.  ``problems`` holds all of them."""

    exit_code = 78

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(Problem(p) if isinstance(p, str) else p for p in problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class PluginError(MunimentError):
    """A plugin or component cannot be used; the message names the distribution and the remedy."""

    exit_code = 78


class RecordError(MunimentError):
    """One record cannot be handled.  ``record_id`` names it where the raiser handles several."""

    exit_code = 3

    def __init__(self, reason: str, record_id: str | None = None) -> None:
        self.reason = reason
        self.record_id = record_id
        super().__init__(reason)


class TransientError(MunimentError):
    """The same call may work later.  ``retry_after_seconds`` is what the other side asked for."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class FatalError(MunimentError):
    """The run cannot go on; what was committed stands."""


class InputError(FatalError):
    """The input cannot be read: the message names the file and says what to do."""


class DamagedError(InputError):
    """Encrypted bytes are damaged, cut off, forged, or of a version that is not known.

    What was handed out before it was raised had been verified; nothing behind it is.
    """


class WrongKeyError(FatalError):
    """No key that was given opens what is encrypted.  The message is always the same: it tells nobody why."""

    exit_code = 12

    def __init__(self) -> None:
        super().__init__("no key that was given opens this; it was encrypted for other keys, or its header was changed")


class TargetBusyError(FatalError):
    """Another run holds the target."""

    exit_code = 11


class StoppedError(FatalError):
    """A signal stopped the run.  The next run resumes from what was committed."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by signal {signal_number}; run the same command again to resume")
