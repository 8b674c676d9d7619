"""How is a run told to a person?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import click

from muniment.cli import screen
from muniment.components import Counts
from muniment.pipeline import RunReport

_FINDINGS = {
    "missing_asset": "image or file is named but not in the export|images or files are named but not in the export",
    "missing_shard": "part of the export is missing|parts of the export are missing",
    "unknown_content": "part of a kind that is not known yet, kept whole|parts of a kind that is not known yet, kept whole",
}
"""Code of a finding -> what it means for one and for several."""

_NAMED = 4


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
        n = named.total()
        one, _, many = _FINDINGS.get(kind, kind.replace("_", " ")).partition("|")
        names = [f"{screen.line(what)} {k:,}" for what, k in named.most_common() if what]
        more = ", ..." if len(names) > _NAMED else ""
        listed = f" ({', '.join(names[:_NAMED])}{more})" if names else ""
        yield f"  {n:,} {one if n == 1 or not many else many}{listed}"


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


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
