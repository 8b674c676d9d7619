"""What the server refuses at the commit is kept before it, and tried again later."""

from attrs import evolve
from msgspec.structs import replace

from muniment import Counts, Origin, Secret
from muniment.crypto import Encryption, create_key_file
from muniment.pipeline import run
from muniment.quarantine import Keeping
from muniment.quarantine_retry import retry_kept
from muniment.testing import make_record
from muniment.testing.records import changed
from muniment.testing.runs import Quiet


def some(count, bad):
    records = [make_record(f"c{i}", title="forbidden" if i in bad else "fine") for i in range(count)]
    return [replace(r, origin=Origin("list", "list", i * 10, i * 10 + 9)) for i, r in enumerate(records)]


def keeping(place, tmp_path, records):
    create_key_file(tmp_path / "quarantine.key")
    encryption = Encryption(key=Secret(f"file:{tmp_path / 'quarantine.key'}"))
    return evolve(
        place.plan(records, max_unit_records=10),
        keeping=Keeping(encryption=encryption, path=tmp_path / "kept", pipeline="contract"),
    )


def files(tmp_path):
    return sorted(p.name for p in (tmp_path / "kept").glob("*.enc"))


class TestRefusedAtTheCommit:
    def test_it_is_stored_when_the_server_takes_it(self, place, tmp_path):
        """Without the input: its content was there before the commit that passed it."""
        place.db.create_collection("conversations", validator={"title": {"$ne": "forbidden"}})
        plan = keeping(place, tmp_path, some(4, {1, 2}))

        first = run(plan, Quiet())
        kept = files(tmp_path)
        entries = sorted(f"{e['id']}.enc" for e in place.db.quarantine.find({"status": "open"}))
        place.db.command("collMod", "conversations", validator={})
        retried = retry_kept(plan, Quiet())

        assert first.sinks["contract"] == Counts(read=4, stored=2, quarantined=2)
        assert kept == entries and len(kept) == 2
        assert retried.report.sinks["contract"] == Counts(read=2, stored=2)
        assert sorted(place.stored()) == ["c0", "c1", "c2", "c3"]
        assert place.db.quarantine.count_documents({"status": "open"}) == 0
        assert files(tmp_path) == []

    def test_what_is_refused_again_stays(self, place, tmp_path):
        place.db.create_collection("conversations", validator={"title": {"$ne": "forbidden"}})
        plan = keeping(place, tmp_path, some(3, {1}))
        run(plan, Quiet())
        before = files(tmp_path)

        retried = retry_kept(plan, Quiet())

        assert retried.report.sinks["contract"] == Counts(read=1, quarantined=1)
        assert retried.report.exit_code == 3
        assert files(tmp_path) == before

    def test_a_newer_version_supersedes_it(self, place, tmp_path):
        """Though the server would refuse the old one again."""
        place.db.create_collection("conversations", validator={"title": {"$ne": "forbidden"}})
        plan = keeping(place, tmp_path, some(3, {1}))
        run(plan, Quiet())
        place.store([changed(make_record("c1", ("Hello", "Hi there", "More"), title="fine"))])

        retried = retry_kept(plan, Quiet())

        assert [len(ids) for ids in retried.report.superseded.values()] == [1]
        assert retried.report.sinks["contract"] == Counts(read=1, unchanged=1)
        assert retried.report.exit_code == 0
        assert files(tmp_path) == []
