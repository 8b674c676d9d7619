"""Requests that go on beside their caller: bounded, and none of them forgotten."""

import threading
from contextlib import suppress

import pytest

from muniment import FatalError, TransientError
from muniment_plugins.sinks._background import Background


@pytest.fixture
def background():
    made = Background(2, 3)
    yield made
    made.close()


def later():
    raise TransientError("later")


class Most:
    """The most calls that ran at once."""

    def __init__(self):
        self.running = self.most = 0
        self.gate = threading.Lock()

    def __call__(self):
        with self.gate:
            self.running += 1
            self.most = max(self.most, self.running)
        threading.Event().wait(0.005)
        with self.gate:
            self.running -= 1


class TestBackground:
    def test_it_has_done_everything_when_it_has_settled(self, background):
        done = []
        for i in range(50):
            background.submit("a", lambda i=i: done.append(i))
        background.settle()

        assert sorted(done) == list(range(50))

    def test_it_runs_no_more_than_it_may(self, background):
        """And holds no more than twice as many."""
        most = Most()
        for _ in range(20):
            background.submit("a", most)
            assert len(background._running) <= 4
        background.settle()

        assert most.most == 2

    def test_it_leaves_room_for_the_part_that_fills(self):
        """Of three parts one is the caller's."""
        background, most = Background(8, 3), Most()
        for _ in range(20):
            background.submit("a", most, large=True)
        background.settle()
        background.close()

        assert most.most == 2

    def test_it_tries_again_what_failed_for_the_moment(self, background):
        """Each time that it is to settle."""
        done, left = [], [4]

        def call():
            if left[0]:
                left[0] -= 1
                raise TransientError("later")
            done.append(1)

        background.submit("a", call)
        while not done:
            with suppress(TransientError):
                background.settle()
        background.settle()

        assert done == [1]

    def test_it_settles_for_one_owner(self, background):
        """What failed for another is kept."""
        done = []
        background.submit("a", later)
        background.submit("b", lambda: done.append("b"))
        background.settle("b")

        assert done == ["b"]
        with pytest.raises(TransientError):
            background.settle("a")

    def test_it_forgets_what_is_not_wanted_any_more(self, background):
        background.submit("a", later)
        background.forget("a")
        background.settle()

    def test_it_tells_first_what_cannot_end_well(self, background):
        """Even if something else failed for the moment."""
        gate = threading.Event()

        def waits():
            gate.wait()
            raise TransientError("later")

        def never():
            gate.wait()
            raise FatalError("never")

        background.submit("a", waits)
        background.submit("b", never)
        gate.set()

        with pytest.raises(FatalError, match="never"):
            background.settle()
