"""Does everything come back as it was given?"""

import pickle
from itertools import count

import pytest

from muniment.components import Sink
from muniment.model import Record
from muniment.testing._sink_base import SinkTests, some_records
from muniment.testing.hard_records import HardRecord, hard_records, records
from muniment.testing.records import changed, make_record
from muniment.units import Batch


class RecordChecks(SinkTests):
    """Lossless: what is stored is what came."""

    hypothesis_examples = 8

    def test_it_is_a_value(self, sink: Sink) -> None:
        """A component can be sent to another process; what `encode` makes can too."""
        if pickle.loads(pickle.dumps(sink)) != sink:  # noqa: S301 - our own
            pytest.fail(
                "the sink is not equal to its pickled copy; make it an `attrs.frozen` class whose fields are its"
                " options, and keep connections and threads in the session that `open` gives"
            )
        payload = sink.encode(Batch("p", 0, tuple(some_records())))
        assert pickle.loads(pickle.dumps(payload)) is not None  # noqa: S301 - our own
        assert not list(sink.check()), f"`check` complains about the sink under test: {list(sink.check())}"

    @pytest.mark.parametrize(("chunk_records", "max_unit_records"), [(1, 10), (50, 1000)])
    def test_it_gives_back_every_hard_record(self, sink: Sink, chunk_records: int, max_unit_records: int) -> None:
        """Every kind of part, text, tree, number and time of `hard_records` comes back, in any batch size."""
        hard = [h for h in hard_records() if not h.needs & self.loses]
        report = self.archive(
            sink,
            [h.record for h in hard],
            assets=_bytes_of(hard),
            chunk_records=chunk_records,
            max_unit_records=max_unit_records,
        )

        counts = report.sinks["contract"]
        assert counts.quarantined == 0, (
            f"{counts.quarantined} of {counts.read} hard records were rejected ({self.rejections(sink)}); store them,"
            " or name what the store cannot hold in `loses`"
        )
        assert counts.stored == len(hard), f"{counts.stored} of {len(hard)} new conversations were counted as stored"
        self.check_stored(sink, {h.record.key: h.record for h in hard})

    def test_it_loses_nothing_but_what_it_names(self, sink: Sink) -> None:
        """A record that the store cannot hold as it is disturbs no other, and is accounted for."""
        hard = [h for h in hard_records() if h.needs & self.loses]
        self.require(hard, "the store holds everything (`loses` is empty)")
        good = some_records(3)

        counts = self.counts(sink, [good[0], *(h.record for h in hard), *good[1:]], assets=_bytes_of(hard))

        assert counts.read == len(hard) + 3 and counts.stored >= 3 and counts.holds
        self.check_stored(sink, {r.key: r for r in good}, others=True)

    def test_it_gives_back_any_record(self, sink: Sink) -> None:
        """Hypothesis draws trees, texts and JSON; versions of one conversation merge as the core merges them."""
        self.require_reading(sink)
        self.require_memory()
        pytest.importorskip("hypothesis")
        from hypothesis import given, settings
        from hypothesis import strategies as st

        numbers = count()

        @settings(max_examples=self.hypothesis_examples, deadline=None, database=None)
        @given(st.lists(records(loses=self.loses), min_size=1, max_size=4))
        def check(drawn: list[Record]) -> None:
            number = next(numbers)
            own = [changed(r, id=f"{number} {r.conversation.id}") for r in drawn]
            self.archive(sink, own, chunk_records=3, max_unit_records=4)
            self._check_versions(sink, own)

        check()

    def _check_versions(self, sink: Sink, own: list[Record]) -> None:
        expected = self.merged(sink, *own)
        if self.can_fill_gaps(sink):
            self.check_stored(sink, expected, others=True)
            return
        found = self.stored(sink)
        for key, record in expected.items():
            lost = {m.id for m in record.conversation.messages} - {m.id for m in found[key].conversation.messages}
            assert not lost, f"messages {sorted(lost)!a} of `{key!a}` are nowhere"
        single = {k: r for k, r in expected.items() if sum(r.key == k for r in own) == 1}
        self.check_stored(sink, single, others=True)

    def test_it_keeps_the_bytes_of_assets(self, sink: Sink) -> None:
        """Every asset whose bytes the source has can be read from the target, by its digest."""
        self.require(self.keeps_assets, "the sink stores no assets (`keeps_assets = False`)")
        hard = [h for h in hard_records() if h.assets and not h.needs & self.loses]
        self.archive(sink, [h.record for h in hard], assets=_bytes_of(hard))

        for h in hard:
            for asset in h.record.conversation.assets:
                if asset.sha256 is None:
                    continue
                found = self.read_asset(sink, asset)
                if found != h.assets[asset.sha256]:
                    what = "is not stored" if found is None else f"came back as {len(found)} other bytes"
                    pytest.fail(
                        f"the asset of `{h.name}` ({asset.size} bytes) {what}; `Writer.write` gets the bytes by"
                        " `ctx.open_asset(asset)` and must store them before the unit is sealed"
                    )

    def test_it_reads_back_one_by_one(self, sink: Sink) -> None:
        """`read_back` gives an iterator, so that memory does not grow with the archive; an empty target gives none."""
        self.require_reading(sink)
        self.require(type(self).read_stored is SinkTests.read_stored, "`read_stored` reads what is stored")
        with sink.open_target(self.context(sink, "reader")) as target:
            assert list(target.read_back()) == [], "a fresh target must give no records"
        self.archive(sink, some_records(3))
        with sink.open_target(self.context(sink, "reader")) as target:
            found = target.read_back()
            assert iter(found) is found, "`read_back` must return an iterator (`yield` each record), not a list"
            first = next(found)
            assert isinstance(first, Record)
            assert len(list(found)) == 2

    def test_it_hears_what_was_seen_again(self, sink: Sink) -> None:
        """A conversation that is seen again unchanged is told by `touch`, and is no change."""
        with sink.open_target(self.context(sink)) as target:
            with sink.open(self.context(sink)) as writer:
                writer.touch([make_record("c0").key])
                prepared = writer.seal(self.unit(1, 0, run=self.context(sink).run))
            target.commit([prepared], self.fence(sink))
        self.check_stored(sink, {})


def _bytes_of(hard: list[HardRecord]) -> dict[str, bytes]:
    return {digest: data for h in hard for digest, data in h.assets.items()}
