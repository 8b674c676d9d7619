"""The documentation says what the code says."""

import importlib.util
import re
from pathlib import Path

import pytest

from muniment import config
from muniment.plugins import load_registry

DOCS = Path(__file__).parents[2] / "docs"


def generator():
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "reference" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["components.md", "cli.md"])
def test_a_reference_page_is_what_the_code_says(page):
    """`python docs/reference/generate.py` writes it anew."""
    assert (DOCS / "reference" / page).read_text() == generator().PAGES[page]()


def pages():
    return [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]


@pytest.mark.parametrize("path", pages(), ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    """No page names a file that is not there."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())

    assert [t for t in targets if not (path.parent / t).exists()] == []


def pipelines():
    for path in pages():
        for number, text in enumerate(re.findall(r"```yaml\n(version: 1\n.*?)```", path.read_text(), re.DOTALL)):
            yield pytest.param(text, id=f"{path.name}-{number}")


@pytest.mark.parametrize("text", list(pipelines()))
def test_every_pipeline_in_the_docs_is_valid(text, tmp_path, monkeypatch):
    """The examples can be copied."""
    monkeypatch.setenv("ARCHIVE_URL", "postgresql://archiver@db.example.org/archive")
    plan = config.parse(text, file="example.yaml", base=tmp_path, registry=load_registry(allow=["muniment"]))

    assert plan.sinks
