"""What is disturbed, and what must come of it?  A pipeline in a folder, and the archive of an undisturbed run."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "benchmarks")]

import checker  # noqa: E402
from exports import newer_export  # noqa: E402
from generate import generate  # noqa: E402
from sealed import Values, file_opener, make_key  # noqa: E402

PIPELINE = """\
version: 1
source: {{type: chatgpt_export, path: {export}, chunk_bytes: {chunk}}}
engine: {engine}
sinks:
  - {{{sink}, unit: {{max_records: {unit}}}}}
allow_incomplete: true
"""
SINKS = {
    "sqlite": ("type: sqlite, path: archive.db", "archive.db"),
    "files": ("type: files, path: out", "out"),
    "files zstd": ("type: files, path: out, compression: zstd", "out"),
    "mirror": ("type: files, path: out, mode: mirror, format: json", "out"),
}
ENCRYPTION = ', encryption: {{key: "${{secret:file:{key}}}"}}'
SINKS |= {f"{name} encrypted": (sink + ENCRYPTION, path) for name, (sink, path) in SINKS.items() if name != "files"}
ENGINES = {"local": "{type: local}", "pool": "{type: pool, workers: 2}"}
ACKS = "CRASH_ACKS"
"""The variable that names the file which `ACKNOWLEDGER` appends to."""

ACKNOWLEDGER = """\
import json, os
from muniment import hookimpl

@hookimpl
def muniment_run_event(event):
    if event.kind in ("committed", "finished"):
        [counts] = event.counts.values()
        line = json.dumps([event.kind, counts.stored + counts.unchanged]) + "\\n"
        file = os.open(os.environ["CRASH_ACKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line.encode())
        os.close(file)
"""


@dataclass(frozen=True)
class Scenario:
    """What runs: a sink, whether the target holds an archive before, an engine."""

    sink: str
    top_up: bool
    engine: str = "local"

    @property
    def is_database(self) -> bool:
        return self.sink.startswith("sqlite")

    @property
    def is_encrypted(self) -> bool:
        return self.sink.endswith("encrypted")

    def __str__(self) -> str:
        return f"{self.sink}, {'top-up' if self.top_up else 'first load'}, {self.engine}"


SCENARIOS = [Scenario(sink, top_up, engine) for sink in SINKS for top_up in (False, True) for engine in ENGINES]


@dataclass
class Undisturbed:
    """What a run that nobody disturbs leaves, and when it does what."""

    content: dict[str, str]
    expected: checker.Nodes
    before: checker.Nodes
    order: list[str]
    seconds: float
    first_write_seconds: float


@dataclass
class Outcome:
    """How a process ended."""

    code: int
    text: str
    seconds: float


@dataclass
class Bench:
    """A place to work in: two exports, the second newer than the first, and archives of undisturbed runs."""

    work: Path
    seed: int = 1
    json_kb: int = 1000
    unit: int = 4
    chunk: int = 16384
    undisturbed: dict[Scenario, Undisturbed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        self.base, self.newer = self.work / "base.zip", self.work / "newer.zip"
        if not self.newer.exists():
            generate(self.base, json_bytes=self.json_kb * 1000, seed=self.seed, asset_bytes=200_000)
            newer_export(self.base, self.newer, random.Random(self.seed))
        self.key = self.work / "archive.key"
        if not self.key.exists():
            make_key(self.key)
        self.plugins = self.work / "plugins"
        info = self.plugins / "crash_acks-1.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (self.plugins / "crash_acks.py").write_text(ACKNOWLEDGER)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crash-acks\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[muniment.plugins.v1]\ncrash_acks = crash_acks\n")

    def prepare(self, scenario: Scenario) -> Undisturbed:
        """Return what an undisturbed run of a scenario leaves; it runs once."""
        if scenario not in self.undisturbed:
            self.undisturbed[scenario] = self._run_undisturbed(scenario)
        return self.undisturbed[scenario]

    def attempt(self, scenario: Scenario, folder: Path, *, place: Path | None = None) -> "Attempt":
        """Return a folder in which the scenario can run; ``place`` is where the target lies, if elsewhere."""
        return Attempt(self, scenario, folder, place or folder)

    def kept(self, scenario: Scenario) -> Path:
        """Return the archive that a top-up begins with."""
        return self.work / "kept" / scenario.sink.replace(" ", "-") / SINKS[scenario.sink][1]

    def size_of(self, scenario: Scenario) -> int:
        """Return the bytes that the target of an undisturbed run takes at its end."""
        self.prepare(scenario)
        return _size(self.attempt(scenario, self._undisturbed_folder(scenario)).target)

    def size_before(self, scenario: Scenario) -> int:
        """Return the bytes that the target takes before the run."""
        self.prepare(scenario)
        return _size(self.kept(scenario)) if scenario.top_up else 0

    def _undisturbed_folder(self, scenario: Scenario) -> Path:
        return self.work / "undisturbed" / str(scenario).replace(", ", "-").replace(" ", "-")

    def _run_undisturbed(self, scenario: Scenario) -> Undisturbed:
        if scenario.top_up:
            self.prepare(replace(scenario, top_up=False, engine="local"))
        folder = self._undisturbed_folder(scenario)
        attempt = self.attempt(scenario, folder)
        attempt.lay_out()
        started, first_write = time.monotonic(), 0.0
        before = _marks(folder)
        with attempt.started() as process:
            while process.poll() is None:
                if not first_write and _marks(folder) != before:
                    first_write = time.monotonic() - started
                time.sleep(0.003)
            seconds = time.monotonic() - started
            if process.returncode:
                raise SystemExit(f"{scenario}: an undisturbed run fails: {process.communicate()[1]}")
        found = attempt.read(ended=True)
        exports = (self.base, self.newer) if scenario.top_up else (self.base,)
        expected = checker.exported(*exports)
        wrong = [*found.problems, *checker.lost(found, expected), *checker.surplus(found, expected)]
        if wrong:
            raise SystemExit(f"{scenario}: an undisturbed run is wrong: {wrong[:3]}")
        if not scenario.top_up and scenario.engine == "local":
            kept = self.kept(scenario)
            kept.parent.mkdir(parents=True, exist_ok=True)
            _copy(attempt.target, kept)
        return Undisturbed(
            found.content,
            expected,
            checker.exported(self.base) if scenario.top_up else {},
            checker.order_of(attempt.export),
            seconds,
            first_write,
        )


@dataclass
class Attempt:
    """One target that is disturbed."""

    bench: Bench
    scenario: Scenario
    folder: Path
    place: Path

    def lay_out(self) -> None:
        """Make the folder anew, with the archive that a top-up begins with."""
        self.make_folder()
        self.lay_out_target()

    def make_folder(self) -> None:
        """Make the folder anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def lay_out_target(self) -> None:
        """Put the archive there that a top-up begins with."""
        if self.scenario.top_up:
            _copy(self.bench.kept(self.scenario), self.target)

    @property
    def export(self) -> Path:
        return self.bench.newer if self.scenario.top_up else self.bench.base

    @property
    def target(self) -> Path:
        return self.place / SINKS[self.scenario.sink][1]

    def command(self) -> list[str]:
        """Return the command of a run; its pipeline is written once."""
        sink, name = SINKS[self.scenario.sink]
        sink = sink.replace(f"path: {name}", f"path: {json.dumps(str(self.target))}")
        pipeline = self.folder / "pipeline.yaml"
        if not pipeline.exists():
            pipeline.write_text(
                PIPELINE.format(
                    export=json.dumps(str(self.export)),
                    chunk=self.bench.chunk,
                    engine=ENGINES[self.scenario.engine],
                    sink=sink.format(key=self.bench.key) if self.scenario.is_encrypted else sink,
                    unit=self.bench.unit,
                )
            )
        return [str(Path(sys.executable).with_name("muniment")), "run", str(pipeline), "--quiet"]

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, **more}

    def acknowledging(self) -> dict[str, str]:
        """Return an environment in which the run appends what it reports as committed to `acks`."""
        paths = [str(self.bench.plugins), *filter(None, [os.environ.get("PYTHONPATH")])]
        return self.environment(PYTHONPATH=os.pathsep.join(paths), **{ACKS: str(self.acks)})

    @property
    def acks(self) -> Path:
        return self.folder / "acks"

    def acknowledged(self) -> tuple[int, bool]:
        """Return how many records were reported as stored by the last line, and whether the run reported its end."""
        lines = self.acks.read_text().splitlines() if self.acks.exists() else []
        events = [json.loads(line) for line in lines]
        return (events[-1][1] if events else 0), any(kind == "finished" for kind, _ in events)

    def started(self, prefix: tuple[str, ...] = (), **environment: str) -> "subprocess.Popen[str]":
        """Start a run in a session of its own."""
        return subprocess.Popen(
            [*prefix, *self.command()],
            env=self.environment(**environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, prefix: tuple[str, ...] = (), **environment: str) -> Outcome:
        """Run to the end."""
        begun = time.monotonic()
        with self.started(prefix, **environment) as process:
            try:
                text = process.communicate(timeout=120)[1]
            except subprocess.TimeoutExpired:
                signal_all(process, signal.SIGKILL)
                return Outcome(124, "it did not end in two minutes", time.monotonic() - begun)
        return Outcome(process.returncode, text, time.monotonic() - begun)

    def read(self, *, ended: bool) -> checker.Findings:
        """Return what the target holds."""
        key = self.bench.key
        if self.scenario.is_database:
            unlock = partial(Values, key=key) if self.scenario.is_encrypted else None
            return checker.read_database(self.target, unlock)
        return checker.read_folder(
            self.target, ended=ended, opened=file_opener(key) if self.scenario.is_encrypted else None
        )

    # --- verdicts ---------------------------------------------------------------------------

    def wrong_now(self) -> Iterator[str]:
        """Say what is wrong while the run has not been repeated: torn, doubled or foreign, or older data lost."""
        undisturbed = self.bench.prepare(self.scenario)
        found = self.read(ended=False)
        yield from found.problems
        yield from checker.surplus(found, undisturbed.expected)
        yield from checker.lost(found, undisturbed.before)

    def wrong_of_acknowledged(self, count: int, finished: bool) -> Iterator[str]:
        """Say what was reported as stored and is not there."""
        undisturbed = self.bench.prepare(self.scenario)
        if self.scenario.is_database and not self.scenario.top_up and not finished:
            # A new archive is one unit, which appears at the end.
            return
        first = dict.fromkeys(undisturbed.order if finished else undisturbed.order[:count])
        nodes = checker.exported(self.export)
        found = self.read(ended=False)
        yield from (f"acknowledged, then {w}" for w in checker.lost(found, {k: nodes[k] for k in first}))

    def wrong_at_last(self) -> Iterator[str]:
        """Repeat the run to its end, and say in what the archive differs from an undisturbed one."""
        outcome = self.run()
        if outcome.code != 0:
            yield f"the run after it ended with {outcome.code}: {outcome.text.strip()[-300:]}"
            return
        undisturbed = self.bench.prepare(self.scenario)
        found = self.read(ended=True)
        yield from found.problems
        yield from checker.lost(found, undisturbed.expected)
        yield from checker.surplus(found, undisturbed.expected)
        yield from checker.compared(found, undisturbed.content)
        yield from (f"left: {f.name}" for f in sorted(self.place.iterdir()) if f.name.startswith("."))


def untyped(text: str) -> Iterator[str]:
    """Say whether an error message is one that nobody wrote for people."""
    if "Traceback" in text or "this is a defect" in text:
        yield f"no error for people: {text.strip()[-300:]}"


def signal_all(process: "subprocess.Popen[str]", number: int) -> None:
    """Send a signal to a process and to all others of its session, which may outlive it for a moment."""
    if process.poll() is None or next(members(process.pid), None):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def members(session: int) -> Iterator[str]:
    """Yield the kernel's letter for the state of each process of a session, but of zombies."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, _, _, found = stat.read_text().rpartition(")")[2].split()[:4]
            if int(found) == session and state not in "ZX":
                yield state


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _size(path: Path) -> int:
    return sum(-(-f.stat().st_size // 4096) * 4096 for f in ([path] if path.is_file() else path.rglob("*")))


def _marks(folder: Path) -> set[str]:
    return {str(f) for f in folder.rglob("*") if f.name != "pipeline.yaml"}
