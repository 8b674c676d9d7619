"""What disappears from a complete source is marked, never removed."""

import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import define, evolve

from muniment import Context, Rejected
from muniment.crypto import Encryption, open_keyring
from muniment.engine.local import Local
from muniment.model import Origin
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.plugins import load_registry
from muniment.testing import ListSource, make_record
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.read import cover_of, read_records
from muniment_plugins.transforms.filter import Filter


@pytest.fixture(params=["plain", "encrypted"])
def archive(request, tmp_path, encryption):
    return _Archive(tmp_path / "archive.db", encryption if request.param == "encrypted" else None)


@define
class _Archive:
    path: Path
    encryption: Encryption | None

    def store(self, *sources, transforms=()):
        steps = tuple(Step("list", f"sources[{n}]", s) for n, s in enumerate(sources))
        sink = Step("sqlite", "sinks[0]", SQLite(path=str(self.path), encryption=self.encryption))
        path = SinkPath(step=sink, name="sqlite", transforms=transforms)
        return run(
            Plan(name="test", sources=steps, sinks=(path,), engine=Local(), allow_incomplete=True), load_registry()
        )

    def absent(self):
        cover = cover_of(self.path, self.encryption and open_keyring(self.encryption, Context(run="")))
        with sqlite3.connect(self.path) as connection:
            marked = {n for (n,) in connection.execute("SELECT no FROM conversations WHERE absent_since IS NOT NULL")}
        return sorted(r.conversation.id for n, r in read_records(self.path, cover) if n in marked)


def export(*numbers, **options):
    return ListSource(records=[talk(n) for n in numbers], **options)


def talk(number, **fields):
    return make_record(f"c{number}", title=f"Talk {number}", **fields)


class TestAbsent:
    def test_it_is_marked_and_kept(self, archive):
        """The newer export lacks two; they stay, marked, and the report counts them."""
        archive.store(export(1, 2, 3, 4))

        report = archive.store(export(2, 4, 5))

        assert archive.absent() == ["c1", "c3"]
        assert report.absent == {"sqlite": 2}
        with sqlite3.connect(archive.path) as connection:
            assert connection.execute("SELECT count(*) FROM conversations").fetchone() == (5,)

    def test_it_is_counted_once(self, archive):
        """A third export that lacks the same ones marks nothing anew."""
        archive.store(export(1, 2, 3))
        archive.store(export(2, 3, 4))

        assert archive.store(export(2, 3, 4, 5)).absent == {}
        assert archive.absent() == ["c1"]

    def test_the_mark_goes_when_it_comes_back(self, archive):
        """Unchanged or changed, what is in the export is not absent."""
        archive.store(export(1, 2, 3))
        archive.store(export(3, 4))

        later = ListSource(records=[talk(1), make_record("c2", ("Hello", "Hi", "More")), talk(3), talk(4)])
        archive.store(later)

        assert archive.absent() == []

    def test_sources_of_one_run_do_not_hide_each_other(self, archive):
        """What the next source of the run holds is not absent from the archive."""
        archive.store(export(1, 2))

        archive.store(export(2, 3), export(3, 4))

        assert archive.absent() == ["c1", "c2"]

    def test_an_older_export_marks_nothing_that_is_newer(self, archive):
        """What began after the last word of an older export cannot be in it."""
        new = datetime(2026, 6, 1, tzinfo=UTC)
        archive.store(ListSource(records=[talk(1), talk(2), talk(3, created_at=new, updated_at=new)]))

        archive.store(export(1, 2))

        assert archive.absent() == []

    def test_other_accounts_and_vendors_are_left_alone(self, archive):
        """An export speaks of its own account only."""
        archive.store(ListSource(records=[talk(1, account="a"), talk(2, account="b"), talk(3)]))

        archive.store(ListSource(records=[talk(4, account="a")]))

        assert archive.absent() == ["c1"]

    def test_of_several_exports_in_one_run_the_last_counts(self, archive):
        """What only the earlier one holds is absent."""
        archive.store(export(1, 2), export(2, 3))

        assert archive.absent() == ["c1"]

    @pytest.mark.parametrize(
        "source",
        [
            export(2, 4, findings=("missing_shard:conversations-001.json",)),
            ListSource(records=[talk(2), Rejected(Origin("list", "list"), "decode", "not JSON")]),
        ],
    )
    def test_an_incomplete_read_marks_nothing(self, archive, source):
        """With a missing shard, or something that could not be read, absence means nothing."""
        archive.store(export(1, 2, 3, 4))

        archive.store(source)

        assert archive.absent() == []

    def test_what_a_transform_drops_is_not_absent(self, archive):
        """It may well be in the export."""
        archive.store(export(1, 2, 3))

        archive.store(export(1, 2, 3, 4), transforms=(Step("filter", "t", Filter(title=re.compile("Talk 4"))),))

        assert archive.absent() == []

    def test_a_run_that_resumes_has_seen_the_first_part_too(self, archive):
        """What an interrupted run has stored of the same export counts as seen."""
        archive.store(export(1, 2, 3, 4, 5))
        source = export(2, 3, 4, 6)
        with pytest.raises(RuntimeError):
            archive.store(evolve(source, fail_at=3))

        archive.store(source)

        assert archive.absent() == ["c1", "c5"]
