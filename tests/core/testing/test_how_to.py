"""The page about testing a sink says what works."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

from muniment.testing import SinkContract
from muniment.testing.hard_records import NEEDS

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "test-a-sink.md"


class TestPage:
    def test_its_example_keeps_the_contract(self, tmp_path):
        """The test file of the page passes, as a stranger would run it."""
        code, settings = (
            re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1] for kind in ("python", "toml")
        )
        (tmp_path / "test_lines.py").write_text(code)
        (tmp_path / "pyproject.toml").write_text(settings)

        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not any_record", "-W", "error"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "failed" not in ran.stdout and int(re.search(r"(\d+) passed", ran.stdout)[1]) > 40

    def test_it_names_every_attribute(self):
        """What a test class can say is in the table, and nothing else."""
        said = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)

        attributes = {n for n in get_type_hints(SinkContract) if n != "state_dir" and not n.startswith("_")}
        assert set(said) == attributes and len(said) == len(attributes)
        assert all(f"`{need}`" in PAGE.read_text() for need in NEEDS)
