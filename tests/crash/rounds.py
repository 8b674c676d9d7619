"""What is a round, and how do many of them make a table?"""

import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from subject import SCENARIOS, Attempt, Bench, Scenario


@dataclass
class Round:
    """One disturbance: ``what`` was disturbed and how; ``hit`` says that it came before the run had ended."""

    what: str
    hit: bool
    how: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass
class Line:
    """A line of the table."""

    mode: str
    rounds: int = 0
    hits: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    other: int = 0

    def add(self, done: Round) -> None:
        self.rounds += 1
        self.hits += done.hit
        kinds = {kind_of(problem) for problem in done.problems}
        self.lost += "lost" in kinds
        self.doubled += "doubled" in kinds
        self.torn += "torn" in kinds
        self.other += "other" in kinds

    @property
    def failed(self) -> int:
        return self.lost + self.doubled + self.torn + self.other


def kind_of(problem: str) -> str:
    """Return the column that a problem counts in."""
    first = problem.removeprefix("acknowledged, then ").partition(":")[0]
    return first if first in ("lost", "doubled", "torn") else "other"


Task = Callable[[], Round]


def in_order(tasks: Iterable[Task], jobs: int) -> Iterator[Round]:
    """Do tasks, several at a time; yield what came of them in their order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda task: task(), tasks)


def scenarios(count: int, wanted: Sequence[str]) -> Iterator[tuple[int, Scenario]]:
    """Yield so many numbered scenarios, each kind in turn, of the sinks that are wanted.

    Their order is mixed, and always the same, so that a few rounds are of many kinds.
    """
    some = [s for s in SCENARIOS if s.sink in wanted]
    random.Random(1).shuffle(some)
    for number in range(count):
        yield number, some[number % len(some)]


def rng_of(seed: int, mode: str, number: int) -> random.Random:
    """Return the random numbers of one round, the same whatever ran beside it."""
    return random.Random(f"{seed}-{mode}-{number}")


def moment(bench: Bench, scenario: Scenario, rng: random.Random, *, until: float = 0.98) -> float:
    """Return seconds into a run; mostly while it writes."""
    undisturbed = bench.prepare(scenario)
    first = undisturbed.first_write_seconds if rng.random() < 0.9 else 0.02
    return rng.uniform(first, max(first, until * undisturbed.seconds))


def tidied(attempt: Attempt, done: Round, keep: Path | None) -> Round:
    """Remove a folder that has served; one with problems is kept where it is asked for."""
    if done.problems and keep is not None:
        shutil.move(attempt.folder, keep / attempt.folder.name)
    else:
        shutil.rmtree(attempt.folder, ignore_errors=True)
    return done
