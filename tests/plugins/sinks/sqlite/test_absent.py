"""What disappears from a complete source is marked, never removed."""

import re
import sqlite3
from datetime import UTC, datetime

import pytest
from attrs import evolve

from muniment import Rejected
from muniment.engine.local import Local
from muniment.model import Origin
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.plugins import load_registry
from muniment.testing import ListSource, make_record
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.transforms.filter import Filter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


def store(path, *sources, transforms=()):
    steps = tuple(Step("list", f"sources[{n}]", s) for n, s in enumerate(sources))
    sink = SinkPath(step=Step("sqlite", "sinks[0]", SQLite(path=str(path))), name="sqlite", transforms=transforms)
    plan = Plan(name="test", sources=steps, sinks=(sink,), engine=Local(), allow_incomplete=True)
    return run(plan, load_registry())


def export(*numbers, **options):
    return ListSource(records=[talk(n) for n in numbers], **options)


def talk(number, **fields):
    return make_record(f"c{number}", title=f"Talk {number}", **fields)


def absent(path):
    with sqlite3.connect(path) as connection:
        return [
            i for (i,) in connection.execute("SELECT id FROM conversations WHERE absent_since IS NOT NULL ORDER BY id")
        ]


class TestAbsent:
    def test_it_is_marked_and_kept(self, path):
        """The newer export lacks two; they stay, marked, and the report counts them."""
        store(path, export(1, 2, 3, 4))

        report = store(path, export(2, 4, 5))

        assert absent(path) == ["c1", "c3"]
        assert report.absent == {"sqlite": 2}
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM conversations").fetchone() == (5,)

    def test_it_is_counted_once(self, path):
        """A third export that lacks the same ones marks nothing anew."""
        store(path, export(1, 2, 3))
        store(path, export(2, 3, 4))

        assert store(path, export(2, 3, 4, 5)).absent == {}
        assert absent(path) == ["c1"]

    def test_the_mark_goes_when_it_comes_back(self, path):
        """Unchanged or changed, what is in the export is not absent."""
        store(path, export(1, 2, 3))
        store(path, export(3, 4))

        later = ListSource(records=[talk(1), make_record("c2", ("Hello", "Hi", "More")), talk(3), talk(4)])
        store(path, later)

        assert absent(path) == []

    def test_sources_of_one_run_do_not_hide_each_other(self, path):
        """What the next source of the run holds is not absent from the archive."""
        store(path, export(1, 2))

        store(path, export(2, 3), export(3, 4))

        assert absent(path) == ["c1", "c2"]

    def test_an_older_export_marks_nothing_that_is_newer(self, path):
        """What began after the last word of an older export cannot be in it."""
        new = datetime(2026, 6, 1, tzinfo=UTC)
        store(path, ListSource(records=[talk(1), talk(2), talk(3, created_at=new, updated_at=new)]))

        store(path, export(1, 2))

        assert absent(path) == []

    def test_other_accounts_and_vendors_are_left_alone(self, path):
        """An export speaks of its own account only."""
        store(path, ListSource(records=[talk(1, account="a"), talk(2, account="b"), talk(3)]))

        store(path, ListSource(records=[talk(4, account="a")]))

        assert absent(path) == ["c1"]

    def test_of_several_exports_in_one_run_the_last_counts(self, path):
        """What only the earlier one holds is absent."""
        store(path, export(1, 2), export(2, 3))

        assert absent(path) == ["c1"]

    @pytest.mark.parametrize(
        "source",
        [
            export(2, 4, findings=("missing_shard:conversations-001.json",)),
            ListSource(records=[talk(2), Rejected(Origin("list", "list"), "decode", "not JSON")]),
        ],
    )
    def test_an_incomplete_read_marks_nothing(self, path, source):
        """With a missing shard, or something that could not be read, absence means nothing."""
        store(path, export(1, 2, 3, 4))

        store(path, source)

        assert absent(path) == []

    def test_what_a_transform_drops_is_not_absent(self, path):
        """It may well be in the export."""
        store(path, export(1, 2, 3))

        store(path, export(1, 2, 3, 4), transforms=(Step("filter", "t", Filter(title=re.compile("Talk 4"))),))

        assert absent(path) == []

    def test_a_run_that_resumes_has_seen_the_first_part_too(self, path):
        """What an interrupted run has stored of the same export counts as seen."""
        store(path, export(1, 2, 3, 4, 5))
        source = export(2, 3, 4, 6)
        with pytest.raises(RuntimeError):
            store(path, evolve(source, fail_at=3))

        store(path, source)

        assert absent(path) == ["c1", "c5"]
