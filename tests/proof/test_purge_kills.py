"""Killed anywhere, a purge has done nothing, or the same plan run again does the rest; the archive is sound."""

import os
import shutil
import signal
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muniment.components import Context
from muniment.purge import make_plan, run_plan
from muniment.testing import make_record
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite

SECRET = b"xylophone-canary-7193"
EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir")


def sink_at(kind, path):
    if kind == "sqlite":
        return SQLite(path=str(path))
    return Files(path=path, format="json", mode="mirror") if kind == "mirror" else Files(path=path, format="jsonl")


@pytest.fixture(params=["parts", "mirror", "sqlite"])
def kind(request):
    return request.param


@pytest.fixture
def archive(kind, archives, tmp_path):
    path = tmp_path / ("a.db" if kind == "sqlite" else "a")
    records = [make_record(f"c{i}", (f"text {i}", "answer"), title=f"t{i}") for i in range(4)]
    records.append(make_record("c-secret", (SECRET.decode(), "answer"), title="t"))
    archives.archive(sink_at(kind, path), records, {}, max_unit_records=3)
    return path


def context(run):
    return Context(run=f"20260101T000000-{run:08x}", path="sinks[0]")


def purge(kind, path, plan, run):
    with sink_at(kind, path).open_custody(context(run)) as custody:
        return run_plan(plan, custody, actor="ann", now=datetime.now(UTC))


def purge_until(kind, path, plan, steps):
    """Purge in a process that is killed at its ``steps``-th step; return how many it took, 0 if it was killed."""
    end, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        with os.fdopen(end, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return int(said or 0)
    try:
        taken = [0]

        def step(*_):
            taken[0] += 1
            if taken[0] == steps:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event, arguments):
            if event in EVENTS and str(path.parent) in str(arguments[0]):
                step()

        if kind == "sqlite":
            connect = sqlite3.connect

            def traced(*arguments, **named):
                connection = connect(*arguments, **named)
                connection.set_trace_callback(step)
                return connection

            sqlite3.connect = traced
        else:
            sys.addaudithook(hook)
        purge(kind, path, plan, steps)
        os.write(told, str(taken[0]).encode())
        os._exit(0)
    except BaseException:
        os._exit(1)


def content(path):
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else path.parent.glob(f"{path.name}*")
    return b"".join(f.read_bytes() for f in files)


class TestKills:
    @pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.slow)])
    def test_nothing_is_lost_and_the_rest_is_done(self, kind, archive, archives, second_verifier, tmp_path, kills):
        """At so many steps, from the first one to the last."""
        with sink_at(kind, archive).open_custody(context(0)) as custody:
            plan = make_plan(
                custody, target="a", sink="", policy=None, keys=["test:c-secret"], reason="r", now=datetime.now(UTC)
            )
        whole = tmp_path / "whole"
        shutil.copytree(archive, whole) if archive.is_dir() else shutil.copy(archive, whole)
        killed, done = 0, set()
        total = purge_until(kind, archive, plan, 0)
        for steps in sorted({1 + i * total // kills for i in range(kills)}):
            self.restore(archive, whole)
            killed += not purge_until(kind, archive, plan, steps)
            report = purge(kind, archive, plan, 10_000 + steps)
            done.add(report.before)
            assert report.purged + report.before == 1
            assert archives.verify(sink_at(kind, archive)) == []
            assert second_verifier.problems(archive) == []
            assert SECRET not in content(archive)
            with sink_at(kind, archive).open_target(context(20_000 + steps)) as target:
                assert {r.key for r in target.read_back()} == {f"test:c{i}" for i in range(4)}

        assert killed >= min(kills, total) - 1
        assert done == {0, 1} or kills < 20

    def restore(self, archive, whole):
        archives_of = [archive, *archive.parent.glob(f"{archive.name}-*")]
        for path in archives_of:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copytree(whole, archive) if Path(whole).is_dir() else shutil.copy(whole, archive)
