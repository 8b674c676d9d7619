"""What does `muniment --help` cost over `python -c pass`?  The budget is 150 ms."""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from jobs import MUNIMENT
from measure import measure

BUDGET_SECONDS = 0.150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    bare, helped = [], []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):  # in turn, so that a busy moment hits both
            bare.append(measure([sys.executable, "-c", "pass"], directory=Path(directory)))
            helped.append(measure([MUNIMENT, "--help"], directory=Path(directory)))
    if any(cost.exit_code for cost in helped):
        sys.exit(f"muniment --help failed: {helped[0].error}")
    wall = statistics.median(h.wall_seconds - b.wall_seconds for h, b in zip(helped, bare, strict=True))
    cpu = statistics.median(h.cpu_seconds - b.cpu_seconds for h, b in zip(helped, bare, strict=True))
    print(
        f"muniment --help over python -c pass: {wall * 1000:.0f} ms wall, {cpu * 1000:.0f} ms CPU "
        f"(medians of {rounds}; budget {BUDGET_SECONDS * 1000:.0f} ms)"
    )
    sys.exit(wall > BUDGET_SECONDS)


if __name__ == "__main__":
    main()
