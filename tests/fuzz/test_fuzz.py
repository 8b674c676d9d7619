"""Readers of strangers' bytes take anything: what was found before, and a few seconds of new attempts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = sorted(p.stem.removeprefix("fuzz_") for p in HERE.glob("fuzz_*.py"))
SECONDS = 15 if os.environ.get("CI") else 3
FINDINGS = sorted(p for p in (HERE / "findings").glob("*/*") if p.is_file())


def run(*options):
    command = [sys.executable, str(HERE / "run.py"), "--engine", "own", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class TestFuzz:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_few_seconds_find_nothing(self, name, tmp_path):
        """The same inputs each time: longer runs, and new inputs, are for `make fuzz`."""
        done = run("--only", name, "--seconds", str(SECONDS), "--seed", "1", "--keep", tmp_path)

        assert done.returncode == 0, done.stdout + done.stderr

    def test_it_finds_what_is_wrong(self, tmp_path):
        """A loop that could not fail would prove nothing."""
        script = """if True:
            import engines, targets, sys
            from pathlib import Path
            def check(data):
                if b"bug" in data:
                    raise KeyError
            engines.load = lambda name: targets.Target(check, [b"a seed"], [b"bug"])
            sys.exit(engines.fuzz("x", 20, 1, Path(sys.argv[1])))
        """
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], cwd=HERE, capture_output=True, text=True, check=False
        )

        assert done.returncode == 1, done.stdout + done.stderr
        assert [b"bug" in p.read_bytes() for p in tmp_path.iterdir()] == [True]


@pytest.fixture(scope="module")
def load():
    """Return what makes a target; its modules are importable only here."""
    before = list(sys.path)
    sys.path.insert(0, str(HERE))
    from targets import load

    yield load
    sys.path[:] = before


class TestFindings:
    @pytest.mark.parametrize("path", FINDINGS, ids=lambda p: f"{p.parent.name}-{p.name}")
    def test_what_was_found_once_stays_mended(self, path, load):
        """Each is an input that a reader once did not survive."""
        load(path.parent.name).check(path.read_bytes())
