"""``muniment run``, ``validate``, ``plan``, ``test``, ``schema``: what is declared in a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from muniment.cli import screen
from muniment.cli.options import json_option, pipeline_argument, quiet_option, run_options


@click.command(short_help="Run a pipeline file.")
@pipeline_argument
@run_options
def run(pipeline: str, workers: int | None, allow_incomplete: bool, quiet: bool, as_json: bool) -> int:
    """Run a pipeline file to its end.

    A run that was stopped or killed goes on where it was when the same command is given again.
    With --workers the file's engine is replaced: 1 is this process alone.

    \b
    Examples:
      muniment run pipeline.yaml
      muniment run pipeline.yaml --json > report.json
    """
    from muniment import config
    from muniment.cli.assemble import engine_for
    from muniment.cli.running import finish, run_plan
    from muniment.plugins import load_registry

    registry = load_registry()
    plan = config.load(Path(pipeline), registry)
    if workers is not None:
        plan = attrs.evolve(plan, engine=engine_for(workers, ()))
    if allow_incomplete:
        plan = attrs.evolve(plan, allow_incomplete=True)
    report = run_plan(plan, registry, silent=quiet or as_json)
    code = finish(report, as_json=as_json, quiet=quiet)
    if report.quarantined and not (quiet or as_json):
        from muniment.cli.import_ import quoted

        screen.out(f"see what was quarantined: muniment quarantine list {quoted(pipeline)}")
    return code


@click.command(short_help="Check a pipeline file; all mistakes at once.")
@pipeline_argument
@quiet_option
@json_option
def validate(pipeline: str, as_json: bool, quiet: bool) -> int:
    """Check a pipeline file and run nothing.

    Every mistake is shown at once, with its place and the closest valid name.  A secret that cannot be
    had on this machine is told, but is no mistake of the file.

    \b
    Example:
      muniment validate pipeline.yaml
    """
    from muniment import config
    from muniment.errors import ConfigError
    from muniment.plugins import load_registry
    from muniment.secrets import secrets_of

    try:
        plan = config.load(Path(pipeline), load_registry())
    except ConfigError as error:
        if not as_json:
            raise
        screen.out_json({"valid": False, "problems": [attrs.asdict(p) for p in error.problems], "notes": []})
        return error.exit_code
    notes = [f"{s.option}: {said}" for s in secrets_of(plan) if (said := s.problem())]
    if as_json:
        screen.out_json({"valid": True, "problems": [], "notes": notes})
    elif not quiet:
        for text in notes:
            screen.note(f"note: {screen.line(text)}")
        parts = [
            f"{len(steps)} {noun if len(steps) == 1 else f'{noun}s'}"
            for steps, noun in ((plan.sources, "source"), (plan.transforms, "transform"), (plan.sinks, "sink"))
            if steps
        ]
        screen.out(f"{screen.line(pipeline)}: valid, {', '.join(parts)}")
    return 0


@click.command(short_help="Show what a pipeline would do, and what it guarantees.")
@pipeline_argument
@json_option
def plan(pipeline: str, as_json: bool) -> int:
    """Show what a pipeline would do, and run nothing.

    For every sink it says how units are committed, and whether a record can arrive twice.

    \b
    Example:
      muniment plan pipeline.yaml
    """
    from muniment import config
    from muniment.plugins import load_registry

    registry = load_registry()
    described = config.describe_plan(config.load(Path(pipeline), registry), registry)
    if as_json:
        screen.out_json(described)
    else:
        for text in _outline(described):
            screen.out(text)
    return 0


@click.command(short_help="Run the tests that a pipeline file holds.")
@pipeline_argument
@quiet_option
@json_option
def test(pipeline: str, as_json: bool, quiet: bool) -> int:
    """Run the tests under `tests:` in a pipeline file.

    Each sends one conversation through the transforms and looks at what a sink would get; nothing
    is stored.  The exit code is 1 if one fails.

    \b
    Example:
      muniment test pipeline.yaml
    """
    from muniment import config
    from muniment.plan_tests import run_tests
    from muniment.plugins import load_registry

    results = run_tests(config.load(Path(pipeline), load_registry()))
    failed = [r for r in results if not r.passed]
    if as_json:
        screen.out_json([attrs.asdict(r) for r in results])
    elif not results:
        screen.note(f"{screen.line(pipeline)} holds no tests; add some under `tests:`")
    else:
        for result in failed if quiet else results:
            mark = click.style("ok", fg="green") if result.passed else click.style("FAILED", fg="red", bold=True)
            detail = "" if result.passed else f": {screen.clean(result.detail)}"
            screen.out(f"{mark}  {screen.line(result.test)} ({screen.line(result.sink)}){detail}")
        if not quiet:
            screen.out(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


@click.command(short_help="Print the JSON Schema of pipeline files, for editors.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write to this file instead.")
def schema(out: str | None) -> None:
    """Print the JSON Schema of pipeline files, with all installed components.

    An editor that knows it completes options and marks mistakes while you type.

    \b
    Example:
      muniment schema --out muniment.schema.json
      # then, as the first line of pipeline.yaml:
      # yaml-language-server: $schema=muniment.schema.json
    """
    import json

    from muniment.plugins import load_registry
    from muniment.private_files import write_private_file
    from muniment.schema import pipeline_schema

    made = pipeline_schema(load_registry())
    if out is None:
        screen.out_json(made)
    else:
        write_private_file(Path(out), f"{json.dumps(made, indent=2, ensure_ascii=False)}\n".encode())


def _outline(plan: dict[str, Any]) -> Iterator[str]:
    """Yield what `describe_plan` says, as people read it."""
    from muniment.cli.report import size

    yield f"{click.style(screen.line(plan['name']), bold=True)}: {_engine(plan['engine'])}"
    if plan["allow_incomplete"]:
        yield "  missing files do not change the exit code"
    for source in plan["sources"]:
        kind = ", endless" if source["endless"] else ""
        yield f"source {_named(source)}: reads again {_REPLAY[source['replay']]}{kind}"
    for sink in plan["sinks"]:
        name = "" if sink["name"] == sink["type"] else f" `{screen.line(sink['name'])}`"
        encrypted = ", encrypted" if sink["encrypted"] else ""
        yield f"sink {_named(sink)}{name}: {sink['guarantee']}, {sink['protocol']}{encrypted}"
        for transform in sink["transforms"]:
            effects = ", ".join(e.replace("_", " ") for e in transform["effects"]) or "changes nothing"
            yield f"  transform {_named(transform)}: {effects}"
        unit = sink["unit"]
        yield (
            f"  commits every {unit['max_records']:,} conversations, {size(unit['max_bytes'])}"
            f" or {unit['max_seconds']:g} s, whatever comes first"
        )
        if sink["on_failure"] == "continue":
            yield "  when it fails, the other sinks continue"
        yield f"  when only the plan changed: {sink['on_plan_change']} (plan {sink['plan_hash'][:12]})"
    yield f"state: {screen.line(plan['state_dir'])}"
    if plan["quarantine"]:
        yield f"quarantine: content is kept, encrypted, in {screen.line(plan['quarantine'])}"
    if plan["tests"]:
        yield f"tests: {screen.line(', '.join(plan['tests']))}"


_REPLAY = {"exact": "exactly", "overlap": "with overlap", "none": "never: what is not stored is gone"}


def _named(step: dict[str, Any]) -> str:
    plugin = step["plugin"]
    owner = "" if plugin["distribution"] == "muniment" else f" of {plugin['distribution']} {plugin['version']}"
    return f"{click.style(screen.line(step['type']), bold=True)} ({screen.line(step['path'])}){screen.line(owner)}"


def _engine(engine: dict[str, Any]) -> str:
    workers = engine["workers"]
    return f"engine {engine['type']}, {workers} {'process' if workers == 1 else 'processes'}"
