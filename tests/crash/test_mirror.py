"""A mirror that is killed between an object and the manifest that names it: the next run makes it whole."""

import importlib
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def modules():
    """Return (subject, syscalls), which are importable only here."""
    sys.path.insert(0, HERE)
    try:
        found = importlib.import_module("subject"), importlib.import_module("syscalls")
    finally:
        sys.path.remove(HERE)
    if why_not := found[1].no_strace():
        pytest.skip(f"this machine cannot run it: {why_not}")
    return found


@pytest.mark.parametrize("sink", ["mirror", "mirror encrypted"])
class TestMirror:
    def test_killed_before_its_manifest_it_resumes(self, sink, modules, tmp_path):
        """Objects were replaced that no manifest names yet: nothing is lost, and the next run names them."""
        subject, syscalls = modules
        bench = subject.Bench(tmp_path / "bench", json_kb=300)
        scenario = subject.Scenario(sink, top_up=True)
        # Objects are renamed onto the old ones; what may not be there before is linked, and here only manifests are.
        first = next(f for f in syscalls.faults(bench, scenario) if (f.call, f.what) == ("linkat", "SIGKILL"))
        attempt = bench.attempt(scenario, tmp_path / "attempt")
        attempt.lay_out()
        killed = attempt.run(("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", first.inject))

        assert killed.code in (-9, 137)
        assert any("is not what its manifest says" in p for p in attempt.read(ended=True).problems)
        assert [*attempt.wrong_now(), *attempt.wrong_at_last()] == []
