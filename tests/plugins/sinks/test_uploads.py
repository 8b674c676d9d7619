"""Requests that go on beside their caller: bounded, and none of them forgotten."""

import threading

import pytest

from muniment import FatalError, TransientError
from muniment_plugins.sinks._uploads import Uploads


@pytest.fixture
def uploads():
    made = Uploads(2)
    yield made
    made.close()


class TestUploads:
    def test_it_has_done_everything_when_it_was_waited_for(self, uploads):
        done = []
        for i in range(50):
            uploads.submit(lambda i=i: done.append(i))
        uploads.wait()

        assert sorted(done) == list(range(50))

    def test_it_runs_no_more_than_it_may(self, uploads):
        """And holds no more than twice as many."""
        running, most, gate = [0], [0], threading.Lock()

        def call():
            with gate:
                running[0] += 1
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.005)
            with gate:
                running[0] -= 1

        for _ in range(20):
            uploads.submit(call)
            assert len(uploads._running) <= 4
        uploads.wait()

        assert most[0] == 2

    def test_it_tries_again_what_failed_for_the_moment(self, uploads):
        """Each `wait` once."""
        left, done = [2], []

        def call():
            if left[0]:
                left[0] -= 1
                raise TransientError("later")
            done.append(1)

        uploads.submit(call)
        for _ in range(2):
            with pytest.raises(TransientError):
                uploads.wait()
        uploads.wait()

        assert done == [1]

    def test_it_tells_first_what_cannot_end_well(self, uploads):
        """Even if something else failed for the moment."""
        gate = threading.Event()

        def later():
            gate.wait()
            raise TransientError("later")

        def never():
            gate.wait()
            raise FatalError("never")

        uploads.submit(later)
        uploads.submit(never)
        gate.set()

        with pytest.raises(FatalError, match="never"):
            uploads.wait()

    def test_it_forgets_when_it_is_closed(self, uploads):
        def later():
            raise TransientError("later")

        uploads.submit(later)
        uploads.close()
        uploads.wait()
