"""How a run is told."""

import click

from muniment.cli.report import equation, findings, seconds, size, summary
from muniment.pipeline import RunReport
from muniment.units import Counts


def report(**changes):
    values = {
        "run": "r1", "pipeline": "import", "exit_code": 0, "sinks": {"sqlite": Counts(12, 10, 2)}, "findings": {},
        "dropped": {}, "conversations": 12, "messages": 34, "bytes_read": 10, "seconds": 0.25,
        "unchanged_partitions": (), "quarantined": 0, "incomplete": False,
    }  # fmt: skip
    return RunReport(**{**values, **changes})


def told(**changes):
    return [click.unstyle(line) for line in summary(report(**changes))]


class TestEquation:
    def test_holds_every_count(self):
        counts = Counts(read=1234, stored=1000, unchanged=200, dropped=30, quarantined=4)

        assert equation(counts) == "read 1,234 = stored 1,000 + unchanged 200 + dropped 30 + quarantined 4"


class TestSummary:
    def test_says_what_was_read_and_what_became_of_it(self):
        assert told() == [
            "12 conversations, 34 messages read in 0.2 s",
            "sqlite: read 12 = stored 10 + unchanged 2 + dropped 0 + quarantined 0",
        ]

    def test_says_which_input_was_archived_before(self):
        lines = told(conversations=0, messages=0, unchanged_partitions=(("export.zip", "r0", 12),))

        assert lines[0] == "export.zip: unchanged, 12 conversations archived before (run r0)"

    def test_says_which_sink_failed(self):
        lines = told(sinks={"a": Counts(2, 2), "b": Counts(1, 1)}, failed={"b": "no answer from `db`"})

        assert lines[1:] == [
            "a: read 2 = stored 2 + unchanged 0 + dropped 0 + quarantined 0",
            "b: read 1 = stored 1 + unchanged 0 + dropped 0 + quarantined 0",
            "  failed: no answer from `db`",
            "  what was committed stands; the next run goes on there",
        ]

    def test_says_why_records_were_dropped(self):
        assert told(dropped={"before 2025": 3})[-1] == "  dropped 3: before 2025"


class TestFindings:
    def test_puts_codes_into_words_and_sums_them(self):
        counts = {"missing_asset": 2, "unknown_content:widget": 3, "unknown_content:chart": 1, "odd_thing": 1}
        counts |= {"empty_conversation": 1, "unreadable_sidecar:user.json": 9}

        assert list(findings(counts)) == [
            "  beside the conversations, but not readable: user.json",
            "  content of a kind that is not known yet, kept whole (conversations): widget 3, chart 1",
            "  2 conversations with images or files that are not in the export",
            "  odd thing: 1",
            "  1 conversation without messages",
        ]

    def test_names_a_few(self):
        counts = {f"missing_shard:{n}": 1 for n in "abcdef"}

        assert list(findings(counts)) == ["  missing from the export: a, b, c, d, and 2 more"]


class TestNumbers:
    def test_sizes(self):
        assert [size(n) for n in (999, 1500, 2_340_000, 5e9)] == ["999 B", "1.5 kB", "2.3 MB", "5.0 GB"]

    def test_durations(self):
        assert [seconds(n) for n in (0.04, 61, 3720)] == ["0.0 s", "1 min 1 s", "1 h 2 min"]
