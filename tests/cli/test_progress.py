"""What a person sees while a run goes on."""

import io

import pytest
from rich.console import Console

from muniment.cli.progress import Progress
from muniment.events import RunEvent
from muniment.pipeline import StopFlag


class Screen:
    """A progress bar on a terminal of text, under a clock that stands still."""

    def __init__(self):
        self.now = 100.0
        self.stop = StopFlag()
        self.text = io.StringIO()
        console = Console(file=self.text, force_terminal=True, width=100, color_system=None)
        self.progress = Progress(self.stop, console=console, clock=lambda: self.now)

    def hear(self, kind, **facts):
        self.progress.muniment_run_event(RunEvent(kind=kind, run="r", **facts))

    def shown(self):
        bar = self.progress._bar
        if bar is not None:
            bar.refresh()
        return self.text.getvalue()


@pytest.fixture
def screen():
    made = Screen()
    yield made
    made.progress.close()


class TestProgress:
    def test_a_short_run_shows_nothing(self, screen):
        screen.hear("started")
        screen.now += 0.4
        screen.hear("reading", label="export.zip", bytes_done=5, bytes_total=10)
        screen.hear("finished", exit_code=0)

        assert screen.shown() == ""

    def test_a_longer_one_shows_bytes_conversations_and_rate(self, screen):
        screen.now += 2
        screen.hear("reading", label="export.zip", bytes_done=5_000_000, bytes_total=10_000_000, conversations=3000)
        shown = screen.shown()

        assert "export.zip" in shown
        assert "5.0/10.0 MB" in shown
        assert "3,000 conversations · 1,500/s" in shown

    def test_counts_the_bytes_of_the_part_that_is_read(self, screen):
        screen.hear("reading", label="1.json", bytes_done=10_000_000, bytes_total=10_000_000)
        screen.now += 2
        screen.hear("reading", label="2.json", bytes_done=13_000_000, bytes_total=5_000_000)

        assert "3.0/5.0 MB" in screen.shown()

    def test_says_that_it_is_stopping(self, screen):
        screen.now += 2
        screen.stop.set(2)
        screen.hear("reading", label="export.zip", bytes_done=5, bytes_total=10)

        assert "stopping in order" in screen.shown()

    def test_a_label_cannot_control_the_terminal(self, screen):
        screen.now += 2
        screen.hear("reading", label="a\x1b]0;evil\x07[bold]b", bytes_done=5, bytes_total=10)

        assert "a]0;evil[bold]b" in screen.shown()

    def test_closes_twice(self, screen):
        screen.now += 2
        screen.hear("reading", label="a", bytes_done=5, bytes_total=None)
        screen.hear("finished", exit_code=0)
        screen.progress.close()

        assert "\x1b[?25h" in screen.shown()  # the cursor is back
