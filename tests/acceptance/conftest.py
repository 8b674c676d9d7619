"""Outside test material: the folder that MUNIMENT_CORPORA names, or a loud skip."""

import os
from pathlib import Path

import pytest

from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sources.archive import ArchiveSource
from muniment_plugins.sources.chatgpt_export import ChatGPTExport


@pytest.fixture(scope="session")
def corpora() -> Path:
    folder = os.environ.get("MUNIMENT_CORPORA")
    if not folder:
        pytest.skip("MUNIMENT_CORPORA names no folder of outside test material")
    return Path(folder)


class Quiet:
    def call_run_event(self, event):
        pass


class Runner:
    """Runs one source into one sink and returns the report."""

    def run(self, source, sink):
        step = Step("sink", "sinks[0]", sink)
        plan = Plan(name="test", sources=(Step("source", "source", source),), sinks=(SinkPath(step=step, name="out"),))
        return run(plan, Quiet())

    def load(self, export, archive):
        return self.run(ChatGPTExport(path=str(export)), SQLite(path=str(archive)))

    def files(self, archive, path, **options):
        return self.run(ArchiveSource(path=str(archive)), Files(path=str(path), **options))

    def reload(self, path, archive):
        return self.run(ArchiveSource(path=str(path)), SQLite(path=str(archive)))


@pytest.fixture
def runner() -> Runner:
    return Runner()
