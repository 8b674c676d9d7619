"""What will a plan do?  The answer of ``muniment plan``, as JSON."""

from typing import TYPE_CHECKING, Any

import attrs

from muniment.components import Effect, Transform
from muniment.plan import Plan, SinkPath, Step

if TYPE_CHECKING:
    from muniment.plugins import Registry


def describe_plan(plan: Plan, registry: "Registry") -> dict[str, Any]:
    """Return what the plan reads, does and promises.  It holds no option values: they may be private."""
    return {
        "name": plan.name,
        "sources": [
            {
                "path": s.path,
                "type": s.type,
                "plugin": _plugin("sources", s.type, registry),
                "replay": s.component.replay.value,
                "endless": s.component.endless,
            }
            for s in plan.sources
        ],
        "transforms": [_transform(t, registry) for t in plan.transforms],
        "sinks": [_sink(plan, s, registry) for s in plan.sinks],
        "engine": {
            "type": registry.find_name("engines", type(plan.engine)),
            "workers": plan.engine.workers,
        },
        "state_dir": str(plan.state_dir),
        "quarantine": str(plan.keeping.path) if plan.keeping else None,
        "allow_incomplete": plan.allow_incomplete,
        "tests": [t.name for t in plan.tests],
    }


def _sink(plan: Plan, sink: SinkPath, registry: "Registry") -> dict[str, Any]:
    component = sink.step.component
    return {
        "path": sink.step.path,
        "name": sink.name,
        "type": sink.step.type,
        "plugin": _plugin("sinks", sink.step.type, registry),
        "protocol": component.protocol,
        "guarantee": component.guarantee,
        # One option has one name everywhere, also in the sinks of other people.
        "encrypted": getattr(component, "encryption", None) is not None,
        "on_plan_change": sink.on_plan_change,
        "on_failure": sink.on_failure,
        "plan_hash": plan.hash_of(sink),
        "transforms": [_transform(t, registry) for t in (*plan.transforms, *sink.transforms)],
        "unit": attrs.asdict(sink.bounds),
    }


def _transform(step: Step[Transform], registry: "Registry") -> dict[str, Any]:
    effect = step.component.effect
    return {
        "path": step.path,
        "type": step.type,
        "plugin": _plugin("transforms", step.type, registry),
        "effects": [str(e.name).lower() for e in Effect if e in effect],
    }


def _plugin(kind: str, name: str, registry: "Registry") -> dict[str, str]:
    distribution, version = registry.owner(kind, name)
    return {"distribution": distribution, "version": version}
