"""Where does a run happen so that whatever it leaves can be looked at?

A `Room` holds the working folder, the home, the folder for temporary files and those of the desktop; what a
process prints is kept beside them.  Exports and keys lie outside: they are what it was given.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from canary.scanner import Finding, Scanner, family_of

_FOLDERS = {
    "HOME": "home",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
    "XDG_DATA_HOME": "home/.local/share",
    "XDG_STATE_HOME": "home/.local/state",
    "XDG_RUNTIME_DIR": "runtime",
}


@dataclass
class Room:
    """A place of runs.  ``given`` are files outside that a run may have open."""

    root: Path
    scanner: Scanner
    given: tuple[Path, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    _heard: list[Finding] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in ("work", *_FOLDERS.values()):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for path in (self.root, *self.root.rglob("*")):
            path.chmod(0o700)

    @property
    def work(self) -> Path:
        return self.root / "work"

    def run(self, *arguments: object, code: int | None = None) -> str:
        """Run a command to its end, look at what it printed, and return it; ``code`` is what it must exit with."""
        with self._started(*arguments) as process:
            process.wait(timeout=120)
        text = self.printed[-1]
        assert code is None or process.returncode == code, f"{arguments}: {process.returncode}\n{text}"
        return text

    def kill(self, *arguments: object, after_seconds: float) -> bool:
        """Stop a command at some moment, look at what it has open, and kill it; whether it was still running."""
        with self._started(*arguments) as process:
            time.sleep(after_seconds)
            if process.poll() is not None:
                return False
            family = list(family_of(process.pid))
            for pid in family:
                _signal(pid, signal.SIGSTOP)
            self._heard += self.scanner.process(process.pid, but=self.given)
            for pid in family:
                _signal(pid, signal.SIGKILL)
            process.wait(timeout=30)
        return True

    def kill_often(self, *arguments: object, rounds: int, seed: int) -> int:
        """Kill a command so often, each time anywhere, and look at what is left; how often it was still running.

        Once it came to its end, the next round begins anew.
        """
        moments = random.Random(seed)
        started = time.monotonic()
        self.run(*arguments)
        seconds = time.monotonic() - started
        self._clear()
        killed = 0
        for _ in range(rounds):
            was_killed = self.kill(*arguments, after_seconds=moments.uniform(0.1, seconds))
            self._heard += self.scanner.folder(self.root)
            self._open += self._open_to_others()
            if was_killed:
                killed += 1
            else:
                self._clear()
        return killed

    def _clear(self) -> None:
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".yaml":
                path.unlink()

    def findings(self) -> list[str]:
        """Look at everything, and return what was found now or before; and what others than the owner can use."""
        found = {str(f) for f in [*self._heard, *self.scanner.folder(self.root)]}
        return sorted(found | {*self._open, *self._open_to_others()})

    def lines(self) -> list[str]:
        """Return what was found in what commands printed."""
        return sorted({str(f) for f in self._heard if f.place.startswith("output of")})

    def _open_to_others(self) -> list[str]:
        # Commands run under a umask that closes nothing.
        return [
            f"{path.relative_to(self.root)}: mode {mode:o}"
            for path in self.root.rglob("*")
            if (mode := path.lstat().st_mode & 0o7777) & 0o077 and not path.is_symlink()
        ]

    @contextmanager
    def _started(self, *arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
        output = self.root / "output"
        command = [sys.executable, "-c", "from muniment.cli import main; main()", *map(str, arguments)]
        with output.open("wb") as file:
            environment = {**os.environ, **{k: str(self.root / v) for k, v in _FOLDERS.items()}, **self.variables}
            process = subprocess.Popen(
                command, cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, umask=0
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()
        text = output.read_bytes()
        output.unlink()
        self.printed.append(text.decode("utf-8", "replace"))
        self._heard += self.scanner.data(text, f"output of {' '.join(map(str, arguments))}")


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
