"""How is a run told to a person?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import click

from muniment.cli import screen
from muniment.pipeline import RunReport
from muniment.units import Counts

_COUNTED = {
    "missing_asset": "{} with images or files that are not in the export",
    "empty_conversation": "{} without messages",
    "tree_repaired": "{} whose messages named a parent that was wrong; put in order",
    "tree_orphan": "{} with messages whose parent is missing; kept as branches",
    "tree_cycle": "{} whose messages named each other as parents; put in order",
}
"""Code of a finding -> what is told of the number of conversations that have it."""

_NAMED = {
    "unknown_content": "content of a kind that is not known yet, kept whole (conversations)",
    "missing_shard": "missing from the export",
    "unreadable_sidecar": "beside the conversations, but not readable",
}
"""Code of a finding that says more behind a colon -> what is told before that."""

_MOST_NAMED = 4


def equation(counts: Counts) -> str:
    """Return the conservation equation: ``read 12 = stored 10 + unchanged 2 + dropped 0 + quarantined 0``."""
    read, *rest = attrs.asdict(counts).items()
    return f"read {read[1]:,} = " + " + ".join(f"{name} {n:,}" for name, n in rest)


def summary(report: RunReport) -> Iterator[str]:
    """Yield the lines that tell how a run ended."""
    if report.conversations or not report.unchanged_partitions:
        rate = report.bytes_read / report.seconds if report.seconds else 0
        yield (
            f"{_many(report.conversations, 'conversation')}, {_many(report.messages, 'message')} read"
            f" in {seconds(report.seconds)}" + (f" ({size(rate)}/s)" if report.seconds >= 1 else "")
        )
    for label, run, records in report.unchanged_partitions:
        yield f"{screen.line(label)}: unchanged, {_many(records, 'conversation')} archived before (run {run})"
    for name, counts in report.sinks.items():
        yield f"{click.style(screen.line(name), bold=True)}: {equation(counts)}"
        if absent := report.absent.get(name):
            yield f"  {_many(absent, 'conversation')} no longer in the export; kept, and marked"
        if why := report.failed.get(name):
            yield f"  {click.style('failed', fg='red', bold=True)}: {screen.line(why)}"
            yield "  what was committed stands; the next run goes on there"
        if superseded := report.superseded.get(name):
            what = "1 quarantined record is" if len(superseded) == 1 else f"{len(superseded):,} quarantined records are"
            yield f"  superseded {len(superseded):,}: {what} stored in a newer version ({_named(superseded)})"
    yield from findings(report.findings)
    for reason, n in sorted(report.dropped.items()):
        yield f"  dropped {n:,}: {screen.line(reason)}"


def findings(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line per kind of finding, in words."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for code, n in counts.items():
        kind, _, what = code.partition(":")
        kinds[kind][what] += n
    for kind, named in sorted(kinds.items(), key=lambda item: -item[1].total()):
        if kind in _COUNTED:
            yield f"  {_COUNTED[kind].format(_many(named.total(), 'conversation'))}"
            continue
        said = _NAMED.get(kind, kind.replace("_", " "))
        # A code that is about the whole export, such as a missing file, comes with every conversation.
        names = [
            screen.line(what) + (f" {n:,}" if kind == "unknown_content" else "") for what, n in named.most_common()
        ]
        if names == [""]:
            yield f"  {said}: {named.total():,}"
        else:
            more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            yield f"  {said}: {', '.join(names[:_MOST_NAMED])}{more}"


def size(count: float) -> str:
    """Return a number of bytes as people read it: ``3.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def seconds(count: float) -> str:
    """Return a duration as people read it."""
    if count < 60:
        return f"{count:.1f} s"
    minutes, rest = divmod(round(count), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def disk_size(path: Path) -> str:
    """Return the size of a file as people read it; empty for a folder or nothing."""
    return size(path.stat().st_size) if path.is_file() else ""


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MOST_NAMED]) + (f", and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else "")


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
