"""The key of one conversation is destroyed: nothing opens it then, nothing else is touched, and all stays provable."""

import base64
import io
import json
import os
import shutil
import signal
import struct
import sys
from datetime import UTC, datetime

import attrs
import pytest

from muniment.components import Context
from muniment.crypto import Encryption, Key, Keyring, decrypting, replace_keys
from muniment.crypto import header as headers
from muniment.crypto.chunks import open_message
from muniment.crypto.files import decrypt_file
from muniment.crypto.frames import FRAMES_TYPE, KEYS, KEYS_TYPE
from muniment.crypto.keys import create_key_file, key_id
from muniment.errors import ConfigError, FatalError
from muniment.model import Origin
from muniment.objects import decompressing
from muniment.purge import make_plan, run_plan
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace, MemoryStorage
from muniment.testing.records import make_asset
from muniment.verification import Inspection
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sources.archive import ArchiveSource

CANARY = "xylophone-canary-7193"
SHARED, OWN = b"an image that two records need", b"an image that one record needs"
EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir")
KINDS = {
    "parts": {"format": "jsonl", "compression": "zstd"},
    "array": {"format": "json"},
    "months": {"format": "jsonl", "key": "x/{year}/{part}.jsonl.gz.enc"},
    "mirror": {"format": "json", "mode": "mirror", "compression": "xz"},
    "pages": {"format": "markdown", "mode": "mirror"},
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def context(run=0):
    return Context(run=f"20260101T000000-{run:08x}", path="sinks[0]")


def secret(*more):
    assets = make_asset(SHARED, id="file-shared", name="a.png"), make_asset(OWN, id="file-own", name="b.png")
    return make_record("c-secret", (CANARY, "an answer", *more), title=f"{CANARY} title", assets=assets)


OTHERS = (
    make_record("c1", ("one", "two")),
    make_record("c2", ("three",), assets=(make_asset(SHARED, id="file-shared", name="a.png"),)),
    make_record("c3", ("four", "five", "six" * 700_000)),
)
FILES = {a.sha256: data for a, data in zip(secret().conversation.assets, (SHARED, OWN), strict=True)}


@pytest.fixture
def key_path(tmp_path):
    create_key_file(tmp_path / "archive.key")
    return tmp_path / "archive.key"


def encryption_with(path):
    return Encryption(key=Secret(f"file:{path}"), per="conversation")


def keyring(path):
    return Keyring([Key.parse(path.read_text())])


@pytest.fixture
def make(tmp_path, key_path):
    def make(kind, **more):
        return Files(path=tmp_path / "a", encryption=encryption_with(key_path), **{**KINDS[kind], **more})

    return make


@pytest.fixture
def sink(kind, make, archives):
    sink = make(kind)
    archives.archive(sink, [OTHERS[0], secret(), OTHERS[1]], FILES, max_unit_records=2)
    archives.archive(sink, [secret(f"more {CANARY}"), OTHERS[2]], FILES)
    return sink


def planned(sink, *keys):
    with sink.open_custody(context()) as custody:
        return make_plan(custody, target="a", sink="", policy=None, keys=keys, reason="r", now=datetime.now(UTC))


def purge(sink, *keys, run=1, plan=None):
    plan = plan or planned(sink, *keys)
    with sink.open_custody(context(run)) as custody:
        return run_plan(plan, custody, actor="ann", now=datetime.now(UTC))


def readable(sink, run=9):
    with sink.open_target(context(run)) as target:
        return {r.key: len(r.conversation.messages) for r in target.read_back()}


def files_of(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def opened_by_anyone(objects, ring, keys_in):
    """Return all that the keys of ``keys_in`` open of ``objects``: every record's key is tried on every frame."""
    found, frames = [], []
    for name, data in objects.items():
        found.append(name.encode())
        found.append(data)
        if headers.is_encrypted(data) and not name.endswith("vault"):
            header = headers.read(io.BytesIO(data))
            found.append(json.dumps(dict(header.fixed.about)).encode())
            plain = decrypting(io.BytesIO(data), ring).read()
            found += [plain, *inflated(plain)]
            if header.fixed.content_type == FRAMES_TYPE:
                frames += frames_of(plain)
    keys = set()
    for data in keys_in.values():
        if headers.is_encrypted(data) and headers.read(io.BytesIO(data)).fixed.content_type == KEYS_TYPE:
            texts = json.loads(decrypting(io.BytesIO(data), ring).read())["keys"]
            keys.update(map(base64.b64decode, texts.values()))
    for place, sealed in frames:
        for plain in (open_message(key, place, sealed) for key in keys):
            if plain is not None:
                found += [plain, *inflated(plain)]
    return b"\n".join(found), len(frames)


def frames_of(plain):
    at = count = 0
    context = b""
    while at < len(plain):
        kind, size = struct.unpack(">cI", plain[at : at + 5])
        data = plain[at + 5 : at + 5 + size]
        if kind == b"k":
            context = b"muniment/v1/frame\0" + data + b"\0"
        elif kind in (b"r", b"m"):
            yield context + data[:32] + struct.pack(">Qc", count, kind), data[32:]
        at += 5 + size
        count += 1


def inflated(data):
    for ending in (".zst", ".gz", ".xz"):
        try:
            yield decompressing(io.BytesIO(data), ending).read()
        except Exception:
            continue


class TestArchive:
    def test_it_is_an_archive_like_any_other(self, kind, sink, archives, second_verifier, tmp_path, key_path):
        """With versions merged, verified with the key and without it, and decrypted to files."""
        assert archives.verify(sink) == []
        assert archives.verify(attrs.evolve(sink, encryption=None)) == []
        assert second_verifier.problems(tmp_path / "a") == []
        if kind != "pages":
            assert readable(sink) == {"test:c1": 2, "test:c2": 1, "test:c3": 3, "test:c-secret": 3}
        for name in files_of(tmp_path / "a"):
            if name.endswith(".enc") and not name.startswith(("assets/", ".muniment/")):
                made = decrypt_file(tmp_path / "a" / name, keyring(key_path), tmp_path / "plain")
                assert made.size > 10
                if kind != "pages":
                    plain = decompressing(io.BytesIO((tmp_path / "plain").read_bytes()), name.removesuffix(".enc"))
                    assert list(sink.make_format().decode(plain, Origin("x", "x")))
                (tmp_path / "plain").unlink()

    def test_the_source_reads_it(self, kind, sink, tmp_path, key_path):
        if kind == "pages":
            return
        purge(sink, "test:c-secret")
        source = ArchiveSource(path=str(tmp_path / "a"), encryption=Encryption(key=Secret(f"file:{key_path}")))
        with source.open(context()) as reader:
            [partition] = reader.partitions()
            found = [r for chunk in reader.read(partition, None) for r in source.decode(chunk)]
        assert {r.key for r in found} == {"test:c1", "test:c2", "test:c3"}


class TestShredding:
    def test_nothing_opens_the_record_and_everything_the_others(self, kind, sink, archives, tmp_path, key_path):
        """Of what stands there, and of what stood there: every key that is left is tried on every byte."""
        before = files_of(tmp_path / "a")
        assert CANARY.encode() in opened_by_anyone(before, keyring(key_path), before)[0]

        report = purge(sink, "test:c-secret")

        after = files_of(tmp_path / "a")
        kept = {n: d for n, d in before.items() if not n.startswith(KEYS)}
        found, frames = opened_by_anyone({**kept, **after}, keyring(key_path), after)
        assert frames >= 4
        assert CANARY.encode() not in found
        assert b"six" * 700_000 in found or kind == "pages" or b"sixsix" in found
        assert (report.purged, report.shredded, report.locked_assets) == (1, 1, 0)
        # A page does not name the files that it does not show.
        assert (report.assets == 1) != (report.kept_assets and kind == "pages")
        if kind != "pages":
            assert readable(sink) == {"test:c1": 2, "test:c2": 1, "test:c3": 3}

    def test_all_stays_provable(self, kind, sink, archives, second_verifier, tmp_path, key_path):
        """Parts are what they were, byte for byte; the tombstone names the destroyed key and nobody."""
        before = files_of(tmp_path / "a")
        with sink.open_custody(context()) as custody:
            head = custody.check()
            record = custody.noted("test:c-secret")
        ids = set()
        for name, data in before.items():
            if name.startswith(KEYS):
                texts = json.loads(decrypting(io.BytesIO(data), keyring(key_path)).read())["keys"]
                ids.update(key_id(base64.b64decode(text)) for n, text in texts.items() if n == record)

        report = purge(sink, "test:c-secret")

        assert {t["shredded"] for t in report.tombstones} == ids
        assert {t["key"] for t in report.tombstones} == {record}
        assert "secret" not in json.dumps(report.tombstones)
        after = files_of(tmp_path / "a")
        assert all(after[n] == d for n, d in before.items() if "/part-" in f"/{n}" and not n.startswith(KEYS))
        assert archives.verify(sink) == []
        assert archives.verify(attrs.evolve(sink, encryption=None)) == []
        assert [f for f in sink.verify(context(), Inspection(since=head)) if f.is_problem] == []
        assert second_verifier.problems(tmp_path / "a") == []

    def test_it_does_not_come_back(self, kind, sink, archives, second_verifier, tmp_path, key_path):
        """Not from the export, not with a state made anew, not by a second purge or other keys for the archive."""
        purge(sink, "test:c-secret")
        shutil.rmtree(tmp_path / "a/.muniment/state", ignore_errors=True)
        for state in (tmp_path / "a/.muniment").glob("state*"):
            state.unlink()
        create_key_file(tmp_path / "new.key")
        old, new = keyring(key_path), keyring(tmp_path / "new.key")
        sink.rewrap(context(3), lambda stream: replace_keys(stream, old, new))
        sink = attrs.evolve(sink, encryption=encryption_with(tmp_path / "new.key"))

        archives.archive(sink, [*OTHERS, secret("and more")], FILES)
        purge(sink, "test:c1", run=4)

        assert archives.verify(sink) == []
        assert second_verifier.problems(tmp_path / "a") == []
        if kind != "pages":
            assert readable(sink).keys() == {"test:c2", "test:c3"}
        after = files_of(tmp_path / "a")
        assert CANARY.encode() not in opened_by_anyone(after, new, after)[0]

    def test_a_newer_version_comes_behind_a_purge(self, kind, sink, archives):
        purge(sink, "test:c-secret")
        archives.archive(sink, [make_record("c1", ("one", "two", "2.5")), make_record("c9", ("nine",))], {})
        assert archives.verify(sink) == []
        if kind != "pages":
            assert readable(sink) == {"test:c1": 3, "test:c2": 1, "test:c3": 3, "test:c9": 1}


class TestDamage:
    @pytest.mark.parametrize("change", ["gone", "of another object"])
    def test_keys_that_are_lost_without_a_tombstone_are_found(self, make, archives, tmp_path, change):
        sink = make("parts")
        archives.archive(sink, [*OTHERS, secret()], FILES, max_unit_records=2)
        first, second = sorted((tmp_path / "a" / KEYS).iterdir())
        if change == "gone":
            first.unlink()
        else:
            shutil.copy(second, first)

        found = {(f.kind, f.where) for f in archives.verify(sink)}

        assert (("missing" if change == "gone" else "swapped"), KEYS + first.name) in found
        assert ("unreadable", first.name) in found
        with pytest.raises(FatalError, match="restore it from a copy"):
            readable(sink)
        with pytest.raises(FatalError, match="nothing was purged"):
            purge(sink, "test:c1")

    def test_repair_brings_back_what_the_keys_opened_but_not_what_was_purged(self, make, archives, tmp_path):
        sink = make("parts")
        archives.archive(sink, [*OTHERS, secret()], FILES)
        purge(sink, "test:c-secret")
        [keys] = (p for p in (tmp_path / "a" / KEYS).iterdir() if p.is_file())
        keys.unlink()
        with sink.open_target(context(5)) as target:
            damaged = []
            assert list(target.survey(damaged.append)) == []
        assert [len(d.keys) for d in damaged] == [3]


class TestKills:
    @pytest.mark.parametrize("form", ["parts", "mirror"])
    @pytest.mark.parametrize("kills", [6, pytest.param(40, marks=pytest.mark.slow)])
    def test_the_same_plan_run_again_does_the_rest(
        self, make, archives, second_verifier, tmp_path, key_path, form, kills
    ):
        """Killed at so many steps, from the first to the last, or at each if there are no more."""
        sink, folder, whole = make(form), tmp_path / "a", tmp_path / "whole"
        archives.archive(sink, [*OTHERS, secret()], FILES, max_unit_records=2)
        plan = planned(sink, "test:c-secret")
        shutil.copytree(folder, whole)
        total = purge_until(sink, plan, 0, folder)
        killed, done = 0, set()
        points = sorted({1 + i * total // kills for i in range(kills)})
        for steps in points:
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)
            killed += not purge_until(sink, plan, steps, folder)
            report = purge(sink, plan=plan, run=10_000 + steps)
            done.add(report.before)
            assert report.purged + report.before == 1
            assert archives.verify(sink) == []
            assert second_verifier.problems(folder) == []
            after = files_of(folder)
            assert CANARY.encode() not in opened_by_anyone(after, keyring(key_path), after)[0]
            assert readable(sink, 20_000 + steps).keys() == {"test:c1", "test:c2", "test:c3"}
        assert killed >= len(points) - 1
        assert done == {0, 1}

    @pytest.mark.parametrize("form", ["parts", "mirror"])
    def test_an_import_killed_anywhere_goes_on(self, make, archives, second_verifier, tmp_path, form):
        """A version is never there without the key that the next one needs to be merged into it."""
        sink, folder, whole = make(form), tmp_path / "a", tmp_path / "whole"
        archives.archive(sink, [OTHERS[0]], FILES)
        shutil.copytree(folder, whole)
        records = [make_record("c1", ("one", "two", "three")), secret()]
        total = until(lambda: archives.archive(sink, records, FILES), 0, folder)
        for steps in sorted({1 + i * total // 6 for i in range(6)}):
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)
            until(lambda: archives.archive(sink, records, FILES), steps, folder)
            archives.archive(sink, [make_record("c1", ("one", "2")), secret()], FILES)
            assert archives.verify(sink) == []
            assert second_verifier.problems(folder) == []
            assert readable(sink).keys() == {"test:c1", "test:c-secret"}


def purge_until(sink, plan, steps, folder):
    return until(lambda: purge(sink, plan=plan, run=steps), steps, folder)


def until(call, steps, folder):
    """Call in a process that is killed at its ``steps``-th step; return how many it took, 0 if it was killed."""
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

        def hook(event, arguments):
            if event in EVENTS and (str(folder) in str(arguments[0]) or event != "open"):
                taken[0] += 1
                if taken[0] == steps:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        call()
        os.write(told, str(taken[0]).encode())
        os._exit(0)
    except BaseException:
        os._exit(1)


class _Locked(MemoryStorage):
    """Keeps all but the keys, as a bucket with object lock does."""

    def keeps_deleted(self):
        return "object lock"

    def delete(self, name):
        if name.startswith(KEYS) or name in self.place.staged:
            super().delete(name)


class _Bucket(MemoryObjects):
    def storage(self):
        return _Locked(self.place)


class TestLock:
    def test_records_are_purged_where_nothing_can_be_deleted(self, archives, tmp_path, key_path):
        """The file that only the record needed stays, and the report says so."""
        place = MemoryPlace()
        options = {"place": place, "state": tmp_path / "state", "format": "jsonl", "mode": "append"}
        sink = _Bucket(encryption=encryption_with(key_path), **options)
        archives.archive(sink, [*OTHERS, secret()], FILES)

        report = purge(sink, "test:c-secret")

        assert (report.shredded, report.assets, report.locked_assets) == (1, 0, 1)
        assert archives.verify(sink) == []
        assert CANARY.encode() not in opened_by_anyone(place.objects, keyring(key_path), place.objects)[0]
        assert readable(sink).keys() == {"test:c1", "test:c2", "test:c3"}

    def test_what_was_written_without_keys_of_its_own_stays(self, archives, tmp_path, key_path):
        """An archive may begin in one way and go on in the other."""
        options = {"place": MemoryPlace(), "state": tmp_path / "state", "format": "jsonl", "mode": "append"}
        archives.archive(MemoryObjects(encryption=Encryption(key=Secret(f"file:{key_path}")), **options), OTHERS, FILES)
        sink = _Bucket(encryption=encryption_with(key_path), **options)
        archives.archive(sink, [*OTHERS, secret()], FILES)

        assert purge(sink, "test:c-secret").shredded == 1
        with pytest.raises(FatalError, match="was written before `per: conversation`"):
            purge(sink, "test:c1", run=2)
        assert purge(MemoryObjects(encryption=encryption_with(key_path), **options), "test:c1", run=3).shredded == 0
        assert archives.verify(sink) == []


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"format": "parquet"}, "format `parquet`"),
            ({"format": "jsonl", "latest": True}, "`latest`"),
            ({"format": "jsonl", "mode": "snapshot", "path": "all.jsonl.enc"}, "`mode: snapshot`"),
        ],
    )
    def test_what_holds_records_together_is_refused(self, tmp_path, key_path, options, said):
        sink = Files(**{"path": tmp_path / "a", "encryption": encryption_with(key_path), **options})
        assert any(f"`encryption.per: conversation` does not go with {said}" in p for p in sink.check())

    def test_a_database_refuses_it(self, key_path):
        sink = SQLite(path="a.db", encryption=encryption_with(key_path))
        assert any("does not go with `sqlite`" in p for p in sink.check())

    def test_a_storage_that_keeps_replaced_keys_is_refused(self, tmp_path, key_path):
        class Keeping(MemoryStorage):
            def keeps_replaced(self):
                return "soft delete"

        class Sink(MemoryObjects):
            def storage(self):
                return Keeping(self.place)

        sink = Sink(
            place=MemoryPlace(), state=tmp_path / "s", format="jsonl", mode="append",
            encryption=encryption_with(key_path),
        )  # fmt: skip
        with pytest.raises(ConfigError, match="where a key can be destroyed, and here it cannot: soft delete"):
            sink.open_target(context())
