"""Does the suite find what is broken?  It is let loose on writers of which it is known."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import checker
from broken import FLAWS
from power import cut
from rounds import Round, rng_of
from subject import Attempt, Bench, Scenario, signal_all

MAX_ROUNDS = 25
# A kill leaves the page cache, so it cannot show that nothing was flushed; a power cut takes what was written
# in place and not flushed as a whole, name included.
INVISIBLE = (("no fsync", "SIGKILL"), ("in place", "power"))
BROKEN = Path(__file__).with_name("broken.py")


@dataclass
class Broken(Attempt):
    """A target of a broken writer."""

    flaw: str = "none"

    def command(self) -> list[str]:
        (self.folder / "pipeline.yaml").touch()
        return [sys.executable, str(BROKEN), self.flaw, str(self.export), str(self.target), str(self.acks)]

    def wrong_at_last(self) -> Iterator[str]:
        outcome = self.run()
        if outcome.code:
            yield f"the run after it ended with {outcome.code}: {outcome.text.strip()[-300:]}"
        found = self.read(ended=True)
        expected = checker.exported(self.export)
        yield from found.problems
        yield from checker.lost(found, expected)
        yield from checker.surplus(found, expected)


class _Run:
    def start(self, attempt: Attempt) -> "subprocess.Popen[str]":
        return attempt.started()


def prove(bench: Bench, seed: int, *, power: bool, rounds: int) -> Iterator[Round]:
    """Yield a round for each writer and disturbance: its problem is that it was not found out, or was wrongly."""
    seconds = _seconds(bench)
    for flaw in FLAWS:
        for kind in ("SIGKILL", "power"):
            if kind == "power" and not power:
                continue
            must_be_found = flaw != "none" and (flaw, kind) not in INVISIBLE
            limit = MAX_ROUNDS if must_be_found else rounds
            found: list[str] = []
            tries = 0
            while tries < limit and not found:
                tries += 1
                found = _disturbed(bench, flaw, kind, tries, seed, seconds)
            done = Round(
                f"a writer that {FLAWS[flaw]}", hit=True, how=f"{kind}, {tries} rounds: {(found or ['nothing'])[0]}"
            )
            if must_be_found and not found:
                done.problems.append(f"it was not found out in {tries} rounds")
            if flaw == "none":
                done.problems += [f"false alarm: {f}" for f in found]
            yield done


def _disturbed(bench: Bench, flaw: str, kind: str, number: int, seed: int, seconds: float) -> list[str]:
    rng = rng_of(seed, f"self {flaw} {kind}", number)
    folder = bench.work / f"self-{flaw.replace(' ', '-')}"
    scenario = Scenario("files", top_up=False)
    moment = rng.uniform(0.15 * seconds, seconds)
    if kind == "power":
        attempt = Broken(bench, scenario, folder, folder / "mnt", flaw)
        return cut(attempt, _Run(), moment, rng).problems
    attempt = Broken(bench, scenario, folder, folder, flaw)
    attempt.lay_out()
    with attempt.started() as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            signal_all(process, signal.SIGKILL)
    return [*attempt.wrong_now(), *attempt.wrong_at_last()]


def _seconds(bench: Bench) -> float:
    folder = bench.work / "self-none"
    attempt = Broken(bench, Scenario("files", top_up=False), folder, folder, "none")
    attempt.lay_out()
    return attempt.run().seconds
