"""In which order do bytes and names become durable?  As the kernel saw it."""

import re
from pathlib import Path

import pytest

LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += 0")


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Return (call, paths) of a first load into files, in their order."""
    import importlib.util
    import sys

    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    try:
        subject = importlib.import_module("subject")
        why_not = importlib.import_module("syscalls").no_strace()
    finally:
        sys.path.remove(folder)
    if why_not:
        pytest.skip(f"this machine cannot run it: {why_not}")
    work = tmp_path_factory.mktemp("order")
    bench = subject.Bench(work / "bench", json_kb=300)
    attempt = bench.attempt(subject.Scenario("files", top_up=False), work / "run")
    attempt.lay_out()
    log = work / "calls"
    trace = "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2,linkat"
    assert attempt.run(("strace", "-f", "-qq", "-y", "-o", str(log), "-e", trace)).code == 0
    found = (LINE.match(line) for line in log.read_text().splitlines())
    place = re.escape(str(attempt.target))
    return [(m[1], re.findall(rf'<{place}/?([^>]*)>|"([^"]*)"', m[2])) for m in found if m]


def at(calls, wanted, text, after=-1):
    """Return the place of the first such call behind another."""
    for number, (call, names) in enumerate(calls):
        flat = "/".join(a or b for a, b in names)
        if number > after and call in wanted and re.search(text, flat):
            return number
    raise AssertionError(f"no {'/'.join(wanted)} of {text} behind call {after}")


class TestOrder:
    def test_data_then_name_then_folder_then_manifest_then_state(self, calls):
        """For every part that was published."""
        parts = [(n, names) for n, (call, names) in enumerate(calls) if call == "linkat" and "part-" in str(names)]
        assert len(parts) > 1
        for published, names in parts:
            staged = next(b for _, b in names if b.endswith(".tmp"))
            flushed = at(calls, ("fsync", "syncfs"), re.escape(staged) + "|^$")
            assert flushed < published
            folder = at(calls, ("fsync", "syncfs"), "^$", published)
            manifest = at(calls, ("linkat",), r"manifests/.*\.json|\d{8}\.json", published)
            durable = at(calls, ("fsync", "syncfs"), "manifests$", manifest)
            state = at(calls, ("fdatasync",), "state.db-wal", manifest)
            assert published < folder < manifest < durable < state
