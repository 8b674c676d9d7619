"""How does a test run records into a sink?  Through the engine, with a plan made by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from muniment.components import Sink
from muniment.events import RunEvent
from muniment.model import Record
from muniment.pipeline import RunReport, run
from muniment.plan import Plan, SinkPath, Step
from muniment.testing.faults import FaultyStep
from muniment.testing.records import ListSource

NAME = "contract"
PATH = "sinks[0] (contract)"


@define(eq=False)
class Quiet:
    """As much of a registry as a run needs: it keeps the events that it hears."""

    heard: list[RunEvent] = field(factory=list)

    def call_run_event(self, event: RunEvent) -> None:
        self.heard.append(event)


def plan_of(
    sink: Sink,
    records: Sequence[Any],
    *,
    state_dir: Path,
    assets: Mapping[str, bytes] | None = None,
    chunk_records: int = 1,
    max_unit_records: int = 2,
) -> Plan:
    """Return a plan that reads ``records`` into ``sink``, in one process."""
    source = ListSource(records=tuple(records), chunk_records=chunk_records, assets=assets or {})
    step = FaultyStep("contract", PATH, sink)
    return Plan(
        name="contract",
        sources=(Step("list", "source", source),),
        sinks=(SinkPath(step=step, name=NAME, max_unit_records=max_unit_records),),
        state_dir=state_dir,
    )


def run_plan(plan: Plan) -> RunReport:
    """Run a plan; what observers would hear is dropped."""
    return run(plan, Quiet())  # type: ignore[arg-type]


def archive(sink: Sink, records: Sequence[Record], *, state_dir: Path, **more: Any) -> RunReport:
    """Run ``records`` into ``sink`` and return the report."""
    return run_plan(plan_of(sink, records, state_dir=state_dir, **more))
