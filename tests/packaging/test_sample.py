"""The shipped sample is the one that `tests/data/make_sample.py` describes."""

import runpy
import zipfile
from importlib.resources import files
from pathlib import Path

MAKER = Path(__file__).parents[1] / "data" / "make_sample.py"


def test_the_sample_is_up_to_date():
    """Run the script again after a change to it."""
    made = runpy.run_path(str(MAKER))["members"]()

    with files("muniment.sample").joinpath("chatgpt-export.zip").open("rb") as file, zipfile.ZipFile(file) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist()}

    assert shipped == made
