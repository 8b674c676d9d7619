"""How a command runs a plan, and how signals end it."""

import os
import signal
import subprocess
import sys

import pytest

from muniment.cli.running import run_plan, stop_on_signals
from muniment.errors import StoppedError
from muniment.pipeline import StopFlag
from muniment.plan import Plan, SinkPath, Step
from muniment.plugins import load_registry
from muniment.testing import ListSource, MemoryStore, MemoryUpsert, make_record


class TestStopOnSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_signal_only_sets_the_flag(self, number):
        stop = StopFlag()
        with stop_on_signals(stop):
            os.kill(os.getpid(), number)

            assert stop.signal_number == number

    def test_the_handlers_before_are_put_back(self):
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        with stop_on_signals(StopFlag()):
            pass

        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before

    def test_the_second_signal_ends_the_process_at_once(self):
        code = (
            "import os, signal\n"
            "from muniment.cli.running import StopFlag, stop_on_signals\n"
            "with stop_on_signals(StopFlag()):\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
        )

        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM


class TestRunPlan:
    def plan(self, store, records):
        return Plan(
            name="test",
            sources=(Step("list", "source", ListSource(records=records)),),
            sinks=(SinkPath(step=Step("memory", "sinks[0]", MemoryUpsert(store=store)), name="memory"),),
        )

    def test_returns_the_report(self):
        report = run_plan(self.plan(MemoryStore(), [make_record("a"), make_record("b")]), load_registry())

        assert (report.exit_code, report.sinks["memory"].stored) == (0, 2)

    def test_a_signal_stops_in_order_and_the_next_run_goes_on(self):
        store = MemoryStore()
        records = [make_record(f"c{i}") for i in range(5)]
        writes = []

        def interrupt():
            writes.append(1)
            if len(writes) == 2:
                os.kill(os.getpid(), signal.SIGINT)

        store.before_write = interrupt
        with pytest.raises(StoppedError) as stopped:
            run_plan(self.plan(store, records), load_registry())

        assert stopped.value.exit_code == 130
        assert len(store.records) == 2
        assert run_plan(self.plan(store, records), load_registry()).sinks["memory"].stored == 3
