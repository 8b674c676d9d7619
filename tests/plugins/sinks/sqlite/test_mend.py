"""A record that was damaged in an archive is written again from a copy, and the archive verifies."""

import importlib.util
import random
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muniment import Context
from muniment.crypto import open_keyring
from muniment.pipeline import StopFlag, run
from muniment.plan import Plan, SinkPath, Step
from muniment.plugins import load_registry
from muniment.repair import repair
from muniment.testing import ListSource, make_record
from muniment.verification import Inspection
from muniment_plugins.sinks.sqlite import SQLite

DAMAGES = {
    "its content is gone": "DELETE FROM records WHERE conversation=3",
    "its row is gone": "DELETE FROM conversations WHERE no=3",
    "all of it is gone": "DELETE FROM conversations WHERE no=3; DELETE FROM records WHERE conversation=3",
    "its content is noise": "UPDATE records SET record=zeroblob(10) WHERE conversation=3",
    "its content is another's": "UPDATE records SET record=(SELECT record FROM records WHERE conversation=2)"
    " WHERE conversation=3",
    "everything is gone": "DELETE FROM conversations; DELETE FROM records; DELETE FROM messages; DELETE FROM parts",
}


def load_second_verifier():
    path = Path(__file__).parents[4] / "docs/formats/second_verifier.py"
    spec = importlib.util.spec_from_file_location("second_verifier", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["plain", "encrypted"])
def encryption_or_none(request, encryption):
    return encryption if request.param == "encrypted" else None


@pytest.fixture
def plan(tmp_path, encryption_or_none):
    """Two archives with five conversations, of which the third has an earlier version."""
    old = [make_record(c, ("Hello", "Hi"), title=c) for c in "abcde"]
    new = [make_record("c", ("Hello", "Hi", "And now?"), title="c", updated_at=datetime(2027, 1, 1, tzinfo=UTC))]
    sinks = tuple(
        SinkPath(
            step=Step("sqlite", f"sinks[{i}]", SQLite(path=str(tmp_path / f"{n}.db"), encryption=encryption_or_none)),
            name=n,
        )
        for i, n in enumerate("ab")
    )
    made = Plan(name="test", sources=(), sinks=sinks, state_dir=tmp_path / "state")
    for records in (old, new):
        source = Step("list", "source", ListSource(records=records))
        run(Plan(name="test", sources=(source,), sinks=sinks, state_dir=tmp_path / "state"), load_registry())
    return made


def findings(plan, name, encryption):
    keyring = encryption and open_keyring(encryption, Context(run=""))
    sink = next(s for s in plan.sinks if s.name == name).step.component
    found = sink.verify(Context(run=""), Inspection(None, keyring, chance=random.Random(1)))
    return [(f.kind, f.where) for f in found if f.is_problem]


def damage(path, statements):
    with sqlite3.connect(path) as connection:
        connection.executescript(statements)


class TestMend:
    @pytest.mark.parametrize("statements", DAMAGES.values(), ids=DAMAGES.keys())
    def test_what_was_damaged_is_whole_again(self, plan, tmp_path, encryption_or_none, statements):
        """Both verifiers say so, and a second repair finds nothing to do."""
        damage(tmp_path / "a.db", statements)
        assert findings(plan, "a", encryption_or_none)

        report = repair(plan, load_registry(), source="b", target="a", stop=StopFlag())
        again = repair(plan, load_registry(), source="b", target="a", stop=StopFlag(), dry_run=True)

        assert (report.exit_code, again.found.same, again.exit_code) == (0, 5, 0)
        assert findings(plan, "a", encryption_or_none) == []
        assert load_second_verifier().problems(str(tmp_path / "a.db")) == []

    def test_earlier_versions_stay(self, plan, tmp_path):
        """Damage to the newest takes nothing else away."""
        damage(tmp_path / "a.db", DAMAGES["its row is gone"])
        repair(plan, load_registry(), source="b", target="a", stop=StopFlag())

        with sqlite3.connect(tmp_path / "a.db") as connection:
            rows = connection.execute("SELECT count(*) FROM versions v JOIN conversations c ON c.no=v.conversation")
            assert rows.fetchone() == (1,)
