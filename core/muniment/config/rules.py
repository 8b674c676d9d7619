"""What must hold between the parts of a pipeline, beyond each being right in itself?

Rules look at the parts that could be made, so that a mistake in one part hides no other mistake.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from muniment.components import Effect
from muniment.plan import Plan, SinkPath

Path = tuple[str | int, ...]
Broken = Iterator[tuple[Path, str]]


def broken_rules(plan: Plan, data: Mapping[str, Any]) -> Broken:
    """Yield the place and the description of every rule that ``plan``, made from ``data``, breaks."""
    yield from _has_sources_and_sinks(data)
    yield from _sink_names_differ(plan, data)
    yield from _snapshots_end(plan)
    yield from _altering_says_what_a_new_plan_does(plan, data)
    yield from _sinks_promise_enough(plan, data)


def _has_sources_and_sinks(data: Mapping[str, Any]) -> Broken:
    if data.get("source") is not None and data.get("sources"):
        yield ("sources",), "`source` and `sources` exclude each other; move the one source into the list"
    if data.get("source") is None and not data.get("sources"):
        yield (), "the pipeline has no source; add `source: {type: ...}`"
    if not data.get("sinks"):
        yield ("sinks",), "the pipeline has no sink; add `sinks:` with at least one"


def _sink_names_differ(plan: Plan, data: Mapping[str, Any]) -> Broken:
    seen: dict[str, str] = {}
    for sink in plan.sinks:
        if sink.name in seen:
            path = _sink_path(sink)
            key = "name" if "name" in data["sinks"][path[1]] else "type"
            yield (
                (*path, key),
                f"two sinks have the name `{sink.name}` (the other is {seen[sink.name]});"
                " give one of them another `name`",
            )
        seen.setdefault(sink.name, sink.step.path)


def _snapshots_end(plan: Plan) -> Broken:
    endless = [s for s in plan.sources if s.component.endless]
    for sink in plan.sinks:
        component = sink.step.component
        mode = getattr(getattr(component, "layout", component), "mode", None)
        if endless and mode == "snapshot":
            yield (
                (*_sink_path(sink), "mode"),
                f"sink `{sink.name}` writes a snapshot when its source ends, but source"
                f" `{endless[0].type}` never ends; use `mode: append`",
            )


def _altering_says_what_a_new_plan_does(plan: Plan, data: Mapping[str, Any]) -> Broken:
    for sink in plan.sinks:
        path = _sink_path(sink)
        altering = [t for t in (*plan.transforms, *sink.transforms) if Effect.ALTERS_CONTENT in t.component.effect]
        if altering and data["sinks"][path[1]].get("on_plan_change") is None:
            yield (
                path,
                f"sink `{sink.name}` gets conversations that transform `{altering[0].type}` alters: say what"
                " happens to stored ones when the transforms change, `on_plan_change: keep`, `new_version`"
                " or `rewrite`",
            )


def _sinks_promise_enough(plan: Plan, data: Mapping[str, Any]) -> Broken:
    for sink in plan.sinks:
        path = _sink_path(sink)
        promised = sink.step.component.guarantee
        if data["sinks"][path[1]].get("guarantee") == "effectively_once" and promised != "effectively once":
            yield (
                (*path, "guarantee"),
                f"sink `{sink.name}` does not promise `effectively_once` with these options, but: {promised}; change"
                " them, or take `guarantee: at_least_once`",
            )


def _sink_path(sink: SinkPath) -> tuple[str, int]:
    """Return the place of a sink in the data (its step's path is ``sinks[3]``)."""
    return "sinks", int(sink.step.path.removeprefix("sinks[").removesuffix("]"))
