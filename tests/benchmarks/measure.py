"""What does a command cost?  Wall time, CPU time and peak memory of its whole process tree."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLES_PER_SECOND = 20
SHARE_FOR_SAMPLING = 0.05  # reading the map of a process that holds gigabytes takes milliseconds
MB = 1_000_000


@dataclass(frozen=True)
class Cost:
    """``cpu_seconds`` is user and system of the command and all its children; ``peak_mb`` is the
    greatest sum of the proportional set sizes (PSS) of its processes, in 10^6 bytes."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    exit_code: int
    error: str = ""


def measure(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 1800,
) -> Cost:
    """Run ``command`` in ``directory`` and return what it cost.

    Its own session tells its processes apart from all others, also those whose parent has ended.
    """
    os.sync()  # what the command before left to be written must not be this one's burden
    peak = 0
    errors = directory / "stderr.txt"
    with errors.open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall = time.perf_counter() - started
            if pid:
                break
            if wall > timeout_seconds:
                os.killpg(process.pid, signal.SIGKILL)
            before = time.perf_counter()
            peak = max(peak, sum(_pss_bytes(p) for p in _session(process.pid)))
            spent = time.perf_counter() - before
            # The exit is seen within a millisecond although memory is sampled less often.
            until = before + max(1 / SAMPLES_PER_SECOND, spent / SHARE_FOR_SAMPLING)
            while time.perf_counter() < until and not _has_ended(process.pid):
                time.sleep(0.001)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = errors.read_text(errors="replace").strip().splitlines()
    return Cost(
        wall_seconds=wall,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=peak / MB,
        exit_code=process.returncode,
        error=lines[-1] if process.returncode and lines else "",
    )


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _session(leader: int) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            pid = int(entry.name)
            try:
                if os.getsid(pid) == leader:
                    yield pid
            except ProcessLookupError:
                continue


def _pss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass  # it ended between the listing and the reading
    return 0
