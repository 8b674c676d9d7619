"""How does a command run a plan?  Signals set a flag, progress goes to a terminal, the report is printed."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from muniment.cli import screen
from muniment.pipeline import RunReport, StopFlag, run

if TYPE_CHECKING:
    from muniment.plan import Plan
    from muniment.plugins import Registry
    from muniment.quarantine_retry import Retried


def run_plan(plan: "Plan", registry: "Registry", *, silent: bool = False, retry_quarantined: bool = False) -> RunReport:
    """Run a plan as a command does; ``silent`` shows no progress.

    Raises:
        MunimentError: the run failed or was stopped.
    """
    with observed(registry, silent=silent) as stop:
        return run(plan, registry, stop=stop, retry_quarantined=retry_quarantined)


def retry_plan(plan: "Plan", registry: "Registry", *, silent: bool = False) -> "Retried":
    """Try again what was kept of quarantined records, as a command does.

    Raises:
        MunimentError: the run failed or was stopped.
    """
    from muniment.quarantine_retry import retry_kept

    with observed(registry, silent=silent) as stop:
        return retry_kept(plan, registry, stop=stop)


@contextlib.contextmanager
def observed(registry: "Registry", *, silent: bool = False) -> Iterator[StopFlag]:
    """Give the flag that signals set; meanwhile progress is shown, unless ``silent``."""
    stop = StopFlag()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        if not silent and sys.stderr.isatty():
            from muniment.cli.progress import Progress

            progress = Progress(stop)
            registry.register(progress, "progress")
            stack.callback(progress.close)
        yield stop


@contextlib.contextmanager
def stop_on_signals(stop: StopFlag) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask the run to end in order; the second ends the process at once."""

    def handle(number: int, _frame: Any) -> None:
        if stop:
            if sys.stderr.isatty():
                # The progress bar has hidden the cursor, and will not come to show it again.
                os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, handle) for n in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def finish(report: RunReport, *, as_json: bool, quiet: bool, more: dict[str, Any] | None = None) -> int:
    """Print a report, as JSON or for people; return the exit code."""
    if quiet or as_json:
        for name, why in report.failed.items():
            screen.error(f"sink `{name}`: {why}")
    if as_json:
        screen.out_json({**report.as_json(), **(more or {})})
    elif not quiet:
        from muniment.cli.report import summary

        for text in summary(report):
            screen.out(text)
    return report.exit_code
