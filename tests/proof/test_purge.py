"""A purge takes all of a record away, in every kind of archive, and leaves all else as it was and provable."""

import base64
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from muniment import jcs
from muniment.canonical import to_json
from muniment.components import Context
from muniment.crypto import Encryption
from muniment.crypto.keys import create_key_file
from muniment.errors import ConfigError, FatalError, InputError
from muniment.manifest import Log
from muniment.proof import SignedHead
from muniment.purge import PurgePlan, make_plan, run_plan
from muniment.retention import Policy
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace, MemoryStorage
from muniment.testing.records import make_asset
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite

SLOW_KINDS = ("parts", "parts by month", "mirror", "sqlite", "parquet", "latest")
KINDS = [
    "parts, signed", "mirror for reading", "sqlite, signed",
    *(pytest.param(k, marks=pytest.mark.slow) for k in SLOW_KINDS),
]  # fmt: skip
CANARY = "xylophone-canary-7193"
SHARED, OWN = b"an image that two records need", b"an image that one record needs"


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def contexts(run=0):
    return Context(run=f"20260101T000000-{run:08x}", path="sinks[0]")


def record(name, *texts, assets=(), title=None, updated_at=None):
    return make_record(name, texts, title=title or f"about {name}", assets=assets, updated_at=updated_at)


def secret(*, more=()):
    """Return the record that is to be purged."""
    assets = make_asset(SHARED, id="file-shared", name="a.png"), make_asset(OWN, id="file-own", name="b.png")
    return record("c-secret", CANARY, "an answer", *more, assets=assets, title=f"{CANARY} title")


OTHERS = (
    record("c1", "one", "two"),
    record("c2", "three", assets=(make_asset(SHARED, id="file-shared", name="a.png"),)),
    record("c3", "four", "five", "six"),
)
FILES = {a.sha256: data for a, data in zip(secret().conversation.assets, (SHARED, OWN), strict=True)}
OWN_DIGEST = secret().conversation.assets[1].sha256


def make(kind, path, archives):
    if kind == "parquet":
        return Files(path=path, format="parquet")
    if kind == "latest":
        return Files(path=path, format="jsonl", latest=True, compression="gzip")
    return archives.KINDS[kind](path, path.parent)


@pytest.fixture
def sink(kind, archives, tmp_path):
    """Return a sink with an archive of four records in two runs; one of them has two versions."""
    sink = make(kind, tmp_path / ("a.db" if kind.startswith("sqlite") else "a"), archives)
    archives.archive(sink, [OTHERS[0], secret(), OTHERS[1]], FILES, max_unit_records=2)
    archives.archive(sink, [secret(more=[f"more {CANARY}"]), OTHERS[2]], FILES)
    return sink


def purge(sink, *keys, run=1, now=None, **more):
    now = now or datetime.now(UTC)
    plan = planned(sink, *keys, now=now, **more)
    with sink.open_custody(contexts(run)) as custody:
        return run_plan(PurgePlan.from_json(plan.to_json()), custody, actor="ann@host", now=now)


def planned(sink, *keys, now=None, policy=None, reason="request 12"):
    with sink.open_custody(contexts()) as custody:
        return make_plan(
            custody, target="a", sink="", policy=policy, keys=keys, reason=reason, now=now or datetime.now(UTC)
        )


def hold(sink, kind="hold", **what):
    with sink.open_custody(contexts()) as custody:
        custody.note({"kind": kind, "actor": "ann@host", "at": "2026-01-01T00:00:00Z", "reason": "case 7", **what})


def place(sink):
    return Path(sink.path)


def all_bytes(sink):
    path = place(sink)
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else list(path.parent.glob(f"{path.name}*"))
    return {str(f): f.read_bytes() for f in files}


def readable(sink):
    """Return what is stored, by key, where the format can be read."""
    with sink.open_target(contexts()) as target:
        try:
            return {r.key: to_json((r.conversation,)) for r in target.read_back()}
        except NotImplementedError:
            return None


def sound(sink, archives, second_verifier, **asked):
    assert archives.verify(sink, **asked) == []
    if second_verifier is not None:
        assert second_verifier.problems(place(sink)) == []
    return True


def forms(text):
    data = text.encode()
    return [data, text.encode("utf-16-le"), data.hex().encode(), base64.b64encode(data)[:-4]]


class TestPurge:
    def test_it_takes_all_of_a_record_away(self, sink, kind, archives, second_verifier):
        """No file of the archive holds its text, its title in content, or a file that only it needed."""
        before = readable(sink)
        report = purge(sink, "test:c-secret")

        # Its text does not name the file, and the other conversation of the unit may need it.
        is_unsure = kind == "mirror for reading"
        assert (report.purged, report.assets, report.kept_assets) == (1, int(not is_unsure), is_unsure)
        if before is not None:
            before.pop("test:c-secret")
            assert readable(sink) == before
        held = all_bytes(sink)
        if kind not in ("mirror", "mirror for reading"):
            assert [n for n, data in held.items() for f in forms(CANARY) if f in data] == []
        else:
            # Names of objects say titles; they stay in the manifests that are there.
            content = {n: d for n, d in held.items() if "/.muniment/" not in n}
            assert [n for n, data in content.items() for f in forms(CANARY) if f in data] == []
        assert is_unsure or [n for n, data in held.items() if OWN in data] == []
        assert [n for n, data in held.items() if SHARED in data]
        assert sound(sink, archives, second_verifier)

    def test_its_tombstones_say_which_and_why_and_nothing_more(self, sink, kind):
        """Key, digests, reason, actor, time."""
        report = purge(sink, "test:c-secret")
        with sink.open_custody(contexts()) as custody:
            *_, last = custody.manifests()

        assert {t["key"] for t in last.event["tombstones"]} == {"test:c-secret"}
        assert tuple(last.event["tombstones"]) == report.tombstones
        assert (last.event["kind"], last.event["actor"], last.event["reason"]) == ("purge", "ann@host", "request 12")
        assert CANARY not in json.dumps(dict(last.event))

    def test_it_does_not_come_again(self, sink, archives, second_verifier):
        """The same export, or a newer one, with state or without."""
        purge(sink, "test:c-secret")
        before = readable(sink)
        archives.archive(sink, [*OTHERS, secret()], FILES)
        archives.archive(sink, [secret(more=["later", "and later"])], FILES)
        for file in place(sink).glob(".muniment/state.db*") if place(sink).is_dir() else ():
            file.unlink()
        archives.archive(sink, [secret(more=["once more"])], FILES)

        assert readable(sink) == before
        assert not [n for n, data in all_bytes(sink).items() if b"once more" in data]
        assert sound(sink, archives, second_verifier)

    def test_old_proofs_still_verify(self, sink, archives, second_verifier):
        """The log only grows; an earlier checkpoint still covers its beginning."""
        with sink.open_custody(contexts()) as custody:
            note = custody.entries().note
        purge(sink, "test:c-secret", "test:c1")
        with sink.open_custody(contexts()) as custody:
            assert custody.check(SignedHead.parse(note).head).size > SignedHead.parse(note).head.size

        assert sound(sink, archives, second_verifier, since=SignedHead.parse(note).head)
        assert second_verifier.problems(place(sink), note) == []

    def test_all_can_go_and_more_can_come(self, sink, archives, second_verifier):
        """One after the other, then a new record, then that one too."""
        purge(sink, "test:c-secret", "test:c1")
        purge(sink, "test:c2", "test:c3", run=2)
        archives.archive(sink, [record("c9", "nine")], {})
        assert sound(sink, archives, second_verifier)
        purge(sink, "test:c9", run=3)

        assert readable(sink) in ({}, None)
        assert not [n for n, data in all_bytes(sink).items() if SHARED in data]
        assert sound(sink, archives, second_verifier)

    def test_versions_keep_their_order(self, sink, archives, second_verifier):
        """A part that was written anew stands where the old one stood."""
        newer = make_record(
            "c1", ("one", "two", "two and a half"), title="about c1", updated_at=datetime(2030, 1, 1, tzinfo=UTC)
        )
        archives.archive(sink, [newer], {})
        before = readable(sink)
        purge(sink, "test:c2")

        if before is not None:
            before.pop("test:c2")
            assert readable(sink) == before
        archives.archive(sink, [newer, *OTHERS], {})
        assert readable(sink) == before
        assert sound(sink, archives, second_verifier)

    def test_a_second_run_of_a_plan_finds_it_done(self, sink, archives, second_verifier):
        plan = planned(sink, "test:c-secret")
        for before in (0, 1):
            with sink.open_custody(contexts(before + 5)) as custody:
                report = run_plan(plan, custody, actor="ann@host", now=datetime.now(UTC))
            assert (report.purged, report.before) == (1 - before, before)

        assert sound(sink, archives, second_verifier)


class TestHold:
    def test_it_wins(self, sink, archives, second_verifier):
        """Over a policy and over a name; until it is released."""
        hold(sink, keys=["test:c-secret"])
        plan = planned(sink, policy=Policy(0))

        assert {r.key for r in plan.records} == {"test:c1", "test:c2", "test:c3"}
        assert [(h.key, h.reason, h.actor) for h in plan.held] == [("test:c-secret", "case 7", "ann@host")]
        assert planned(sink, "test:c-secret").records == ()
        hold(sink, "release", keys=["test:c-secret"])
        assert len(planned(sink, policy=Policy(0)).records) == 4
        hold(sink, all=True)
        assert len(planned(sink, policy=Policy(0)).held) == 4
        assert sound(sink, archives, second_verifier)

    def test_one_that_comes_between_plan_and_run_stops_it(self, sink):
        plan = planned(sink, "test:c-secret", "test:c1")
        hold(sink, keys=["test:c1"])

        with (
            pytest.raises(FatalError, match="a hold has come since the plan was made: `test:c1`"),
            sink.open_custody(contexts(1)) as custody,
        ):
            run_plan(plan, custody, actor="a", now=datetime.now(UTC))


@pytest.mark.parametrize("kind", ["parts", "sqlite"], indirect=True)
class TestRefusals:
    def run(self, sink, plan, **more):
        with sink.open_custody(contexts(1)) as custody:
            return run_plan(plan, custody, actor="a", now=more.pop("now", datetime.now(UTC)), **more)

    def test_a_record_that_changed(self, sink, archives):
        plan = planned(sink, "test:c1")
        archives.archive(
            sink, [make_record("c1", ("one", "two", "new"), updated_at=datetime(2030, 1, 1, tzinfo=UTC))], {}
        )

        with pytest.raises(FatalError, match="records have changed since the plan was made: `test:c1`"):
            self.run(sink, plan)

    def test_another_archive(self, sink, kind, archives, tmp_path):
        other = make(kind, tmp_path / ("b.db" if kind == "sqlite" else "b"), archives)
        archives.archive(other, [secret()], FILES)

        with pytest.raises(FatalError, match="the plan was made for another archive"):
            self.run(other, planned(sink, "test:c1"))

    def test_an_unknown_record(self, sink):
        with pytest.raises(InputError, match="there is no record `test:c9`"):
            planned(sink, "test:c9")

    @pytest.mark.parametrize("year", [1970, 2020, 2031])
    def test_a_clock_that_jumped(self, sink, year):
        """Back before what the archive knows, or more than a year ahead of it."""
        plan, now = planned(sink, "test:c1"), datetime(year, 1, 1, tzinfo=UTC)

        with pytest.raises(FatalError, match="who cannot tell the time must not purge"):
            self.run(sink, plan, now=now)
        with pytest.raises(FatalError, match="the clock says"):
            planned(sink, "test:c1", now=now)
        assert self.run(sink, plan, now=now, clock_reason="moved to a new machine").purged == 1

    def test_a_chain_that_is_not_sound(self, sink, kind):
        """Nobody knows then what is held."""
        plan = planned(sink, "test:c1")
        if kind == "parts":
            (place(sink) / ".muniment/manifests/00000002.json").write_bytes(b"{}")
        else:
            connection = sqlite3.connect(place(sink))
            connection.execute("UPDATE manifests SET manifest='{}' WHERE number=2")
            connection.commit()
            connection.close()

        with pytest.raises(FatalError):
            self.run(sink, plan)


@pytest.mark.parametrize("kind", ["parts, signed", "sqlite, signed"], indirect=True)
class TestSigned:
    def test_nothing_is_added_without_the_key(self, sink, kind):
        """The checkpoint would lose its signature."""
        plan = planned(sink, "test:c1")
        unsigned = attrs.evolve(sink, proof=None)

        with pytest.raises(ConfigError, match="this archive is signed"):
            planned(unsigned, "test:c1")
        with (
            pytest.raises(ConfigError, match="this archive is signed"),
            unsigned.open_custody(contexts(1)) as custody,
        ):
            run_plan(plan, custody, actor="a", now=datetime.now(UTC))

    def test_the_signature_is_renewed(self, sink, archives):
        """With each event, by the same key."""
        hold(sink, keys=["test:c1"])
        assert archives.verify(sink, public_key=archives.KEY.verifier) == []
        purge(sink, "test:c-secret")

        assert archives.verify(sink, public_key=archives.KEY.verifier) == []


class TestPlan:
    def test_what_is_no_plan(self):
        for data in (b"", b"{}", b'{"version": 2}', b'{"version": 1}'):
            with pytest.raises(InputError):
                PurgePlan.from_json(data)


class TestSnapshot:
    def test_it_has_nothing_to_hold_or_purge(self, tmp_path, archives):
        sink = Files(path=tmp_path / "a.jsonl")
        archives.archive(sink, list(OTHERS), FILES)

        with pytest.raises(ConfigError, match="is one file, written whole"):
            sink.open_custody(contexts())


class TestVerify:
    """What somebody wrote into the chain, or put back, does not pass."""

    def found(self, sink, archives):
        return [(f.kind, f.reason) for f in archives.verify(sink)]

    def rewritten(self, sink, change):
        """Replace the last manifest, and the checkpoint, as who has no key to fear could."""
        folder = place(sink) / ".muniment"
        *_, last = sorted((folder / "manifests").iterdir())
        value = json.loads(last.read_bytes())
        change(value)
        last.write_bytes(jcs.canonical(value))
        log = Log()
        for file in sorted((folder / "manifests").iterdir()):
            log.append(file.read_bytes())
        (folder / "checkpoint").write_bytes(log.note(None))

    @pytest.fixture
    def kind(self):
        return "parts"

    def test_a_tombstone_of_what_never_was(self, sink, archives, second_verifier):
        purge(sink, "test:c-secret")
        self.rewritten(sink, lambda m: m["event"]["tombstones"][0].update(key="test:c77"))

        assert ("changed", "it says that it purged `test:c77`, as it never was in here") in self.found(sink, archives)
        assert "there are tombstones of what never was" in second_verifier.problems(place(sink))

    def test_a_record_that_went_without_a_tombstone(self, sink, archives):
        purge(sink, "test:c-secret", "test:c1")

        def forget(manifest):
            event = manifest["event"]
            event["tombstones"] = [t for t in event["tombstones"] if t["key"] != "test:c1"]

        self.rewritten(sink, forget)
        assert self.found(sink, archives) == [("missing", "it took `test:c1` away without a tombstone")]

    def test_a_purged_record_that_is_held(self, sink, archives, second_verifier):
        """In an object that counts."""
        kept = {n: d for n, d in all_bytes(sink).items() if "/part-" in n}
        purge(sink, "test:c-secret")

        def keep(manifest):
            manifest["removed"] = [n for n in manifest["removed"] if "part-" not in n]

        self.rewritten(sink, keep)
        for name, data in kept.items():
            Path(name).write_bytes(data)
        said = [reason for kind, reason in self.found(sink, archives) if kind == "extra"]
        assert "it holds `test:c-secret`, which manifest 6 purged" in said
        assert any("it holds what was purged" in p for p in second_verifier.problems(place(sink)))

    def test_an_object_that_went_and_no_manifest_says_so(self, sink, archives):
        purge(sink, "test:c-secret")
        self.rewritten(sink, lambda m: (m.pop("removed"), m["event"].update(tombstones=[])))

        assert {kind for kind, _ in self.found(sink, archives)} == {"missing"}

    def test_an_object_that_was_purged_and_is_there(self, sink, archives, second_verifier):
        kept = {n: d for n, d in all_bytes(sink).items() if "/part-" in n}
        purge(sink, "test:c-secret")
        for name, data in kept.items():
            Path(name).write_bytes(data)

        assert {kind for kind, _ in self.found(sink, archives)} == {"extra"}
        assert second_verifier.problems(place(sink))


class TestView:
    def test_one_that_is_older_than_a_purge_is_found(self, archives, tmp_path):
        """It shows what was purged; the run of the plan writes it anew."""
        sink = make("latest", tmp_path / "a", archives)
        archives.archive(sink, [*OTHERS, secret()], FILES)
        old = {n: d for n, d in all_bytes(sink).items() if "latest" in n}
        plan = planned(sink, "test:c-secret")
        with sink.open_custody(contexts(1)) as custody:
            run_plan(plan, custody, actor="a", now=datetime.now(UTC))
        for name, data in old.items():
            Path(name).write_bytes(data)

        (found,) = archives.verify(sink)
        assert (found.kind, found.where) == ("extra", ".muniment/latest.json")
        with sink.open_custody(contexts(2)) as custody:
            assert run_plan(plan, custody, actor="a", now=datetime.now(UTC)).before == 1
        assert archives.verify(sink) == []


class TestFreedPages:
    def test_what_was_freed_before_goes_too(self, archives, tmp_path):
        """A page that an earlier version has left."""
        sink = make("sqlite", tmp_path / "a.db", archives)
        archives.archive(sink, [*OTHERS, secret()], FILES)
        connection = sqlite3.connect(place(sink))
        connection.executescript(f"CREATE TABLE x(t); INSERT INTO x VALUES('{CANARY * 1000}'); DROP TABLE x;")
        connection.close()
        assert CANARY.encode() in place(sink).read_bytes()
        purge(sink, "test:c-secret")

        assert CANARY.encode() not in b"".join(all_bytes(sink).values())
        assert archives.verify(sink) == []


class TestLock:
    def test_what_cannot_be_deleted_is_not_purged(self, archives, tmp_path):
        """A hold can be written there, and nothing is purged."""

        class Locked(MemoryStorage):
            def keeps_deleted(self):
                return "object lock"

        class Bucket(MemoryObjects):
            def storage(self):
                return Locked(self.place)

        sink = Bucket(place=MemoryPlace(), state=tmp_path / "state", format="jsonl", mode="append")
        archives.archive(sink, [*OTHERS, secret()], FILES)
        hold(sink, keys=["test:c1"])

        with pytest.raises(ConfigError, match="keeps what is deleted \\(object lock\\)"):
            planned(sink, "test:c-secret")


@pytest.mark.parametrize("kind", ["parts", "mirror", "sqlite"])
class TestEncrypted:
    def test_it_names_no_record(self, kind, archives, tmp_path):
        """Holds, plans and tombstones call records by their pseudonyms, and people by their keys."""
        key = create_key_file(tmp_path / "archive.key")
        assert key
        encryption = Encryption(key=Secret(f"file:{tmp_path / 'archive.key'}"))
        if kind == "sqlite":
            sink = SQLite(path=str(tmp_path / "a.db"), encryption=encryption)
        else:
            form = "json" if kind == "mirror" else "jsonl"
            sink = Files(path=tmp_path / "a", format=form, mode=kind.replace("parts", "append"), encryption=encryption)
        archives.archive(sink, [*OTHERS, secret()], FILES)
        hold(sink, keys=[noted(sink, "test:c1")])
        report = purge(sink, "test:c-secret")

        assert (report.purged, report.assets) == (1, 1)
        assert len(planned(sink, "test:c1").held) == 1
        assert b"c-secret" not in b"".join(all_bytes(sink).values())
        assert archives.verify(sink) == []
        archives.archive(sink, [*OTHERS, secret()], FILES)
        assert readable(sink).keys() == {"test:c1", "test:c2", "test:c3"}
        assert archives.verify(sink) == []


def noted(sink, key):
    with sink.open_custody(contexts()) as custody:
        return custody.noted(key)
