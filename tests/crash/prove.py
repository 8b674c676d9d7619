"""Disturb runs in every way that this machine knows, and look for what was lost, doubled or torn.

    python tests/crash/prove.py --mode kill --rounds 1000 --seed 1
    python tests/crash/prove.py --short            a little of everything, in a few minutes
    python tests/crash/prove.py --full --out table.json

A line for each round goes to standard output, the table at the end too.  After every round the run is
repeated to its end, and its archive compared with the export, as plain `json` reads it, and with the
archive of a run that nobody disturbed.  Exit code 1: something was wrong; 3: a mode could not be run.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from clocks import jump, no_faketime  # noqa: E402
from crowd import crowd  # noqa: E402
from full import full  # noqa: E402
from kills import kill, stop  # noqa: E402
from mounts import no_loop, no_tmpfs  # noqa: E402
from power import power  # noqa: E402
from rounds import Line, Round, in_order, rng_of, scenarios  # noqa: E402
from selftest import prove as prove_self  # noqa: E402
from subject import SINKS, Bench  # noqa: E402
from syscalls import fail, faults, no_strace, some_of_each, thinned  # noqa: E402

PACKAGES = ("strace", "faketime", "e2fsprogs")


def _possible() -> str:
    return ""


@dataclass(frozen=True)
class Mode:
    """A way to disturb.  ``short`` and ``full`` are numbers of rounds; 0 is every round that there is."""

    title: str
    why_not: Callable[[], str]
    short: int
    full: int


MODES = {
    "self": Mode("broken writers are found out", _possible, 3, 20),
    "kill": Mode("SIGKILL", _possible, 50, 1000),
    "stop": Mode("SIGTERM, SIGINT", _possible, 8, 200),
    "power": Mode("power cut", no_loop, 20, 200),
    "full": Mode("disk full", no_tmpfs, 8, 100),
    "syscalls": Mode("n-th system call fails", no_strace, 16, 0),
    "crowd": Mode("eight runs at once", _possible, 3, 100),
    "clock": Mode("clock jumps", no_faketime, 4, 100),
}


def main() -> int:
    args = _arguments()
    if args.install:
        from services.install import InstallError, install_packages

        try:
            install_packages(PACKAGES)
        except InstallError as error:
            print(error, file=sys.stderr)
    modes = list(MODES) if args.mode == "all" else args.mode.split(",")
    table: list[Line] = []
    absent: dict[str, str] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="muniment-crash-", dir=args.work) as name:
        bench = Bench(Path(name), seed=args.seed, json_kb=args.json_kb)
        for mode in modes:
            if why := MODES[mode].why_not():
                absent[MODES[mode].title] = why
                continue
            table.append(_mode(mode, bench, args))
    report = {
        "seed": args.seed,
        "seconds": round(time.monotonic() - started),
        "table": [{**asdict(line), "failed": line.failed} for line in table],
        "not_run": absent,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))
    wrong = sum(line.failed for line in table)
    print(closing_line(report))
    return 1 if wrong else 3 if absent else 0


def _mode(mode: str, bench: Bench, args: argparse.Namespace) -> Line:
    line = Line(MODES[mode].title)
    for number, done in enumerate(_rounds(mode, bench, args)):
        line.add(done)
        verdict = "ok" if not done.problems else "WRONG"
        print(f"{mode} {number}: {verdict}: {done.what}; {done.how}{'' if done.hit else '; not hit'}", flush=True)
        for problem in done.problems[:5]:
            print(f"  {problem}", flush=True)
    return line


def _rounds(mode: str, bench: Bench, args: argparse.Namespace) -> Iterator[Round]:
    count = args.rounds if args.rounds is not None else MODES[mode].full if args.full else MODES[mode].short
    if mode == "self":
        yield from prove_self(bench, args.seed, power=not no_loop(), rounds=count)
        return
    if mode == "syscalls":
        yield from _faults(count, bench, args)
        return
    round_of = {"kill": kill, "stop": stop, "power": power, "full": full, "crowd": crowd, "clock": jump}[mode]
    some = list(scenarios(count, args.sinks))
    for _, scenario in some:
        bench.prepare(scenario)
    tasks = [partial(round_of, bench, scenario, number, args.seed, args.keep) for number, scenario in some]
    # Eight runs are a crowd already.
    yield from in_order(tasks, 1 if mode == "crowd" else args.jobs)


def _faults(count: int, bench: Bench, args: argparse.Namespace) -> Iterator[Round]:
    # The calls of one process in one thread come in the same order every time; those of a pool do not.
    some = [s for _, s in scenarios(len(SINKS) * 4, args.sinks) if s.engine == "local"]
    every = [(s, fault) for s in dict.fromkeys(some) for fault in thinned(list(faults(bench, s)))]
    if count:
        every = some_of_each(every, count, rng_of(args.seed, "syscalls", 0))
    tasks = [partial(fail, bench, scenario, fault, n, args.keep) for n, (scenario, fault) in enumerate(every)]
    yield from in_order(tasks, args.jobs)


def markdown(report: dict) -> str:
    """Return the table as it stands in the documentation."""
    head = [
        "| disturbance | rounds | hit a run at work | lost | doubled | torn | otherwise wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {r['mode']} | {r['rounds']:,} | {r['hits']:,} | {r['lost']} | {r['doubled']} | {r['torn']} | {r['other']} |"
        for r in report["table"]
    ]
    return "\n".join([*head, *rows])


def closing_line(report: dict) -> str:
    """Return one sentence: how many rounds, how many wrong, what could not be run here."""
    rounds = sum(r["rounds"] for r in report["table"])
    wrong = sum(r["failed"] for r in report["table"])
    absent = "; ".join(f"{title} ({why})" for title, why in report["not_run"].items())
    return f"{rounds:,} rounds, {wrong} wrong, in {report['seconds']} s" + (f"; NOT RUN: {absent}" if absent else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", default="all", help=f"of {', '.join(MODES)}; several with commas")
    parser.add_argument("--rounds", type=int, help="of each mode")
    parser.add_argument("--short", action="store_true", help="few rounds; the default")
    parser.add_argument("--full", action="store_true", help="as many rounds as the promise is made for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json-kb", type=int, default=1000, help="size of the export")
    parser.add_argument("--sinks", type=lambda text: text.split(","), default=list(SINKS), help=", ".join(SINKS))
    parser.add_argument("--work", type=Path, help="where to work; not a tmpfs, whose fsync costs nothing")
    parser.add_argument("--keep", type=Path, help="where to put what came out wrong")
    parser.add_argument("--out", type=Path, help="a file for the table, as JSON")
    parser.add_argument("--install", action="store_true", help="have apt-get install what is missing, as root")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
