"""The clock jumps: between runs, and while one runs."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

from rounds import Round, moment, rng_of, tidied
from subject import Bench, Scenario, untyped

JUMPS = ("+1h", "-1h", "+1y", "-1y", "@1970-01-01 00:00:10", "@2026-03-29 01:59:59", "@2026-10-25 02:59:59")
LIBRARY = "*/faketime/libfaketimeMT.so.1"


def no_faketime() -> str:
    """Say why no clock can jump here, or nothing."""
    if not list(Path("/usr/lib").glob(LIBRARY)):
        return "libfaketime is not installed"
    done = subprocess.run(
        [shutil.which("date") or "date", "+%Y"], env=_environment(at="@1999-05-05 00:00:00"), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    return "" if done.stdout.strip() == "1999" else f"libfaketime does not work here: {done.stdout}{done.stderr}"


def jump(bench: Bench, scenario: Scenario, number: int, seed: int, keep: Path | None) -> Round:
    """Let the clock jump in a run, kill it or not, and go on at another time: nothing is skipped or taken away."""
    rng = rng_of(seed, "clock", number)
    attempt = bench.attempt(scenario, bench.work / f"clock-{number}")
    attempt.lay_out()
    first, second, last = rng.choice(JUMPS), rng.choice(JUMPS), rng.choice(JUMPS)
    done = Round(str(scenario), hit=True, how=f"{first} then {second}, at last {last}")
    stamp = attempt.folder / "time"
    stamp.write_text(first.removeprefix("@"))
    with attempt.started(**_environment(file=stamp)) as process:
        try:
            process.wait(moment(bench, scenario, rng))
            done.hit = False
        except subprocess.TimeoutExpired:
            stamp.write_text(second.removeprefix("@"))
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
        text = process.communicate()[1]
    if process.returncode not in (0, -signal.SIGKILL):
        done.problems.append(f"it ended with {process.returncode}: {text.strip()[-300:]}")
    if process.returncode != -signal.SIGKILL:
        # Of a run that was killed, workers that had only just begun say that nobody is left to tell them what to do.
        done.problems += untyped(text)
    again = attempt.run(**_environment(at=last))
    if again.code:
        done.problems.append(f"the next run ended with {again.code}: {again.text.strip()[-300:]}")
    done.problems += attempt.wrong_now()
    done.problems += attempt.wrong_at_last()
    return tidied(attempt, done, keep)


def _environment(*, at: str = "", file: Path | None = None) -> dict[str, str]:
    # The monotonic clock is the kernel's promise: it does not jump.
    settings = {
        "LD_PRELOAD": str(next(Path("/usr/lib").glob(LIBRARY))),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    if file is not None:
        return {**settings, "FAKETIME_TIMESTAMP_FILE": str(file)}
    return {**settings, "FAKETIME": at.removeprefix("@")}
