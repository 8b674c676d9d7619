"""The plugin template is a distribution that installs, is found and passes its own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[2] / "plugin-template"


@pytest.fixture(scope="module")
def run_beside(pip, tmp_path_factory):
    """Return a function that runs Python with the template installed beside muniment."""
    target = tmp_path_factory.mktemp("plugin")
    pip("install", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, TEMPLATE)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(target)}
        for name in [n for n in env if n.startswith(("COV_", "COVERAGE_", "PYTEST_"))]:
            del env[name]
        return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False, env=env, cwd=target)

    return run


class TestTemplate:
    def test_is_found_when_installed(self, run_beside):
        """The registry names it and its distribution, and nothing is broken."""
        ask = (
            "from muniment.plugins import load_registry; r = load_registry();"
            "print(r.owner('sinks', 'example'), r.broken, r.conflicts)"
        )

        assert run_beside("-c", ask).stdout.strip() == "('muniment-sink-example', '0.1.0') () ()"

    def test_passes_its_own_tests(self, run_beside):
        """What an author copies works before the first change."""
        done = run_beside(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error",
            "-c", str(TEMPLATE / "pyproject.toml"), "--rootdir", str(TEMPLATE), str(TEMPLATE / "tests"),
        )  # fmt: skip

        assert done.returncode == 0, done.stdout + done.stderr

    def test_is_typed(self, run_beside):
        """What an author copies passes `mypy --strict`."""
        pytest.importorskip("mypy")
        done = run_beside("-m", "mypy", "--strict", "--no-incremental", str(TEMPLATE / "src"))

        assert done.returncode == 0, done.stdout + done.stderr
