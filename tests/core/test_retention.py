"""Which records a policy lets go, against an oracle; what holds come to; which clock is believed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.manifest import Manifest
from muniment.retention import (
    MOST_AHEAD,
    MOST_BACK,
    Hold,
    Holding,
    Holds,
    Policy,
    Verdict,
    clock_problem,
    decide,
    moment,
    purged_keys,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def event(number, **what):
    return Manifest(number=number, event={"actor": "a@b", "at": f"2026-01-{number:02}", "reason": "why", **what})


def oracle(days_since_archived, days_since_updated, keep_days, by, key, said):
    """Say again, in other words, what becomes of a record: ``said`` are (kind, keys, all) in order."""
    held_keys, held_all = [], False
    for kind, keys, everything in said:
        if everything:
            held_all = kind == "hold"
        elif kind == "hold":
            held_keys.extend(keys)
        else:
            held_keys = [k for k in held_keys if k not in keys]
    if held_all or key in held_keys:
        return "held"
    if keep_days is None:
        return "purge"
    age = days_since_archived if by == "archived" else days_since_updated
    if age is None or age < keep_days:
        return "keep"
    return "purge"


ages = st.one_of(st.none(), st.floats(-50, 900), st.integers(-2, 2).map(float))
keys = st.sampled_from(["t:1", "t:2", "t:3"])
events = st.tuples(st.sampled_from(["hold", "release"]), st.lists(keys, max_size=2), st.booleans())


class TestDecide:
    @settings(max_examples=200, deadline=None)
    @given(ages, ages, st.one_of(st.none(), st.integers(0, 400)), st.sampled_from(["archived", "updated"]), keys,
           st.lists(events, max_size=4))  # fmt: skip
    def test_it_agrees_with_the_oracle(self, archived, updated, keep_days, by, key, said):
        """Of policies, holds and times."""
        self.agrees(archived, updated, keep_days, by, key, said)

    @pytest.mark.slow
    @settings(max_examples=10_000, deadline=None)
    @given(ages, ages, st.one_of(st.none(), st.integers(0, 400)), st.sampled_from(["archived", "updated"]), keys,
           st.lists(events, max_size=4))  # fmt: skip
    def test_it_agrees_ten_thousand_times(self, archived, updated, keep_days, by, key, said):
        """The same, at length."""
        self.agrees(archived, updated, keep_days, by, key, said)

    def agrees(self, archived, updated, keep_days, by, key, said):
        times = [None if age is None else (NOW - age * DAY).isoformat() for age in (archived, updated)]
        holds = Holds.of(
            event(i, kind=kind, **({"all": True} if everything else {"keys": some}))
            for i, (kind, some, everything) in enumerate(said, 1)
        )
        policy = None if keep_days is None else Policy(keep_days, by)
        exact = [None if t is None else (NOW - moment(t)) / DAY for t in times]

        found = decide(Holding(key, *times), policy, holds, NOW)
        assert found.value == oracle(*exact, keep_days, by, key, said)

    def test_what_has_no_known_age_is_kept(self):
        for text in (None, "", "yesterday"):
            assert decide(Holding("t:1", text, text), Policy(0), Holds(), NOW) is Verdict.KEEP

    def test_a_policy_keeps_for_some_days(self):
        with pytest.raises(ValueError, match="0 days or more"):
            Policy(-1)


class TestHolds:
    def test_it_says_who_and_why(self):
        holds = Holds.of([event(1, kind="hold", keys=["t:1"]), event(2, kind="hold", all=True), Manifest(number=3)])

        assert holds.find("t:1") == Hold("why", "a@b", "2026-01-01")
        assert holds.find("t:2") == Hold("why", "a@b", "2026-01-02")

    def test_the_release_of_all_leaves_single_ones(self):
        """A case that names a record is not closed by another one."""
        holds = Holds.of(
            [event(1, kind="hold", keys=["t:1"]), event(2, kind="hold", all=True), event(3, kind="release", all=True)]
        )

        assert holds.find("t:1") is not None
        assert holds.find("t:2") is None


class TestPurgedKeys:
    def test_they_are_those_of_the_tombstones(self):
        tombstones = [{"key": "t:1", "hash": "ab"}, {"key": "t:2", "hash": "cd"}]

        assert list(purged_keys([event(1, kind="purge", tombstones=tombstones), Manifest(number=2)])) == ["t:1", "t:2"]


class TestClock:
    @pytest.mark.parametrize(
        ("now", "is_believed"),
        [
            (NOW, True), (NOW + DAY, True), (NOW + MOST_AHEAD, True), (NOW + MOST_AHEAD + DAY, False),
            (NOW - MOST_BACK, True), (NOW - timedelta(hours=1), False), (datetime(1970, 1, 1, tzinfo=UTC), False),
        ],
    )  # fmt: skip
    def test_it_is_near_what_the_archive_knows(self, now, is_believed):
        assert (clock_problem(now, NOW) == "") is is_believed

    def test_an_archive_that_knows_no_time_believes_it(self):
        assert clock_problem(NOW, None) == ""
