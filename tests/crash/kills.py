"""SIGKILL at any moment, several times in a row; SIGTERM and SIGINT that a run obeys."""

import signal
import subprocess
from pathlib import Path

from rounds import Round, moment, rng_of, tidied
from subject import Attempt, Bench, Scenario, signal_all, untyped

MAX_SECONDS_TO_STOP = 10.0


def kill(bench: Bench, scenario: Scenario, number: int, seed: int, keep: Path | None) -> Round:
    """Kill a run, sometimes also the run that goes on from there, and let the last one end."""
    rng = rng_of(seed, "kill", number)
    attempt = bench.attempt(scenario, bench.work / f"kill-{number}")
    attempt.lay_out()
    wanted = 1 if rng.random() < 0.7 else rng.randint(2, 4)
    done = Round(str(scenario), hit=False)
    kills = 0
    limit = 0.98
    for _ in range(wanted):
        hit = _disturbed(attempt, moment(bench, scenario, rng, until=limit), signal.SIGKILL) == -signal.SIGKILL
        while not hit and not kills:
            # An attempt that ended before its kill would prove nothing: it is made again, shorter.
            attempt.lay_out()
            limit *= 0.8
            hit = _disturbed(attempt, moment(bench, scenario, rng, until=limit), signal.SIGKILL) == -signal.SIGKILL
        kills += hit
        done.problems += attempt.wrong_now()
    done.hit, done.how = kills > 0, f"{kills} kills"
    done.problems += attempt.wrong_at_last()
    return tidied(attempt, done, keep)


def stop(bench: Bench, scenario: Scenario, number: int, seed: int, keep: Path | None) -> Round:
    """Ask a run to stop: it has ten seconds, says so by its exit code, and can be gone on with."""
    rng = rng_of(seed, "stop", number)
    attempt = bench.attempt(scenario, bench.work / f"stop-{number}")
    attempt.lay_out()
    asked, everyone = rng.choice((signal.SIGTERM, signal.SIGINT)), rng.random() < 0.5
    # Before a run has begun, a signal ends the interpreter that loads it, which nothing can forbid.
    seconds = moment(bench, scenario, rng)
    done = Round(str(scenario), hit=False, how=f"{asked.name}{' to all its processes' if everyone else ''}")
    with attempt.started() as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            done.hit = True
            if everyone:
                signal_all(process, asked)
            else:
                process.send_signal(asked)
        try:
            text = process.communicate(timeout=MAX_SECONDS_TO_STOP)[1]
        except subprocess.TimeoutExpired:
            signal_all(process, signal.SIGKILL)
            text = process.communicate()[1]
            done.problems.append("it had not stopped after ten seconds")
    if done.hit and process.returncode not in (0, 128 + asked, -asked):
        done.problems.append(f"it ended with {process.returncode}: {text.strip()[-200:]}")
    done.problems += untyped(text)
    done.problems += attempt.wrong_now()
    done.problems += attempt.wrong_at_last()
    return tidied(attempt, done, keep)


def _disturbed(attempt: Attempt, seconds: float, number: int) -> int:
    """Send a signal to all processes of a run after ``seconds``; return the exit code."""
    with attempt.started() as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            signal_all(process, number)
    return process.returncode
