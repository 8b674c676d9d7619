"""The contract of sinks finds out a sink that breaks it: each of these is wrong in one way."""

import hashlib

import pytest
from attrs import define, evolve, field, frozen
from msgspec.structs import replace

from muniment import MunimentError, Prepared, Receipt, Rejected, Sink, Target, Writer, option
from muniment.merge import merge_records
from muniment.model import TextPart
from muniment.state import quarantine_id
from muniment.testing import SinkContract
from muniment.testing.faults import Point


@define(eq=False, repr=False)
class Place:
    """What outlives a run.  Staged units wait in ``staged``."""

    records: list = field(factory=list)
    checkpoints: dict = field(factory=dict)
    quarantine: dict = field(factory=dict)
    assets: dict = field(factory=dict)
    staged: dict = field(factory=dict)
    number: int = 0

    def __attrs_post_init__(self):
        PLACES[id(self)] = self

    def __reduce__(self):
        return place_of, (id(self),)


PLACES = {}


def place_of(number):
    return PLACES[number]


@frozen(kw_only=True)
class Sound(Sink):
    """A staged sink that keeps the contract; what is broken is changed in one method."""

    reads_back = True
    place: Place = option("The place.", identity=False)
    password: str = option("A password.", default="hunter2-hunter2", identity=False)

    def open(self, ctx):
        return SoundWriter(self, ctx)

    def open_target(self, ctx):
        return SoundTarget(self)

    # --- what a broken one does in another way -------------------------------------------------

    def put(self, place, record):
        """Store a record; return whether that changed anything."""
        for i, old in enumerate(place.records):
            if old.key == record.key:
                place.records[i] = self.merge(old, record)
                return place.records[i] is not old
        place.records.append(record)
        return True

    def merge(self, old, new):
        return merge_records(old, new)

    def stage(self, record):
        return record

    def copy_asset(self, place, asset, ctx):
        try:
            data = ctx.open_asset(asset).read()
        except FileNotFoundError:
            return ""
        if hashlib.sha256(data).hexdigest() != asset.sha256:
            return "the asset is not what its digest says"
        place.assets[asset.sha256] = data
        return ""

    def seal(self, place, prepared, records):
        place.staged[prepared.objects[0]["token"]] = records

    def commit(self, place, prepared):
        records = place.staged.pop(prepared.objects[0]["token"], None)
        if records is not None:
            for record in records:
                self.put(place, record)
            self.note(place, prepared.unit)

    def note(self, place, unit):
        place.checkpoints[unit.checkpoint.partition] = unit.checkpoint
        entries = place.quarantine.setdefault(unit.checkpoint.partition, [])
        if unit.read_whole:
            # What did not come again in this run is resolved.
            entries[:] = [e for e in entries if e[0] == unit.run]
        entries += [(unit.run, rejected) for rejected in unit.quarantined]

    def abort(self, place, prepared):
        place.staged.pop(prepared.objects[0]["token"], None)

    def rejected(self, rejected):
        return rejected

    def entry_id(self, id_):
        return id_


class SoundWriter(Writer):
    def __init__(self, sink, ctx):
        self.sink, self.ctx, self.place = sink, ctx, sink.place
        self.records = []

    def write(self, payload):
        rejected, stored, unchanged = [], 0, 0
        for record in payload.records:
            problems = [p for a in record.conversation.assets if a.sha256 for p in [self.copy(a)] if p]
            if problems:
                rejected.append(Rejected(record.origin, "write", problems[0], record.key))
            elif self.is_known(record):
                unchanged += 1
            else:
                self.records.append(self.sink.stage(record))
                stored += 1
        rejected = self.sink.rejected(rejected)
        return Receipt(len(payload.records) - unchanged - len(rejected), unchanged, tuple(rejected))

    def copy(self, asset):
        return self.sink.copy_asset(self.place, asset, self.ctx)

    def is_known(self, record):
        for old in (*self.place.records, *self.records):
            if old.key == record.key and self.sink.merge(old, record) is old:
                return True
        return False

    def seal(self, unit):
        self.place.number += 1
        prepared = Prepared(unit, ({"token": self.place.number},))
        self.sink.seal(self.place, prepared, self.records)
        self.records = []
        return prepared


class SoundTarget(Target):
    def __init__(self, sink):
        self.sink, self.place = sink, sink.place

    def committed(self):
        return dict(self.place.checkpoints)

    def commit(self, prepared, fence):
        for one in prepared:
            self.sink.commit(self.place, one)

    def abort(self, prepared):
        for one in prepared:
            self.sink.abort(self.place, one)

    def read_back(self):
        yield from list(self.place.records)

    def quarantined(self):
        for partition, entries in self.place.quarantine.items():
            for _, e in entries:
                id_ = self.sink.entry_id(quarantine_id(e))
                yield {"id": id_, "partition": partition, "stage": e.stage, "reason": e.reason, "record": e.key}


class Contract(SinkContract):
    outlives_process = False
    secret_values = ("hunter2-hunter2",)

    def read_asset(self, sink, asset):
        return sink.place.assets.get(asset.sha256)


class TestSound(Contract):
    """The one that is not broken passes, so that what the others fail is what they break."""

    secret_values = ()

    @pytest.fixture
    def sink(self):
        return Sound(place=Place())


# --- the broken ones ------------------------------------------------------------------------


class StoresNothing(Sound):
    def put(self, place, record):
        return True


class LosesABranch(Sound):
    def stage(self, record):
        parents = set()
        kept = []
        for message in record.conversation.messages:
            if message.parent_id not in parents or message.parent_id is None:
                kept.append(message)
            parents.add(message.parent_id)
        return record.evolve(messages=tuple(kept))


class ForgetsAssets(Sound):
    def copy_asset(self, place, asset, ctx):
        return ""


class SwallowsErrors(Sound):
    def rejected(self, rejected):
        return []


class ShowsTooEarly(Sound):
    def seal(self, place, prepared, records):
        super().seal(place, prepared, [])
        for record in records:
            self.put(place, record)


class AppendsTwice(Sound):
    def put(self, place, record):
        place.records.append(record)
        return True

    def merge(self, old, new):
        return replace(new)


class PassesBeforeItStores(Sound):
    """The checkpoint is there with the seal, the data only with the commit."""

    def seal(self, place, prepared, records):
        super().seal(place, prepared, records)
        self.note(place, prepared.unit)


class KeepsTheNewerAlone(Sound):
    def merge(self, old, new):
        return old if old == new else new


class LosesTheNewer(Sound):
    def merge(self, old, new):
        return old


class DropsLoneSurrogates(Sound):
    def stage(self, record):
        def clean(text):
            return text.encode("utf-8", "ignore").decode()

        messages = tuple(
            replace(
                m, parts=tuple(replace(p, content=clean(p.content)) if isinstance(p, TextPart) else p for p in m.parts)
            )
            for m in record.conversation.messages
        )
        return record.evolve(messages=messages)


class LeaksItsPassword(Sound):
    def __repr__(self):
        return f"LeaksItsPassword(password={self.password!r})"


class ForgetsHowFar(Sound):
    """A run that was killed is never known to have got anywhere."""

    def note(self, place, unit):
        super().note(place, unit)
        if not unit.checkpoint.finished:
            place.checkpoints.pop(unit.checkpoint.partition)
        else:
            place.checkpoints[unit.checkpoint.partition] = evolve(unit.checkpoint, finished=False, position=99)


class IgnoresAbort(Sound):
    def abort(self, place, prepared):
        self.commit(place, prepared)


class CommitsOnceMore(Sound):
    def commit(self, place, prepared):
        for record in place.staged[prepared.objects[0]["token"]]:
            place.records.append(record)
        self.note(place, prepared.unit)


class ForgetsTheQuarantine(Sound):
    def note(self, place, unit):
        super().note(place, unit)
        place.quarantine.clear()


class NamesEntriesItsOwnWay(Sound):
    def entry_id(self, id_):
        return f"own-{id_}"


class FoldsCase(Sound):
    def put(self, place, record):
        for i, old in enumerate(place.records):
            if old.key.lower() == record.key.lower():
                place.records[i] = record
                return True
        place.records.append(record)
        return True


class MiscountsRecords(Sound):
    def rejected(self, rejected):
        return [*rejected, *rejected]


class LosesAnEarlierUnit(Sound):
    """Each unit replaces what the one before it in the same run has stored."""

    def commit(self, place, prepared):
        if prepared.unit.number > 1 and prepared.unit.counts.read:
            place.records.clear()
        super().commit(place, prepared)


@pytest.fixture
def fail(tmp_path):
    """Return a function that runs one check on a sink and returns why it fails."""

    def fail(kind, check, *args):
        contract = Contract()
        contract.state_dir = tmp_path / "state"
        try:
            getattr(contract, check)(kind(place=Place()), *args)
        except (AssertionError, pytest.fail.Exception, MunimentError) as error:
            return str(error)
        except pytest.skip.Exception as error:
            raise AssertionError(f"`{check}` does not apply") from error
        raise AssertionError(f"`{check}` finds nothing wrong with `{kind.__name__}`")

    return fail


class TestBroken:
    @pytest.mark.parametrize(
        ("kind", "check", "args", "reason"),
        [
            (StoresNothing, "test_it_gives_back_every_hard_record", (1, 10), "is not stored"),
            (StoresNothing, "test_the_same_run_twice_changes_nothing", (), "is not stored"),
            (LosesABranch, "test_it_gives_back_every_hard_record", (1, 10), "came back changed"),
            (ForgetsAssets, "test_it_keeps_the_bytes_of_assets", (), "is not stored; `Writer.write` gets the bytes"),
            (ForgetsAssets, "test_an_asset_that_is_not_what_it_says_rejects_its_record", ("other bytes",), "hash what"),
            (SwallowsErrors, "test_an_asset_that_is_not_what_it_says_rejects_its_record", ("other bytes",), "reject"),
            (ShowsTooEarly, "test_nothing_is_visible_before_the_commit", (False,), "are visible; stage them"),
            (AppendsTwice, "test_the_same_record_twice_in_one_run_is_stored_once", (), "is stored twice"),
            (AppendsTwice, "test_a_newer_version_is_merged", (1, 1), "is stored twice"),
            (PassesBeforeItStores, "test_nothing_is_visible_before_the_commit", (False,), "together with its data"),
            (KeepsTheNewerAlone, "test_a_newer_version_is_merged", (1, 1), "came back changed"),
            (KeepsTheNewerAlone, "test_an_older_or_thinner_version_takes_nothing_away", (), "came back changed"),
            (LosesTheNewer, "test_a_newer_version_is_merged", (1, 1), "two newer versions gave"),
            (DropsLoneSurrogates, "test_it_gives_back_every_hard_record", (1, 10), "came back changed"),
            (ForgetsHowFar, "test_the_same_run_twice_changes_nothing", (), "`Target.committed` must return"),
            (ForgetsHowFar, "test_it_knows_the_last_checkpoint", (), "`committed` must return"),
            (IgnoresAbort, "test_an_aborted_unit_leaves_nothing", (False,), "after `abort`"),
            (CommitsOnceMore, "test_a_commit_twice_is_one_commit", (), "is stored twice"),
            (
                ForgetsTheQuarantine,
                "test_it_keeps_the_quarantine",
                (),
                "must return the two entries that the unit carried",
            ),
            (NamesEntriesItsOwnWay, "test_it_calls_an_entry_what_all_sinks_call_it", (), "must be `quarantine_id` of"),
            (MiscountsRecords, "test_an_asset_that_is_not_what_it_says_rejects_its_record", ("other bytes",), ""),
            (FoldsCase, "test_ids_that_look_alike_stay_apart", (), ""),
            (FoldsCase, "test_it_gives_back_every_hard_record", (1, 10), "is not stored"),
            (LosesAnEarlierUnit, "test_the_same_run_twice_changes_nothing", (), "is not stored"),
        ],
    )
    def test_the_check_finds_it_out(self, fail, kind, check, args, reason):
        """The named check fails, and says what to do."""
        assert reason in fail(kind, check, *args)

    @pytest.mark.parametrize("kind", [PassesBeforeItStores, ForgetsHowFar, LosesAnEarlierUnit])
    def test_a_kill_finds_it_out(self, fail, kind):
        """A run that is killed between the seal and the commit shows who cannot go on."""
        assert fail(kind, "test_it_survives_a_kill", Point("seal", 1, before=False), True)

    @pytest.mark.parametrize("kind", [LeaksItsPassword])
    def test_a_leak_is_found_out(self, fail, caplog, kind):
        """A password in a repr is named by its place."""
        assert "appears in `repr` of the sink" in fail(kind, "test_secrets_appear_nowhere", caplog)
