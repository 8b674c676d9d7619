"""How fast is muniment beside what people use?  One command makes the table.

    python tests/benchmarks/run.py --json-mb 1000
    python tests/benchmarks/run.py --json-mb 1000 --write-docs     # also into docs/explanation/performance.md

Every contender is a whole process, run in turn, round by round, into an empty folder.  The
yardsticks need ``ijson`` (``pip install ijson``) and the Debian packages ``jq``, ``zstd`` and
``unzip``; other tools run too where they are on the PATH (or in ``--peers FOLDER``).
"""

import argparse
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import generate
from jobs import JOBS, MEMORY_LIMIT_MB, Inputs, Job
from measure import Cost, measure

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
DISTRIBUTIONS = ("muniment", "msgspec", "isal", "backports.zstd", "ijson", "navig-chats", "chatgpt-to-sqlite")

Results = dict[Job, list[Cost]]


def main() -> None:
    given = _arguments()
    os.environ["PATH"] = os.pathsep.join([*given.peers, os.environ["PATH"]])
    given.work.mkdir(parents=True, exist_ok=True)
    inputs, facts = _inputs(given.work, given.json_mb, given.seed)
    jobs = [j for j in JOBS if j.is_available and (not given.only or given.only in f"{j.task} {j.name}")]
    for job in JOBS:
        if not job.is_available:
            print(f"left out, not installed: {job.name}", file=sys.stderr)
    results = _rounds(jobs, inputs, given.work, given.rounds)
    page = "\n".join(_page(results, facts, given))
    print(page)
    if given.write_docs:
        _write_page(page)
    if any(_verdict(job, results) == "missed" for job in jobs) or any(
        c.exit_code for cs in results.values() for c in cs
    ):
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare muniment with yardsticks and other tools.")
    parser.add_argument("--json-mb", type=float, default=1000, help="size of conversations.json in 10^6 bytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "muniment-bench")
    parser.add_argument(
        "--peers", action="append", default=[], metavar="FOLDER", help="where other tools are installed"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="run only what has this in its task or name")
    parser.add_argument("--write-docs", action="store_true", help=f"write the table into {PAGE.name}")
    return parser.parse_args()


def _inputs(work: Path, json_mb: float, seed: int) -> tuple[Inputs, str]:
    """Return the export, made once and kept in ``work``, and a sentence about it."""
    folder = work / f"export-{json_mb:g}mb-{seed}"
    inputs = Inputs(folder / "export.zip", folder / "json" / "conversations.json")
    facts = folder / "facts.txt"
    if not facts.exists():
        print(f"making an export of {json_mb:g} MB in {folder}", file=sys.stderr)
        inputs.json.parent.mkdir(parents=True, exist_ok=True)
        made = generate.generate(inputs.zip, json_bytes=int(json_mb * 1e6), seed=seed)
        with zipfile.ZipFile(inputs.zip) as archive:
            archive.extract("conversations.json", inputs.json.parent)
        facts.write_text(
            f"`conversations.json` of {made.json_bytes / 1e6:,.0f} MB in a zip of {made.zip_bytes / 1e6:,.0f} MB: "
            f"{made.conversations:,} conversations, {made.messages:,} messages, {made.assets:,} images."
        )
    return inputs, facts.read_text()


def _rounds(jobs: Sequence[Job], inputs: Inputs, work: Path, rounds: int) -> Results:
    results: Results = {job: [] for job in jobs}
    # Removed at the end: ext4 looks through recently freed inodes for half a minute, so that whoever
    # makes files after a clean-up would pay for it.
    with tempfile.TemporaryDirectory(prefix="out-", dir=work) as outputs:
        for number in range(rounds):
            _round(number, rounds, inputs, Path(outputs), results)
    return results


def _round(number: int, rounds: int, inputs: Inputs, outputs: Path, results: Results) -> None:
    for job, costs in results.items():
        out = Path(tempfile.mkdtemp(dir=outputs))
        command = job.command(inputs, out)
        cost = measure(command, directory=out, environment=job.environment(inputs, out))
        costs.append(cost)
        print(f"{number + 1}/{rounds}  {job.task:26} {job.name:36} {_figures([cost])}", file=sys.stderr)
        if cost.exit_code:
            print(f"     exit {cost.exit_code}: {cost.error}", file=sys.stderr)


# --- the page -------------------------------------------------------------------------------


def _page(results: Results, facts: str, given: argparse.Namespace) -> Iterator[str]:
    yield facts
    yield (
        f"Medians of {given.rounds} rounds, one contender after the other; whole processes; "
        "the peak is of the summed PSS of all processes."
    )
    yield ""
    yield "| job | tool | wall s | CPU s | peak MB | × yardstick | limit | |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for job, costs in results.items():
        ratio = _ratio(job, results)
        limit = f"{job.limit:.1f} ×, {MEMORY_LIMIT_MB:.0f} MB" if job.limit else "yardstick" if job.yardstick else ""
        name = f"**{job.name}**" if job.ours else job.name
        figures = " | ".join(_figures(costs).split(" / "))
        shown = f"{ratio:.2f}" if ratio else "–"
        yield f"| {job.task} | {name} | {figures} | {shown} | {limit} | {_verdict(job, results)} |"
    yield ""
    yield f"Machine: {_machine()}."
    yield f"Versions: {', '.join(_versions())}."
    yield f"Made on {datetime.now(UTC):%Y-%m-%d} by `python tests/benchmarks/run.py --json-mb {given.json_mb:g}`."


def _figures(costs: Sequence[Cost]) -> str:
    if any(c.exit_code for c in costs):
        return "failed / failed / failed"
    return (
        f"{statistics.median(c.wall_seconds for c in costs):.2f} / "
        f"{statistics.median(c.cpu_seconds for c in costs):.2f} / {max(c.peak_mb for c in costs):,.0f}"
    )


def _ratio(job: Job, results: Results) -> float | None:
    """Return the median of this job's wall times over the yardstick's, round by round."""
    for other, costs in results.items():
        if other.task == job.task and other.yardstick and not any(c.exit_code for c in (*costs, *results[job])):
            pairs = zip(results[job], costs, strict=True)
            return statistics.median(mine.wall_seconds / theirs.wall_seconds for mine, theirs in pairs)
    return None


def _verdict(job: Job, results: Results) -> str:
    """Return whether a limit is kept: the ratio, the memory, and no other tool being faster."""
    ratio = _ratio(job, results)
    if job.limit is None or ratio is None:
        return ""
    mine = statistics.median(c.wall_seconds for c in results[job])
    others = [cs for j, cs in results.items() if j.task == job.task and not j.ours and not any(c.exit_code for c in cs)]
    fastest = all(mine < statistics.median(c.wall_seconds for c in costs) for costs in others)
    small = all(c.peak_mb < MEMORY_LIMIT_MB for c in results[job])
    return "kept" if ratio <= job.limit and small and fastest else "missed"


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    kernel = ".".join(platform.release().split(".")[:2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores ({cpu}), {memory:.0f} GiB, {platform.system()} {kernel}"


def _versions() -> Iterator[str]:
    yield f"CPython {platform.python_version()}"
    yield f"SQLite {sqlite3.sqlite_version}"
    for name in DISTRIBUTIONS:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    for program in ("jq", "zstd"):
        if path := shutil.which(program):
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
            yield f"{program} {told.strip().removeprefix('jq-').split(' v')[-1].split(',')[0]}"


def _write_page(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put ``text`` between the marks of the page and leave what people wrote round them."""
    page = PAGE.read_text() if PAGE.exists() else f"# Performance\n\n{begin}\n{end}\n"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        sys.exit(f"{PAGE}: the lines `{begin}` and `{end}` are missing")
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
