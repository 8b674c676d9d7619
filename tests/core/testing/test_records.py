"""Hard records, the comparison of records and the faults: what the contracts rely on."""

import contextlib
import signal
from collections import Counter

import msgspec
import pytest

from muniment import Asset, Context, Conversation, Message, TransientError
from muniment.canonical import record_from_json, record_to_json
from muniment.errors import FatalError
from muniment.model import Citation, Part, Raw
from muniment.testing import (
    ListSource,
    MemoryStore,
    MemoryUpsert,
    hard_records,
    make_asset,
    make_record,
    maximal_record,
)
from muniment.testing.compare import difference
from muniment.testing.faults import Faults, FaultySink, Kill, KilledError, Point, RandomFaults
from muniment.testing.hard_records import NEEDS
from muniment.testing.kill import Killer
from muniment.testing.runs import archive, plan_of


def structs_in(value):
    if isinstance(value, msgspec.Struct):
        yield value
        for name in value.__struct_fields__:
            yield from structs_in(getattr(value, name))
    elif isinstance(value, tuple):
        for inner in value:
            yield from structs_in(inner)


class TestHardRecords:
    def test_the_maximal_record_fills_every_field(self):
        """Of every class of the model, each field has a value beside its default somewhere."""
        record = maximal_record().record
        filled: dict[type, set[str]] = {}
        for struct in structs_in(record.conversation):
            kind = type(struct)
            names = {n for n in kind.__struct_fields__ if getattr(struct, n) not in (None, "", (), False, -1)}
            filled.setdefault(kind, set()).update(names)

        for kind in (Conversation, Message, Asset, Citation, *Part.__args__):
            assert filled[kind] == set(kind.__struct_fields__), kind

    def test_each_has_its_name_and_its_id(self):
        """Two with one name or one key would hide each other."""
        hard = list(hard_records())

        assert max(Counter(h.name for h in hard).values()) == max(Counter(h.record.key for h in hard).values()) == 1
        assert {n for h in hard for n in h.needs} == NEEDS

    @pytest.mark.parametrize("hard", list(hard_records()), ids=lambda h: h.name.encode("ascii", "replace").decode())
    def test_each_survives_its_own_json(self, hard):
        """What the canonical JSON could not hold, no sink could."""
        again = record_from_json(record_to_json(hard.record), hard.record.origin)

        assert difference(hard.record, again) == ""
        named = {a.sha256 for a in hard.record.conversation.assets if a.sha256}
        assert named == set(hard.assets)


class TestDifference:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"title": "B"}, "conversation['title']: expected 'A talk', found 'B'"),
            ({"title": None}, "conversation['title']: expected 'A talk', found nothing"),
            ({"metadata": {"n": 1.0}}, "conversation['metadata']['n']: expected 1, found 1.0"),
            ({"metadata": {"n": True}}, "conversation['metadata']['n']: expected 1, found True"),
            ({"metadata": {}}, "conversation['metadata']['n']: expected 1, found nothing"),
            ({"messages": ()}, "conversation['messages']: expected"),
        ],
    )
    def test_it_names_the_first_place(self, fields, said):
        """With both values, and types apart."""
        record = make_record(metadata={"n": 1})

        assert difference(record, record.evolve(**fields)).startswith(said)

    def test_it_compares_raw_as_values(self):
        """Blanks and the order of keys are no difference, values are."""
        one = msgspec.structs.replace(make_record(texts=[]), raw=Raw(b'{"a":1,"b":[]}', ()))
        same = msgspec.structs.replace(one, raw=Raw(b'{ "b": [], "a": 1 }', ()))
        other = msgspec.structs.replace(one, raw=Raw(b'{"a":2,"b":[]}', ()))

        assert difference(one, same) == ""
        assert difference(one, other) == "raw.envelope['a']: expected 1, found 2"
        assert difference(one, other, raw=False) == ""


class TestListSource:
    def test_it_gives_the_bytes_of_assets(self):
        """By their digest; one that it does not have is not found."""
        asset = make_asset(b"data")
        reader = ListSource(assets={asset.sha256: b"data"}).open(Context(run="r"))

        assert reader.open_asset(asset).read() == b"data"
        with pytest.raises(FileNotFoundError):
            reader.open_asset(make_asset(b"other"))


class TestFaults:
    def test_every_call_is_two_points(self, tmp_path):
        """In the order of a run; the wrapper stores what the sink alone would."""
        faults, store = Faults(lambda point: None), MemoryStore()

        archive(FaultySink(sink=MemoryUpsert(store=store), faults=faults), [make_record()], state_dir=tmp_path)

        assert [str(p) for p in faults.passed][::2] == [
            "before open_target 1", "before open 1", "before write 1", "before seal 1", "before commit 1",
            "before end_run 1",
        ]  # fmt: skip
        assert list(store.records) == ["test:c1"]

    def test_a_wrapper_changes_no_plan(self, tmp_path):
        """A run that was disturbed is gone on with by one that is not."""
        sink = MemoryUpsert(store=MemoryStore())
        one, other = (plan_of(s, (), state_dir=tmp_path) for s in (sink, FaultySink(sink=sink)))

        assert one.hash_of(one.sinks[0]) == other.hash_of(other.sinks[0])
        assert FaultySink(sink=sink).protocol == sink.protocol == "transactional"

    def test_equal_seeds_give_equal_faults(self):
        """So that a failure can be had again."""
        ways = []
        for _ in range(2):
            strike = RandomFaults(5)
            for number in range(60):
                with contextlib.suppress(TransientError, FatalError):
                    strike(Point("write", number))
            ways.append(strike.fired)

        assert ways[0] == ways[1] and {kind for _, kind in ways[0]} == {"transient", "fatal"}


class TestKiller:
    @pytest.fixture
    def killer(self):
        with Killer() as killer:
            yield killer

    def test_it_kills_and_goes_on(self, killer, tmp_path):
        """SIGKILL, an error and a run that ends well are told apart."""

        sink, records = MemoryUpsert(store=MemoryStore()), [make_record()]
        faulty = FaultySink(sink=sink, faults=Faults(Kill(Point("seal"))))

        killed = killer.run(plan_of(faulty, records, state_dir=tmp_path))
        failed = killer.run(plan_of(sink, [], state_dir=tmp_path))
        ended = killer.run(plan_of(sink, records, state_dir=tmp_path))

        assert (killed.signal_number, killed.error) == (signal.SIGKILL, "")
        assert failed.error.startswith("InputError: no conversations were found")
        assert (ended.signal_number, ended.error) == (0, "")

    def test_a_place_in_this_process_is_killed_by_an_exception(self, tmp_path):
        """Nothing of the run does anything afterwards."""
        faults, store = Faults(Kill(Point("seal", before=False), really=False)), MemoryStore()
        with pytest.raises(KilledError):
            archive(FaultySink(sink=MemoryUpsert(store=store), faults=faults), [make_record()], state_dir=tmp_path)

        assert faults.dead and store.runs == [] and list(store.records) == ["test:c1"]
