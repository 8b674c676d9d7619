"""What do the targets that a command names say of themselves?  Read without opening them for writing."""

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from muniment.cli.assemble import sink_for
from muniment.components import Context
from muniment.errors import InputError
from muniment.units import Checkpoint

if TYPE_CHECKING:
    from muniment.plan import SinkPath
    from muniment.plugins import Registry

PIPELINE_ENDINGS = (".yaml", ".yml")


@frozen
class TargetLedger:
    """What one target holds of its own history.

    ``where`` is None if nothing was stored yet; it is a path only where the ledger is a file.
    """

    sink: str
    where: Path | str | None
    runs: tuple[dict[str, Any], ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    quarantined: tuple[dict[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "sink": self.sink,
            "where": str(self.where) if self.where else None,
            "runs": list(self.runs),
            "checkpoints": [attrs.asdict(c) for c in self.checkpoints],
            "quarantined": len(self.quarantined),
        }


def is_pipeline_file(target: str) -> bool:
    return target.lower().endswith(PIPELINE_ENDINGS)


def ledgers_of(target: str, registry: "Registry") -> list[TargetLedger]:
    """Return the ledger of an archive or folder, or of every sink of a pipeline file.

    Raises:
        InputError: there is nothing, or it is no archive.
    """
    if is_pipeline_file(target):
        from muniment import config

        plan = config.load(Path(target), registry)
        return [_ledger(p, Context(run="", path=p.step.path, state_dir=plan.state_dir)) for p in plan.sinks]
    if not Path(target).exists():
        raise InputError(f"there is no archive `{target}`; make one with `muniment import EXPORT --to {target}`")
    path = sink_for(registry, target)
    ledger = _ledger(path, Context(run="", path=path.step.path))
    if ledger.where is None:
        raise InputError(f"`{target}` holds no archive that keeps a history")
    return [ledger]


def _ledger(path: "SinkPath", context: Context) -> TargetLedger:
    from muniment.state import State

    where = path.step.component.state_path(context)
    if where is None and (found := path.step.component.history(context)) is not None:
        runs, entries = (tuple(map(dict, some)) for some in (found.runs, found.quarantined))
        return TargetLedger(path.name, found.where, runs, found.checkpoints, entries)
    if where is None or not where.is_file():
        return TargetLedger(path.name, None)
    try:
        with contextlib.closing(State.open(where, read_only=True)) as state:
            return TargetLedger(
                path.name,
                where,
                tuple(state.runs()),
                tuple(state.checkpoints().values()),
                tuple(state.quarantined()),
            )
    except sqlite3.DatabaseError as error:
        raise InputError(f"`{where}` is not a muniment archive ({error})") from error
