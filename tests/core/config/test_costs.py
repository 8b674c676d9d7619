"""A pipeline file that somebody else wrote is refused within ten seconds and 200 MB, whatever it holds."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MAX_SECONDS, MAX_MB = 10, 200
SCRIPT = """
import json, re, sys, time
from pathlib import Path
from muniment.cli import main
sys.argv = ["muniment", "plan", sys.argv[1]]
try:
    code = main()
except SystemExit as ended:
    code = ended.code
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([code, time.process_time(), peak]))
"""

LAUGHS = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)
])  # fmt: skip
FILES = {
    "aliases of aliases": LAUGHS,
    "a long list of aliases": "a: &a {k: v}\nb: [" + "*a, " * 24_000 + "]",
    "nested lists": "[" * 99_000,
    "nested mappings": "{a: " * 24_000,
    "nested blocks": "- " * 49_000,
    "many values": "[" + "1," * 49_000 + "]",
    "many keys": "".join(f"k{n}: 1\n" for n in range(10_000)),
    "one key again and again": "a: 1\n" * 19_000,
    "many problems": "source: {" + ", ".join(f"k{n}: 1" for n in range(10_000)) + "}",
    "many documents": "---\n" * 24_000,
    "a long number": "version: " + "9" * 90_000,
    "a long octal": "version: 0o" + "7" * 90_000,
    "a long sexagesimal": "version: 1" + ":59" * 30_000,
    "a long float": "version: 1e" + "9" * 90_000,
    "many tags": "a: " + "!!binary " * 10_000,
    "escapes": 'a: "' + "\\U0001F600" * 9_000 + '"',
    "more than is read": "# " + "x" * 50_000_000,
}

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")


@pytest.fixture
def cost(tmp_path: Path) -> Callable[[str], tuple[int, float, float]]:
    """Return a function that plans a file in a process of its own; `pytest -s` shows what each has cost."""

    def measure(text: str) -> tuple[int, float, float]:
        path = tmp_path / "pipeline.yaml"
        path.write_text(text)
        command = [sys.executable, "-c", SCRIPT, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        code, seconds, peak = json.loads(done.stdout.splitlines()[-1])
        print(f"\n{path.stat().st_size:,} bytes: exit code {code}, {seconds:.2f} s, {peak:.0f} MB")
        return code, seconds, peak

    return measure


class TestPipelineFiles:
    @pytest.mark.parametrize("text", FILES.values(), ids=FILES)
    def test_are_refused_cheaply(self, text: str, cost: Callable[[str], tuple[int, float, float]]) -> None:
        code, seconds, peak = cost(text)

        assert code == 78
        assert seconds < MAX_SECONDS
        assert peak < MAX_MB
