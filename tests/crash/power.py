"""The power goes: what had not reached the device is gone.

The target lies on an ext4 image that is mounted by a loop device.  At a random moment all processes are
stopped and the image is copied: the copy holds what had been written to the device, and nothing of the
page cache.  The copy is mounted, which replays its journal, and read.
"""

import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from mounts import copy_image, image, mounted
from rounds import Round, moment, rng_of, tidied
from subject import Attempt, Bench, Scenario, members, signal_all

MEGABYTES = 48
JOURNALS = (
    "data=ordered",
    "data=ordered,commit=1",
    "data=ordered,noauto_da_alloc",
    "data=writeback",
    "data=writeback,noauto_da_alloc,commit=1",
)


class Subject(Protocol):
    """What writes to a disk and reports what it has stored."""

    def start(self, attempt: Attempt) -> "subprocess.Popen[str]": ...


class Run:
    """A run, whose observers say what was committed."""

    def start(self, attempt: Attempt) -> "subprocess.Popen[str]":
        return attempt.started(**attempt.acknowledging())


def power(bench: Bench, scenario: Scenario, number: int, seed: int, keep: Path | None) -> Round:
    """Cut the power of a run; what it reported must be there, and the run must go on from there."""
    rng = rng_of(seed, "power", number)
    attempt = bench.attempt(scenario, bench.work / f"power-{number}", place=bench.work / f"power-{number}" / "mnt")
    done = cut(attempt, Run(), moment(bench, scenario, rng, until=1.3), rng)
    return tidied(attempt, done, keep)


def cut(attempt: Attempt, subject: Subject, seconds: float, rng: random.Random, *, resume: bool = True) -> Round:
    """Cut the power of whatever writes to the target after ``seconds``."""
    journal = rng.choice(JOURNALS)
    folder, place = attempt.folder, attempt.place
    done = Round(str(attempt.scenario), hit=False, how=journal)
    attempt.make_folder()
    disk, survived = folder / "disk", folder / "survived"
    copy_image(_empty_disk(attempt.bench.work), disk)
    with ExitStack() as stack:
        stack.enter_context(mounted(place, "-o", f"loop,{journal}", disk))
        if attempt.scenario.top_up:
            attempt.lay_out_target()
            os.sync()
        process = stack.enter_context(subject.start(attempt))
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            done.hit = True
            signal_all(process, signal.SIGSTOP)
            _wait_until_stopped(process.pid)
        count, finished = attempt.acknowledged()
        copy_image(disk, survived)
        signal_all(process, signal.SIGKILL)
        process.communicate()
    done.how += f", {count} reported" + (" and the end" if finished else "")
    with mounted(place, "-o", "loop", survived):
        done.problems += attempt.wrong_now()
        done.problems += attempt.wrong_of_acknowledged(count, finished)
        if resume:
            done.problems += attempt.wrong_at_last()
    disk.unlink()
    return done


def _empty_disk(work: Path) -> Path:
    disk = work / "empty-disk"
    if not disk.exists():
        made = work / f"empty-disk-{os.getpid()}-{time.monotonic_ns()}"
        image(made, MEGABYTES)
        made.rename(disk)
    return disk


def _wait_until_stopped(group: int) -> None:
    """Wait until no thread of a session runs: a signal takes its time."""
    until = time.monotonic() + 1
    while time.monotonic() < until and any(state in "RD" for state in members(group)):
        time.sleep(0.002)
