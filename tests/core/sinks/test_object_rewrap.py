"""Other keys for an encrypted target of objects: its manifests stay true, and a kill in between is made good."""

import json
import os

import pytest

from muniment.components import Context
from muniment.crypto import Encryption, Key, Keyring, add_recipients, replace_keys
from muniment.errors import ConfigError, FatalError, WrongKeyError
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.proof import Proof, SigningKey
from muniment.secrets import Secret
from muniment.testing import ListSource, make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace, MemoryStorage
from muniment.testing.records import make_asset
from muniment.verification import Inspection

DATA = b"bytes of a file"
MODES = [{}, {"mode": "mirror"}, {"latest": True}, {"key": "x/{year}/{part}.jsonl.zst.enc"}, {"mode": "snapshot"}]


class Registry:
    def call_run_event(self, event):
        pass


class KilledError(BaseException):
    pass


@pytest.fixture
def place():
    return MemoryPlace()


@pytest.fixture
def make(place, tmp_path):
    def make(name="old", **options):
        path = tmp_path / f"{name}.key"
        if not path.exists():
            path.touch(0o600)
            path.write_text(Key(os.urandom(32)).text())
        options = {"format": "jsonl", "mode": "append", **options}
        encryption = Encryption(key=Secret(f"file:{path}"))
        return MemoryObjects(place=place, state=tmp_path / "state", encryption=encryption, **options)

    make("new")
    return make


@pytest.fixture
def ring(tmp_path, make):
    return lambda name: Keyring([Key.parse((tmp_path / f"{name}.key").read_text())])


@pytest.fixture
def rotate(ring):
    def rotate(sink, old="old", new="new"):
        return sink.rewrap(context(), lambda stream: replace_keys(stream, ring(old), ring(new)))

    return rotate


def context():
    return Context(run="20260102T030405-00000009", path="sinks[0]")


def archive(sink, *names):
    asset = make_asset(DATA)
    records = tuple(make_record(n, assets=(asset,)) for n in names)
    source = ListSource(records=records, assets={asset.sha256: DATA})
    path = SinkPath(step=Step("memory", "sinks[0]", sink), name="sink", max_unit_records=2)
    return run(Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,)), Registry())


def problems(sink):
    if sink.layout.mode == "snapshot":
        return []
    return [(f.kind, f.where) for f in sink.verify(context(), Inspection()) if f.is_problem]


def keys(sink):
    with sink.open_target(context()) as target:
        return sorted(r.conversation.id for r in target.read_back())


class TestRotation:
    @pytest.mark.parametrize("options", MODES, ids=str)
    def test_only_the_new_key_opens_all_of_it(self, make, rotate, options):
        old, new = make(**options), make("new", **options)
        archive(old, "a", "b", "c")

        assert rotate(old)

        assert problems(new) == []
        assert keys(new) == ["a", "b", "c"]
        with pytest.raises(WrongKeyError):
            archive(old, "d")
        archive(new, "a", "b", "c", "d")
        assert (keys(new), problems(new)) == (["a", "b", "c", "d"], [])

    @pytest.mark.parametrize("options", MODES, ids=str)
    def test_no_object_opens_with_the_old_key(self, make, place, rotate, ring, options):
        """Not one, the latest view and the files included."""
        archive(make(**options), "a", "b", "c")

        rotate(make(**options))

        for name, data in place.objects.items():
            if name.endswith((".enc", "vault")):
                with pytest.raises(WrongKeyError):
                    add_recipients(_stream(data), ring("old"), ring("old"))

    def test_it_can_be_done_again_and_back(self, make, place, rotate):
        old = make()
        archive(old, "a")
        rotate(old)
        before = dict(place.objects)

        assert not rotate(old)
        assert place.objects == before
        assert rotate(old, "new", "old")
        assert problems(old) == []

    def test_state_made_anew_and_runs_go_on(self, make, rotate, tmp_path):
        """A manifest of a rotation tells the state nothing new."""
        archive(make(), "a", "b", "c")
        rotate(make())
        (tmp_path / "state" / "state.db").unlink()

        report = archive(make("new"), "c", "b", "a")

        assert (report.sinks["sink"].stored, report.sinks["sink"].unchanged) == (0, 3)

    def test_it_signs_what_it_says(self, make, rotate, tmp_path):
        path = tmp_path / "sign.key"
        path.touch(0o600)
        path.write_text(SigningKey("example.org", b"\3" * 32).text())
        proof = Proof(key=Secret(f"file:{path}"))
        archive(make(proof=proof), "a")

        with pytest.raises(ConfigError, match="this archive is signed"):
            rotate(make())
        rotate(make(proof=proof))

        assert problems(make("new", proof=proof)) == []

    def test_an_object_that_was_changed_is_not_taken_for_true(self, make, place, rotate):
        """A rotation must not give a forger's bytes a place in the manifests."""
        archive(make(), "a")
        name = next(n for n in place.objects if n.startswith("part-"))
        place.objects[name] = place.objects[name][:-1] + b"x"
        before = dict(place.objects)

        with pytest.raises(FatalError, match="is missing or not what was stored"):
            rotate(make())
        assert place.objects == before

    @pytest.mark.parametrize("at", range(1, 12))
    def test_a_kill_is_made_good_by_running_it_again(self, make, place, rotate, monkeypatch, at):
        """Before any of its publications: verify is green at once, or after the second call."""
        archive(make(), "a", "b", "c")
        seen = 0
        publish = MemoryStorage.publish

        def killing(self, *given, **options):
            nonlocal seen
            seen += 1
            if seen == at:
                raise KilledError
            publish(self, *given, **options)

        monkeypatch.setattr(MemoryStorage, "publish", killing)
        try:
            rotate(make())
        except KilledError:
            monkeypatch.undo()
            place.staged.clear()
            if at == 1:
                assert problems(make()) == []
            rotate(make())
        else:
            monkeypatch.undo()

        assert problems(make("new")) == []
        assert keys(make("new")) == ["a", "b", "c"]

    def test_its_manifest_is_an_event(self, make, place, rotate):
        """It says the same records under the same names, and where they come from."""
        archive(make(), "a", "b")
        before = _objects(place)

        rotate(make())

        last = json.loads(place.objects[max(n for n in place.objects if "/manifests/" in n)])
        assert last["event"]["kind"] == "rewrap"
        for made in last["objects"]:
            assert made["records"] == before[made["name"]]["records"]
            assert made["sha256"] != before[made["name"]]["sha256"]
            assert made["of"]["number"] == 1

    def test_another_key_is_added(self, make, rotate, ring):
        old, new = make(), make("new")
        archive(old, "a")

        old.rewrap(context(), lambda stream: add_recipients(stream, ring("old"), ring("new")))

        assert keys(old) == keys(new) == ["a"]
        assert problems(new) == []

    def test_a_plain_target_has_no_keys(self, place, tmp_path, rotate):
        sink = MemoryObjects(place=place, state=tmp_path / "s", format="jsonl", mode="append")
        archive(sink, "a")

        with pytest.raises(ConfigError, match="not encrypted"):
            rotate(sink)


def _stream(data):
    import io

    return io.BytesIO(data)


def _objects(place):
    found = {}
    for name in sorted(n for n in place.objects if "/manifests/" in n):
        found.update((o["name"], o) for o in json.loads(place.objects[name]).get("objects", ()))
    return found
