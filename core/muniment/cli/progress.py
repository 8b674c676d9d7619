"""What does a person see while a run goes on?"""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from muniment.cli import screen
from muniment.events import RunEvent
from muniment.hookspecs import hookimpl
from muniment.pipeline import StopFlag

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

SHOW_AFTER_SECONDS = 0.5
"""A run that ends sooner shows no bar."""

LABEL_CELLS = 28


class Progress:
    """A plugin that hears of a run and draws a bar, on standard error unless ``console`` says else."""

    def __init__(
        self, stop: StopFlag, *, console: "Console | None" = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stop = stop
        self._console = console
        self._clock = clock
        self._started = clock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    @hookimpl
    def muniment_run_event(self, event: RunEvent) -> None:
        if event.kind == "finished":
            self.close()
        elif self._clock() - self._started >= SHOW_AFTER_SECONDS:
            self._show(event)

    def close(self) -> None:
        """Take the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def _show(self, event: RunEvent) -> None:
        if self._bar is None:
            self._bar = _make_bar(self._console)
            self._task = self._bar.add_task("", total=None, numbers="")
            self._bar.start()
        assert self._task is not None
        changes: dict[str, Any] = {"numbers": self._numbers(event)}
        if event.kind == "reading":
            changes["description"] = screen.shorten(screen.line(event.label), LABEL_CELLS)
            changes["completed"] = event.bytes_done
            changes["total"] = event.bytes_total
        if self._stop:
            changes["description"] = "stopping in order"
        with contextlib.suppress(OSError):
            self._bar.update(self._task, **changes)

    def _numbers(self, event: RunEvent) -> str:
        seconds = self._clock() - self._started
        rate = event.conversations / seconds if seconds else 0
        return f"{event.conversations:,} conversations · {rate:,.0f}/s"


def _make_bar(console: "Console | None") -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=False),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=console or Console(stderr=True),
        transient=True,
        expand=True,
    )
