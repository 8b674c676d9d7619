"""What is a plan?  A pipeline that was checked and resolved, ready to run."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import attrs
from attrs import field, frozen

from muniment.components import Engine, Sink, Source, Transform
from muniment.engine.local import Local
from muniment.secrets import Secret
from muniment.units import UnitBounds

if TYPE_CHECKING:
    from muniment.quarantine import Keeping

C = TypeVar("C")
OnPlanChange = Literal["keep", "new_version", "rewrite"]
OnFailure = Literal["stop", "continue"]


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
    """A sink with what is its alone: transforms, name, unit limits (None: what the sink prefers).

    ``on_failure`` says what the other sinks do when this one fails for good: ``stop`` with it, or
    ``continue``.  ``plan_hash`` stands in for the plan's own where a run does what another plan does.
    """

    step: Step[Sink]
    name: str
    transforms: tuple[Step[Transform], ...] = ()
    on_plan_change: OnPlanChange = "keep"
    on_failure: OnFailure = "stop"
    max_unit_records: int | None = None
    max_unit_bytes: int | None = None
    max_unit_seconds: float | None = None
    plan_hash: str = ""

    @property
    def bounds(self) -> UnitBounds:
        """The limits of a unit, with those filled in that nobody has set."""
        own = self.step.component.unit
        return UnitBounds(
            own.max_records if self.max_unit_records is None else self.max_unit_records,
            own.max_bytes if self.max_unit_bytes is None else self.max_unit_bytes,
            own.max_seconds if self.max_unit_seconds is None else self.max_unit_seconds,
        )


@frozen(kw_only=True)
class PlanTest:
    """One entry of ``tests:`` in a pipeline file."""

    name: str
    input: Mapping[str, Any]
    expect: Mapping[str, Any]
    path: str = ""


@frozen(kw_only=True)
class Plan:
    """A whole pipeline.

    ``file`` is the pipeline file that it was read from, as messages name it; ``state_dir`` holds local
    state for targets that cannot hold their own.  ``keeping`` says that the content of what cannot be
    archived is kept, and how.
    """

    name: str
    file: str = ""
    sources: tuple[Step[Source], ...]
    sinks: tuple[SinkPath, ...]
    transforms: tuple[Step[Transform], ...] = ()
    engine: Engine = field(factory=Local)
    state_dir: Path = field(factory=lambda: Path(".muniment"))
    allow_incomplete: bool = False
    tests: tuple[PlanTest, ...] = ()
    keeping: "Keeping | None" = None

    def hash_of(self, sink: SinkPath) -> str:
        """Return the plan hash of the path to ``sink``: 64 hex digits over what decides what is stored."""
        if sink.plan_hash:
            return sink.plan_hash
        steps = [
            [[s.type, type(s.component).normaliser] for s in self.sources],
            [t.identity() for t in (*self.transforms, *sink.transforms)],
            sink.step.identity(),
        ]
        return hashlib.sha256(json.dumps(steps, sort_keys=True).encode()).hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Secret):
        # Where a key stands decides nothing of what is stored, and a plan hash is shown.
        return None
    if attrs.has(type(value)):
        return [type(value).__name__, {k: _jsonable(v) for k, v in attrs.asdict(value, recurse=False).items()}]
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "pattern", value))
