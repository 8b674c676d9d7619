"""Eight runs on one target at once, stopped, woken and killed at random."""

import random
import signal
import threading
import time
from pathlib import Path

from rounds import Round, rng_of, tidied
from subject import Attempt, Bench, Scenario, signal_all, untyped

RUNS = 8
BUSY = 11


def crowd(bench: Bench, scenario: Scenario, number: int, seed: int, keep: Path | None) -> Round:
    """Let eight runs loose; whoever ends well has found the target free, and one run more ends what is left."""
    rng = rng_of(seed, "crowd", number)
    attempt = bench.attempt(scenario, bench.work / f"crowd-{number}")
    attempt.lay_out()
    seconds = bench.prepare(scenario).seconds
    plans = [_plan(rng, seconds) for _ in range(RUNS)]
    ended: list[tuple[int, str]] = []
    attempt.command()
    threads = [threading.Thread(target=_one, args=(attempt, plan, ended)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes, texts = [code for code, _ in ended], [text for _, text in ended]
    done = Round(str(scenario), hit=True, how=f"exit codes {' '.join(map(str, sorted(codes)))}")
    strange = [c for c in codes if c not in (0, BUSY, -signal.SIGKILL)]
    if strange:
        done.problems.append(f"a run ended with {strange[0]}: {' | '.join(t.strip()[-200:] for t in texts if t)[:600]}")
    for code, text in ended:
        if code != -signal.SIGKILL:
            done.problems += untyped(text)
    done.problems += attempt.wrong_now()
    done.problems += attempt.wrong_at_last()
    return tidied(attempt, done, keep)


def _plan(rng: random.Random, seconds: float) -> list[tuple[float, int]]:
    """Return pauses and the signals behind them; the first pause is before the run starts."""
    plan = [(rng.uniform(0, 2 * seconds), 0)]
    for _ in range(rng.randint(0, 3)):
        plan.append((rng.uniform(0.1, seconds), signal.SIGSTOP))
        plan.append((rng.uniform(0.05, seconds), signal.SIGCONT))
    if rng.random() < 0.4:
        plan.append((rng.uniform(0.1, seconds), signal.SIGKILL))
    return plan


def _one(attempt: Attempt, plan: list[tuple[float, int]], ended: list[tuple[int, str]]) -> None:
    time.sleep(plan[0][0])
    with attempt.started() as process:
        for pause, number in plan[1:]:
            time.sleep(pause)
            signal_all(process, number)
        text = process.communicate()[1]
    ended.append((process.returncode, text))
