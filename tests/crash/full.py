"""The disk is full, and later it is not."""

from pathlib import Path

from mounts import call, mounted
from rounds import Round, rng_of, tidied
from subject import Bench, Scenario, untyped


def full(bench: Bench, scenario: Scenario, number: int, seed: int, keep: Path | None) -> Round:
    """Run into the end of a small disk: an error that names it, nothing lost; with more room the run goes on."""
    rng = rng_of(seed, "full", number)
    folder = bench.work / f"full-{number}"
    attempt = bench.attempt(scenario, folder, place=folder / "mnt")
    need = bench.size_of(scenario)
    kept = bench.size_before(scenario)
    kilobytes = int(rng.uniform(kept, kept + 1.2 * (need - kept)) / 1024) + rng.choice((8, 16, 64))
    done = Round(str(scenario), hit=False, how=f"{kilobytes} kB")
    attempt.make_folder()
    with mounted(attempt.place, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
        attempt.lay_out_target()
        outcome = attempt.run()
        done.hit = outcome.code != 0
        done.how += f", exit code {outcome.code}"
        if outcome.code not in (0, 1):
            done.problems.append(f"it ended with {outcome.code}: {outcome.text.strip()[-200:]}")
        if outcome.code and not any(word in outcome.text for word in ("full", "space")):
            done.problems.append(f"the message does not say that the disk is full: {outcome.text.strip()[-200:]}")
        done.problems += untyped(outcome.text)
        done.problems += attempt.wrong_now()
        call("mount", "-o", "remount,size=64m", attempt.place)
        done.problems += attempt.wrong_at_last()
    return tidied(attempt, done, keep)
