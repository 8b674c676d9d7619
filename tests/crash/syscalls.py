"""Every system call may fail: the first that touches the target, the second, the third ...

`strace` makes it fail, or kills the process there.  A first run under it counts the calls that touch
the target; then each of them fails in a run of its own.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rounds import Round, tidied
from subject import Attempt, Bench, Scenario, untyped

ERRORS = {
    "write": ("EIO", "ENOSPC"),
    "pwrite64": ("EIO", "ENOSPC"),
    "fsync": ("EIO",),
    "fdatasync": ("EIO",),
    "syncfs": ("EIO",),
    "rename": ("EIO",),
    "renameat": ("EIO",),
    "renameat2": ("EIO",),
    "linkat": ("EIO", "ENOSPC"),
    "unlink": ("EIO",),
    "unlinkat": ("EIO",),
    "mkdirat": ("ENOSPC",),
    "mkdir": ("ENOSPC",),
    "openat": ("EMFILE", "EIO"),
    "ftruncate": ("EIO",),
    "read": ("EIO",),
    "pread64": ("EIO",),
    "flock": ("ENOLCK",),
    "fcntl": ("EIO",),
    "getdents64": ("EIO",),
}
KILLED_AT = (
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "linkat",
    "unlink",
    "unlinkat",
    "ftruncate",
)
MOST_OF_A_KIND = 40
SYNCS = ("fsync", "fdatasync", "syncfs")


@dataclass(frozen=True)
class Fault:
    """The ``number``-th call of a kind, and what becomes of it: an errno, or SIGKILL."""

    call: str
    number: int
    what: str
    place: str = ""

    @property
    def inject(self) -> str:
        how = f"signal={self.what}" if self.what.startswith("SIG") else f"error={self.what}"
        return f"inject={self.call}:{how}:when={self.number}"

    def __str__(self) -> str:
        return f"{self.what} at {self.call} {self.number} of {self.place}"


def no_strace() -> str:
    """Say why no call can be made to fail here, or nothing."""
    if not shutil.which("strace"):
        return "strace is not installed"
    command = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def faults(bench: Bench, scenario: Scenario) -> Iterator[Fault]:
    """Yield every fault that a run of the scenario can meet at its target, as counted by a run."""
    bench.prepare(scenario)
    attempt = bench.attempt(scenario, bench.work / f"count-{str(scenario).replace(', ', '-').replace(' ', '-')}")
    attempt.lay_out()
    log = attempt.folder / "calls"
    present = [c for c in ERRORS if _is_known(c)]
    outcome = attempt.run(("strace", "-f", "-qq", "-y", "-s", "0", "-o", str(log), "-e", f"trace={','.join(present)}"))
    if outcome.code:
        raise OSError(f"strace: {outcome.text.strip()[-300:]}")
    for call, number, place in _of_target(log.read_text("utf-8", "replace").splitlines(), attempt):
        for error in ERRORS[call]:
            yield Fault(call, number, error, place)
        if call in KILLED_AT:
            yield Fault(call, number, "SIGKILL", place)
    shutil.rmtree(attempt.folder)


def thinned(every: Sequence[Fault]) -> Iterator[Fault]:
    """Yield all faults of the rarer calls; of those that come by the hundred, some, evenly spread."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in every:
        groups.setdefault((fault.call, fault.what), []).append(fault)
    for group in groups.values():
        step = max(1.0, len(group) / MOST_OF_A_KIND)
        yield from (group[int(n * step)] for n in range(min(len(group), MOST_OF_A_KIND)))


def some_of_each(every: Sequence[tuple[Scenario, Fault]], count: int, rng: Random) -> list[tuple[Scenario, Fault]]:
    """Return so many faults, of as many kinds as there is room for."""
    groups: dict[tuple[str, str], list[tuple[Scenario, Fault]]] = {}
    for one in every:
        groups.setdefault((one[1].call, one[1].what), []).append(one)
    names = list(groups)
    rng.shuffle(names)
    found: list[tuple[Scenario, Fault]] = []
    while len(found) < count and any(groups.values()):
        found += [groups[n].pop(rng.randrange(len(groups[n]))) for n in names if groups[n]]
    return found[:count]


def fail(bench: Bench, scenario: Scenario, fault: Fault, number: int, keep: Path | None) -> Round:
    """Let one call fail: the run says so or is none the worse, and never succeeds behind a failed fsync."""
    attempt = bench.attempt(scenario, bench.work / f"fault-{number}")
    attempt.lay_out()
    log = attempt.folder / "calls"
    strace = ("strace", "-f", "-qq", "-y", "-s", "0", "-o", str(log), "-e", f"trace={fault.call}", "-e", fault.inject)
    outcome = attempt.run(strace)
    text = log.read_text("utf-8", "replace") if log.exists() else ""
    injected = [line for line in text.splitlines() if "(INJECTED)" in line]
    done = Round(str(scenario), hit=bool(injected) or outcome.code == 137 or "SIGKILL" in text, how=str(fault))
    killed = fault.what == "SIGKILL"
    if outcome.code not in (0, 1, 11, 78) and not (killed and outcome.code in (-9, 137)):
        done.problems.append(f"it ended with {outcome.code}: {outcome.text.strip()[-300:]}")
    at_target = [line for line in injected if str(attempt.folder) in line]
    is_last = at_target == [line for line in text.splitlines() if f"{fault.call}(" in line][-1:]
    if outcome.code == 0 and fault.call in SYNCS and at_target and not _is_forgiven(at_target[0], is_last=is_last):
        done.problems.append(f"success in spite of {at_target[0][:200]}")
    if at_target or killed:
        done.problems += untyped(outcome.text)
    if outcome.code == 0:
        done.problems += _wrong_after_success(attempt)
    done.problems += attempt.wrong_now()
    done.problems += attempt.wrong_at_last()
    return tidied(attempt, done, keep)


def _wrong_after_success(attempt: Attempt) -> Iterator[str]:
    """Say what is wrong with an archive of which the run said that it is whole."""
    from checker import lost

    found = attempt.read(ended=False)
    yield from (f"silent: {w}" for w in lost(found, attempt.bench.prepare(attempt.scenario).expected))


def _is_forgiven(line: str, *, is_last: bool) -> bool:
    # SQLite, which calls `fdatasync`, ignores what becomes of it for a folder, by its own design.  And a state
    # that cannot be made one file at the end stays two, which is no loss: it is a cache, and was durable before;
    # the log is flushed once more for that, behind its last commit, and nothing else is behind that.
    # So does an archive whose data is flushed: its journal serves only to go back from the log to one file.
    if "fdatasync(" not in line:
        return False
    if "-wal" in line:
        return is_last and "state.db" in line
    return "state.db" in line or ".db" not in line or "/archive.db-journal>" in line


def _of_target(lines: list[str], attempt: Attempt) -> Iterator[tuple[str, int, str]]:
    """Yield (call, its number in its thread, path) of the calls that touch the target; each once."""
    counts: dict[tuple[str, str], int] = {}
    seen = set()
    for line in lines:
        match = re.match(r"(\d+) +(\w+)\(", line)
        if not match:
            continue
        thread, call = match.groups()
        counts[thread, call] = number = counts.get((thread, call), 0) + 1
        path = re.search(re.escape(str(attempt.folder)) + r"/([^>\",]*)", line)
        if path and "pipeline.yaml" not in path[1] and path[1] != "calls" and (call, number) not in seen:
            seen.add((call, number))
            yield call, number, path[1] or "."


def _is_known(call: str) -> bool:
    command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
