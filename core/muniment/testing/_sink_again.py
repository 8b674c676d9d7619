"""What becomes of a record that comes again: the same, newer, older, thinner?"""

from datetime import timedelta

import pytest

from muniment.components import Sink
from muniment.model import Message, Record, TextPart
from muniment.testing._sink_base import SinkTests, some_records
from muniment.testing.hard_records import ALIKE
from muniment.testing.records import TIME, changed, make_record
from muniment.units import Counts

DAY = timedelta(days=1)


def newer(record: Record, *texts: str, days: int = 1) -> Record:
    """Return a later version of a record with these messages behind its own."""
    messages = list(record.conversation.messages)
    for i, text in enumerate(texts):
        parent = messages[-1].id if messages else None
        time = TIME + days * DAY
        messages.append(
            Message(id=f"n{days}-{i}", role="user", parent_id=parent, parts=(TextPart(text),), created_at=time)
        )
    return changed(record, messages=tuple(messages), updated_at=TIME + days * DAY)


class AgainChecks(SinkTests):
    """Incremental: the same changes nothing, a newer version adds, an older one takes nothing away."""

    def test_the_same_run_twice_changes_nothing(self, sink: Sink) -> None:
        """The second run counts everything as unchanged and stores nothing again."""
        self.require_memory()
        records = some_records(5)
        self.archive(sink, records)

        again = self.counts(sink, records)

        assert again == Counts(read=5, unchanged=5), (
            f"the second run of the same 5 records gave {again}; `Target.committed` must return the checkpoint of"
            " the last unit, so that a finished partition is known"
        )
        self.check_stored(sink, {r.key: r for r in records})

    def test_known_records_of_another_input_are_unchanged(self, sink: Sink) -> None:
        """A newer export holds what is stored already: only what is new is stored."""
        self.require_memory()
        records = some_records(5)
        self.archive(sink, records[:4])

        again = self.counts(sink, records)

        assert again == Counts(read=5, stored=1, unchanged=4), (
            f"5 records of which 4 are stored already gave {again}; `Writer.write` must count what it finds unchanged"
            " in `Receipt.unchanged`, or `Sink.open_known` must tell it before"
        )
        self.check_stored(sink, {r.key: r for r in records})

    def test_the_same_record_twice_in_one_run_is_stored_once(self, sink: Sink) -> None:
        """In one batch, in one unit and across units."""
        records = some_records(3)
        sequence = [records[0], records[0], records[1], records[2], records[1], records[0]]

        for chunk, unit in ((6, 100), (1, 100), (1, 1)):
            counts = self.counts(sink, sequence, chunk_records=chunk, max_unit_records=unit)
            assert counts.holds
        self.check_stored(sink, {r.key: r for r in records})

    @pytest.mark.parametrize(("chunk_records", "max_unit_records"), [(1, 1), (1, 100), (10, 100)])
    def test_a_newer_version_is_merged(self, sink: Sink, chunk_records: int, max_unit_records: int) -> None:
        """The union of both by message id; the newer one of each message and field wins."""
        self.require_once(sink)
        self.require(self.merges, "versions are kept beside each other (`merges = False`)")
        old = some_records(3)
        new = [
            newer(old[0], "One more", "And another"),
            changed(
                newer(old[1], "Instead"),
                title="A new title",
                messages=newer(old[1], "Instead").conversation.messages[1:],
            ),
        ]
        sizes = {"chunk_records": chunk_records, "max_unit_records": max_unit_records}
        if not self.accumulates:
            self.archive(sink, [*old, *new], **sizes)
        else:
            self.archive(sink, old, **sizes)
            counts = self.counts(sink, new, **sizes)
            assert counts == Counts(read=2, stored=2), f"two newer versions gave {counts}"

        self.check_stored(sink, self.merged(sink, *old, *new))

    def test_versions_within_one_run_are_merged(self, sink: Sink) -> None:
        """Also when all come in one batch, in any order of their times."""
        self.require_once(sink)
        self.require(self.merges, "versions are kept beside each other (`merges = False`)")
        old = make_record("c0")
        versions = [newer(old, "two", days=2), old, newer(old, "three", "more", days=3), newer(old, "one", days=1)]

        assert self.counts(sink, versions, chunk_records=4).holds

        self.check_stored(sink, self.merged(sink, *versions))

    def test_an_older_or_thinner_version_takes_nothing_away(self, sink: Sink) -> None:
        """Fewer messages or an earlier time overwrite nothing."""
        self.require_once(sink)
        self.require_memory()
        self.require_reading(sink)
        old = some_records(3)
        rich = [newer(r, "More", "And more") for r in old]
        self.archive(sink, rich)
        thin = [
            old[0],
            changed(rich[1], messages=rich[1].conversation.messages[:1]),
            changed(rich[2], messages=(), title=None, updated_at=None, created_at=None),
        ]

        assert self.counts(sink, thin).holds

        expected = self.merged(sink, *rich, *thin)
        for record in rich:
            assert len(expected[record.key].conversation.messages) == 4
        self.check_stored(sink, expected)

    def test_ids_that_look_alike_stay_apart(self, sink: Sink) -> None:
        """Case, Unicode forms, blanks at the end, `:` and `/`: a new version of one leaves the other as it is."""
        self.require_once(sink)
        self.require_memory()
        records = {id_: make_record(id_, [id_]) for pair in ALIKE for id_ in pair}
        self.archive(sink, list(records.values()), chunk_records=7)
        news = [newer(records[first], "for this one only") for first, _ in ALIKE]

        counts = self.counts(sink, news, chunk_records=7)

        assert counts == Counts(read=len(news), stored=len(news)), (
            f"{len(news)} new versions gave {counts}; compare keys byte by byte (a binary collation), and escape"
            " them reversibly where they become names"
        )
        if self.merges:
            self.check_stored(sink, self.merged(sink, *records.values(), *news))

    def test_a_copy_of_the_component_sees_the_same_place(self, sink: Sink) -> None:
        """What one process has stored, another finds."""
        import pickle

        self.require_memory()
        self.require(self.outlives_process, "the place is in this process")
        records = some_records(2)
        self.archive(sink, records)
        copy = pickle.loads(pickle.dumps(sink))  # noqa: S301 - our own

        assert self.counts(copy, records) == Counts(read=2, unchanged=2)
        self.check_stored(copy, {r.key: r for r in records})
