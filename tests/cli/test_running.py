"""How a command runs a plan, and how signals end it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

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


class TestASignalToAPool:
    MAX_SECONDS_TO_STOP = 10

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("send", [os.kill, os.killpg])
    def test_it_stops_in_order_and_leaves_no_process(self, send, number, tmp_path):
        """To the run alone, or to its group as terminals and service managers do: only the run itself hears it."""
        with zipfile.ZipFile(tmp_path / "export.zip", "w") as export:
            export.writestr("conversations.json", json.dumps([_conversation(n) for n in range(4000)]))
        muniment = str(Path(sys.executable).with_name("muniment"))
        command = [muniment, "import", "export.zip", "--to", "out", "--workers", "2", "-q"]
        with subprocess.Popen(
            command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True
        ) as process:  # fmt: skip
            # From here on the signals are handled, and workers start.
            while not (tmp_path / ".out.lock").exists():
                assert process.poll() is None
                time.sleep(0.005)
            send(process.pid, number)
            text = process.communicate(timeout=self.MAX_SECONDS_TO_STOP)[1]

        assert (process.returncode, "worker process died" in text) == (128 + number, False), text
        # What multiprocessing keeps beside the workers ends when it notices that nobody is left.
        until = time.monotonic() + 2
        while list(_session(process.pid)) and time.monotonic() < until:
            time.sleep(0.02)
        assert list(_session(process.pid)) == []
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (again.returncode, again.stderr) == (0, "")


def _session(leader):
    """Yield the processes of a session that still run."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                yield stat.parent.name


def _conversation(number):
    message = {"id": f"m{number}", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["hello"]}}
    return {
        "id": f"c{number}",
        "create_time": 1735700000.0,
        "current_node": "n",
        "mapping": {"n": {"message": message}},
    }
