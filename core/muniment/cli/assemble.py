"""How do the paths and options of a command become a plan?"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from muniment.components import Engine, Sink, Source
from muniment.engine.local import Local
from muniment.errors import ConfigError
from muniment.plan import OnPlanChange, Plan, SinkPath, Step
from muniment.secrets import Secret

if TYPE_CHECKING:
    from muniment.plugins import Registry

DEFAULT_ARCHIVE = "archive.db"
LARGE_BYTES = 64 * 2**20
"""From this size of the input on, starting worker processes pays."""

_ARCHIVE_ENDINGS = (".db", ".sqlite", ".sqlite3")
_OWN_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.xz")
_OWN_FOLDER = ".muniment"


def import_plan(
    registry: "Registry",
    paths: Sequence[str],
    sink: SinkPath,
    *,
    source: str | None = None,
    workers: int | None = None,
    allow_incomplete: bool = False,
) -> Plan:
    """Return the plan that reads every path into ``sink``."""
    return Plan(
        name="import",
        sources=_source_steps(registry, paths, source),
        sinks=(sink,),
        engine=engine_for(workers, paths),
        allow_incomplete=allow_incomplete,
    )


def export_plan(
    registry: "Registry",
    archive: str,
    sink: SinkPath,
    transforms: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    workers: int | None = None,
    allow_incomplete: bool = False,
    keys: Sequence[Path] = (),
) -> Plan:
    """Return the plan that writes what passes ``transforms`` from ``archive``, which ``keys`` open, to ``sink``."""
    steps = tuple(
        Step(name, f"transforms[{i}]", make(registry, "transforms", name, options))
        for i, (name, options) in enumerate(transforms)
    )
    return Plan(
        name="export",
        sources=_source_steps(registry, [archive], "archive", keys),
        transforms=steps,
        sinks=(evolve(sink, on_plan_change=_replacing(sink.step.component)),),
        engine=engine_for(workers, [archive]),
        allow_incomplete=allow_incomplete,
    )


def sink_for(
    registry: "Registry",
    to: str,
    *,
    format_: str | None = None,
    mode: str | None = None,
    compression: str | None = None,
    fts: str | None = None,
    encrypt_key: Path | None = None,
) -> SinkPath:
    """Return the sink that a path means: an archive by its ending, else files.

    Raises:
        ConfigError: the options do not go with that sink.
    """
    given = {"format": format_, "mode": mode, "compression": compression}
    of_files = {name: value for name, value in given.items() if value is not None}
    if is_archive_name(to) and not Path(to).is_dir():
        if of_files:
            raise ConfigError(
                f"`--{next(iter(of_files))}` does not go with `{to}`, which is an archive; name a folder or a file"
                " like `chats.jsonl.zst` with `--to`"
            )
        name = "sqlite"
        options: dict[str, Any] = {"path": to}
        if fts:
            options["fts"] = fts
    else:
        if fts:
            raise ConfigError(
                f"`--fts` does not go with `{to}`, which is no archive; name one like `{DEFAULT_ARCHIVE}`"
            )
        name, options = "files", {"path": to, **of_files}
    if encrypt_key:
        options["encryption"] = encryption_with([encrypt_key])
    return SinkPath(step=Step(name, f"sinks[0] ({name})", make(registry, "sinks", name, options)), name=name)


def encryption_with(keys: Sequence[Path]) -> dict[str, Any]:
    """Return the option `encryption` for key files: the first is written for, all are read with."""
    first, *others = [Secret(f"file:{path.absolute()}") for path in keys]
    return {"key": first, **({"old_keys": others} if others else {})}


def make(registry: "Registry", kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Return a component with ``options``, checked as in a pipeline file.

    Raises:
        ConfigError: an option does not fit.
        PluginError: the component cannot be used.
    """
    from muniment.structure import structure

    cls = registry.get(kind, name)
    component = structure(cls, dict(options), owner=f"{kind[:-1]} `{name}`", registry=registry)
    problems = tuple(component.check())
    if problems:
        raise ConfigError(*problems)
    return component


def engine_for(workers: int | None, paths: Iterable[str]) -> Engine:
    """Return the engine for ``workers`` processes; None: what the size of the input asks for."""
    if workers is None:
        workers = _cores() if input_bytes(paths) >= LARGE_BYTES else 1
    if workers == 1:
        return Local()
    from muniment.engine.pool import Pool

    return Pool(workers=workers)


def input_bytes(paths: Iterable[str]) -> int:
    """Return the bytes on disk of files, and of the JSON files in folders."""
    total = 0
    for path in map(Path, paths):
        try:
            files = path.rglob("*.json") if path.is_dir() else [path]
            total += sum(f.stat().st_size for f in files)
        except OSError:
            # The source says what is wrong with it, and better.
            continue
    return total


def is_archive_name(path: str) -> bool:
    return path.lower().endswith(_ARCHIVE_ENDINGS)


def detect_source(path: str) -> str:
    """Return the name of the source that reads ``path``."""
    is_own = path.lower().endswith(_ARCHIVE_ENDINGS + _OWN_ENDINGS) or (Path(path) / _OWN_FOLDER).is_dir()
    return "archive" if is_own else "chatgpt_export"


def _source_steps(
    registry: "Registry", paths: Sequence[str], source: str | None, keys: Sequence[Path] = ()
) -> tuple[Step[Source], ...]:
    steps = []
    for index, path in enumerate(paths):
        name = source or detect_source(path)
        options: dict[str, Any] = {"path": path}
        if keys and name == "archive":
            options["encryption"] = encryption_with(keys)
        where = "source" if len(paths) == 1 else f"sources[{index}]"
        steps.append(Step(name, where, make(registry, "sources", name, options)))
    return tuple(steps)


def _replacing(sink: Sink) -> OnPlanChange:
    """Return what an export does to what an export with other options wrote: give way to it, where it can."""
    from muniment.sinks.objects import ObjectSink

    if isinstance(sink, ObjectSink) and sink.layout.mode != "append":
        return "rewrite"
    return "new_version"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
