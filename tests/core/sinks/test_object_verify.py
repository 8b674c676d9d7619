"""What the manifests and the checkpoint of an object target say, and what `verify` makes of a place that changed."""

import json

import pytest

from muniment.components import Context
from muniment.errors import InputError
from muniment.merkle import leaf_hash, root_of
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.proof import Proof, SignedHead, SigningKey
from muniment.secrets import Secret
from muniment.storage import Capabilities
from muniment.testing import ListSource, make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace, MemoryStorage
from muniment.verification import Inspection, Sample

KEY = SigningKey("example.org", b"\3" * 32)
MANIFESTS = ".muniment/manifests/"
HEAD = ".muniment/checkpoint"


class Registry:
    def call_run_event(self, event):
        pass


class Lock(MemoryObjects):
    """A bucket that never replaces an object."""

    def storage(self):
        return _LockedStorage(self.place)


class _LockedStorage(MemoryStorage):
    capabilities = Capabilities(replaces=False)

    def __init__(self, place):
        super().__init__(place)
        self.capabilities = type(self).capabilities


@pytest.fixture
def place():
    return MemoryPlace()


@pytest.fixture
def make(place, tmp_path):
    def make(kind=MemoryObjects, **options):
        return kind(place=place, state=tmp_path / "state", format="jsonl", mode="append", **options)

    return make


@pytest.fixture
def proof(tmp_path):
    path = tmp_path / "sign.key"
    path.touch(0o600)
    path.write_text(KEY.text())
    return Proof(key=Secret(f"file:{path}"))


def archive(sink, *names, findings=()):
    source = ListSource(records=tuple(make_record(n) for n in names), findings=findings)
    path = SinkPath(step=Step("memory", "sinks[0]", sink), name="sink", max_unit_records=2)
    return run(Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,)), Registry())


def manifests(place):
    return [json.loads(d) for n, d in sorted(place.objects.items()) if n.startswith(MANIFESTS)]


def verify(sink, **asked):
    inspection = Inspection(**asked)
    return [(f.kind, f.where) for f in sink.verify(Context(run="", path="sinks[0]"), inspection) if f.is_problem]


class TestManifests:
    def test_a_run_ends_with_its_completeness(self, make, place):
        """The counts, and what the source said of itself."""
        report = archive(make(), "a", "b", "c", findings=("missing_shard",))
        *_, last = manifests(place)

        assert last["report"]["counts"] == {"read": 3, "stored": 3, "unchanged": 0, "dropped": 0, "quarantined": 0}
        assert (last["report"]["incomplete"], last["report"]["exit_code"]) == (True, 3)
        assert last["report"]["findings"] == {"missing_shard": 1}
        assert last["report"]["sources"][0]["fingerprint"]
        assert last["run"] == report.run

    def test_each_says_what_it_was_made_with(self, make, place):
        """The version of each component's distribution."""
        archive(make(), "a")

        said = manifests(place)[0]["made_with"]
        assert [c["type"] for c in said["components"]] == ["list", "memory"]
        assert said["components"][0]["from"] == f"muniment {said['muniment']}"

    def test_a_run_with_nothing_new_leaves_all_as_it_was(self, make, place):
        """Byte for byte."""
        archive(make(), "a")
        before = dict(place.objects)
        archive(make(), "a")

        assert place.objects == before


class TestHead:
    def test_it_is_the_root_over_the_manifests(self, make, place):
        """As RFC 6962 says, over their bytes."""
        archive(make(), "a", "b", "c")

        leaves = [leaf_hash(d) for n, d in sorted(place.objects.items()) if n.startswith(MANIFESTS)]
        head = SignedHead.parse(place.objects[HEAD]).head
        assert (head.size, head.root) == (3, root_of(leaves))

    def test_it_is_signed(self, make, place, proof):
        """By the key of the sink, which the manifests name."""
        archive(make(proof=proof), "a")

        assert SignedHead.parse(place.objects[HEAD]).is_signed_by(KEY.verifier)
        assert manifests(place)[0]["signer"] == str(KEY.verifier)
        assert verify(make(), public_key=KEY.verifier) == []

    @pytest.mark.parametrize("damage", [None, b"", b"other"])
    def test_the_next_run_makes_it_again(self, make, place, damage):
        """Where it is behind, damaged or gone."""
        archive(make(), "a")
        before = place.objects.pop(HEAD)
        if damage is not None:
            place.objects[HEAD] = damage
        archive(make(), "a")

        assert place.objects[HEAD] == before

    def test_it_is_written_once_a_run_where_nothing_is_replaced(self, make, place):
        """Each under a name of its own, and all of them are checked."""
        sink = make(Lock)
        archive(sink, "a", "b", "c")
        archive(sink, "d")

        heads = [n for n in place.objects if n.startswith(".muniment/checkpoint")]
        assert heads == [".muniment/checkpoints/00000003", ".muniment/checkpoints/00000005"]
        assert verify(sink) == []
        place.objects[heads[0]] = place.objects[heads[1]]
        assert verify(sink) == [("changed", heads[0])]

    def test_a_killed_run_leaves_it_behind_and_that_is_no_alarm(self, make, place, proof):
        """But nobody has signed what came after it."""
        sink = make(proof=proof)
        archive(sink, "a")
        before = place.objects[HEAD]
        archive(sink, "b")
        place.objects[HEAD] = before

        assert verify(sink) == []
        assert verify(sink, public_key=KEY.verifier) == [("unsigned", HEAD)]


class TestVerify:
    def test_it_finds_what_is_missing_changed_extra_and_swapped(self, make, place):
        """By name."""
        sink = make()
        archive(sink, *"abcdefgh")
        one, two, three, four = sorted(n for n in place.objects if n.startswith("part-"))
        place.objects[one], place.objects[two] = place.objects[two], place.objects[one]
        del place.objects[three]
        place.objects[four] += b"\n"
        place.objects["part-00000009-x.jsonl"] = b""

        assert verify(sink) == [
            ("swapped", one), ("swapped", two), ("missing", three), ("changed", four),
            ("extra", "part-00000009-x.jsonl"),
        ]  # fmt: skip

    def test_it_names_the_first_manifest_that_was_changed(self, make, place):
        """Not all that come behind it."""
        sink = make()
        archive(sink, *"abcdefgh")
        name = f"{MANIFESTS}00000002.json"
        place.objects[name] = place.objects[name].replace(b'"at":"2', b'"at":"3')

        assert verify(sink) == [("changed", name)]

    def test_a_gap_is_one_finding(self, make, place):
        """However many are missing."""
        sink = make()
        archive(sink, *"abcdefgh")
        for number in (2, 3):
            del place.objects[f"{MANIFESTS}{number:08}.json"]

        found = verify(sink)
        assert found[0] == ("missing", f"{MANIFESTS}00000002.json")
        assert {kind for kind, _ in found[1:]} == {"extra"}

    def test_names_with_a_dot_in_front_are_nobody_s_business(self, make, place):
        """Of a file manager or an editor."""
        sink = make()
        archive(sink, "a")
        place.objects[".DS_Store"] = place.objects["x/.hidden/y"] = b""

        assert verify(sink) == []

    def test_a_sample_reads_as_many_as_it_says(self, make):
        """And all manifests."""
        sink = make()
        archive(sink, *"abcdefgh")
        inspection = Inspection(sample=Sample(count=1))

        assert list(sink.verify(Context(run=""), inspection)) == []
        assert (inspection.objects, inspection.skipped, inspection.manifests) == (1, 3, 6)

    def test_an_empty_place_is_told_from_a_sound_one(self, make):
        """It is no success."""
        with pytest.raises(InputError, match="holds no manifests"):
            verify(make())

    def test_removed_manifests_are_no_empty_place(self, make, place):
        """The checkpoint remembers them."""
        sink = make()
        archive(sink, "a")
        for name in [n for n in place.objects if n.startswith(MANIFESTS)]:
            del place.objects[name]

        assert ("rolled back", HEAD) in verify(sink)
