"""What is a plan?  A pipeline that was checked and resolved, ready to run."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import attrs
from attrs import field, frozen

from muniment.components import Engine, Sink, Source, Transform
from muniment.engine.local import Local

C = TypeVar("C")
OnPlanChange = Literal["keep", "new_version", "rewrite"]


@frozen
class Step(Generic[C]):
    """A component in its place: ``type`` is its registered name, ``path`` its place in the file."""

    type: str
    path: str
    component: C

    def identity(self) -> list[Any]:
        """Return what of this step decides what is stored, as JSON."""
        options = {
            a.name: _jsonable(getattr(self.component, a.name))
            for a in attrs.fields(type(self.component))  # type: ignore[arg-type]
            if a.metadata.get("identity", True)
        }
        return [self.type, options]


@frozen(kw_only=True)
class SinkPath:
    """A sink with what is its alone: transforms, name, unit limits."""

    step: Step[Sink]
    name: str
    transforms: tuple[Step[Transform], ...] = ()
    on_plan_change: OnPlanChange = "keep"
    max_unit_records: int = 2000
    max_unit_bytes: int = 64 * 2**20
    max_unit_seconds: float = 30.0


@frozen(kw_only=True)
class PlanTest:
    """One entry of ``tests:`` in a pipeline file."""

    name: str
    input: Mapping[str, Any]
    expect: Mapping[str, Any]
    path: str = ""


@frozen(kw_only=True)
class Plan:
    """A whole pipeline.  ``state_dir`` holds local state for targets that cannot hold their own."""

    name: str
    sources: tuple[Step[Source], ...]
    sinks: tuple[SinkPath, ...]
    transforms: tuple[Step[Transform], ...] = ()
    engine: Engine = field(factory=Local)
    state_dir: Path = field(factory=lambda: Path(".muniment"))
    allow_incomplete: bool = False
    tests: tuple[PlanTest, ...] = ()

    def hash_of(self, sink: SinkPath) -> str:
        """Return the plan hash of the path to ``sink``: 64 hex digits over what decides what is stored."""
        steps = [
            [[s.type, type(s.component).normaliser] for s in self.sources],
            [t.identity() for t in (*self.transforms, *sink.transforms)],
            sink.step.identity(),
        ]
        return hashlib.sha256(json.dumps(steps, sort_keys=True).encode()).hexdigest()


def _jsonable(value: Any) -> Any:
    if attrs.has(type(value)):
        return [type(value).__name__, {k: _jsonable(v) for k, v in attrs.asdict(value, recurse=False).items()}]
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "pattern", value))
