"""What could not be archived is tried again from what was kept of it, in a real database."""

import pytest
from attrs import evolve, frozen
from msgspec.structs import replace

from muniment import Counts, Origin, RecordError, Secret, Transform, option
from muniment.crypto import Encryption, create_key_file
from muniment.pipeline import run
from muniment.plan import Step
from muniment.quarantine import Keeping
from muniment.quarantine_retry import retry_kept
from muniment.testing import make_record
from muniment.testing.runs import Quiet, plan_of


@frozen(kw_only=True)
class Rules(Transform):
    """Raises for titles in `refused`."""

    refused: set[str] = option("Titles.", factory=set, identity=False)

    def apply(self, record):
        if record.conversation.title in self.refused:
            raise RecordError("refused by the rules")
        return record


def some(*titles, texts=("Hello", "Hi there")):
    records = [make_record(f"c{i}", texts, title=t) for i, t in enumerate(titles)]
    return [replace(r, origin=Origin("list", "list", i * 10, i * 10 + 9)) for i, r in enumerate(records)]


@pytest.fixture
def make_plan(tmp_path):
    """Return a function that makes a plan which keeps what the rules refuse."""
    create_key_file(tmp_path / "quarantine.key")
    encryption = Encryption(key=Secret(f"file:{tmp_path / 'quarantine.key'}"))
    kept = Keeping(encryption=encryption, path=tmp_path / "kept", pipeline="contract")

    def make(sink, records, refused):
        plan = plan_of(sink, records, state_dir=tmp_path / "state")
        step = Step("rules", "transforms[0]", Rules(refused=refused))
        return evolve(plan, transforms=(step,), keeping=kept)

    return make


def files(tmp_path):
    return sorted(p.name for p in (tmp_path / "kept").glob("*.enc"))


def stored(sink):
    from muniment import Context

    with sink.open_target(Context(run="reader")) as target:
        return sorted(r.conversation.title for r in target.read_back())


class TestRetry:
    def test_each_is_stored_once(self, database, make_plan, tmp_path):
        """Also when it is asked for twice."""
        refused = {"b", "d"}
        plan = make_plan(database.sink(), some("a", "b", "c", "d"), refused)
        first = run(plan, Quiet())
        kept = files(tmp_path)
        refused.clear()

        retried = [retry_kept(plan, Quiet()).report.sinks]
        left = files(tmp_path)
        retried.append(retry_kept(plan, Quiet()).report.sinks)

        assert first.sinks["contract"] == Counts(read=4, stored=2, quarantined=2)
        assert len(kept) == 2
        assert retried == [{"contract": Counts(read=2, stored=2)}, {}]
        assert stored(plan.sinks[0].step.component) == ["a", "b", "c", "d"]
        assert left == []

    def test_a_newer_version_supersedes_it(self, postgresql_database, make_plan, tmp_path):
        """Though the rules would refuse the old one again."""
        plan = make_plan(postgresql_database.sink(), some("a", "b"), {"b"})
        run(plan, Quiet())
        run(make_plan(postgresql_database.sink(), some("A", "B", texts=("1", "2", "3")), set()), Quiet())

        retried = retry_kept(plan, Quiet())

        assert [len(ids) for ids in retried.report.superseded.values()] == [1]
        assert retried.report.exit_code == 0
        assert files(tmp_path) == []
