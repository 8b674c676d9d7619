"""``muniment quarantine``: what could not be archived, and another try."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muniment.cli import screen
from muniment.cli.group import Subcommands
from muniment.cli.keys import keys_options
from muniment.cli.ledgers import is_pipeline_file, ledgers_of
from muniment.cli.options import ComponentName, json_option, run_options
from muniment.errors import InputError

if TYPE_CHECKING:
    from muniment.plan import Plan
    from muniment.plugins import Registry
    from muniment.run_report import RunReport

REASON_CELLS = 60

target_argument = click.argument("target", type=click.Path(), metavar="ARCHIVE|PIPELINE.YAML")


@click.group(cls=Subcommands, short_help="See and retry what could not be archived.")
def quarantine() -> None:
    """See and retry what could not be archived.

    An entry says where a record stands (file, byte range, SHA-256 of the bytes), at which stage it
    failed and why.  It never holds the text.  A pipeline file with `quarantine: {encryption: ...}` also
    keeps the text, encrypted.
    """


@quarantine.command("list", short_help="List the open entries.")
@target_argument
@json_option
def list_(target: str, as_json: bool) -> int:
    """List the open entries of an archive, or of every sink of a pipeline file.

    \b
    Example:
      muniment quarantine list archive.db
    """
    entries = _entries(target)
    if as_json:
        screen.out_json(entries)
    elif not entries:
        screen.out("nothing is quarantined")
    else:
        rows = [["id", "sink", "stage", "content", "where", "reason"]]
        rows += [
            [
                e["id"], e["sink"], e["stage"], "kept" if e["content"] else "-", _where(e),
                screen.shorten(str(e["reason"]), REASON_CELLS),
            ]
            for e in entries
        ]  # fmt: skip
        for text in screen.columns(rows, indent=""):
            screen.out(text)
    return 0


@quarantine.command(short_help="Show one entry whole.")
@target_argument
@click.argument("entry_id", metavar="ID")
@click.option("--content", is_flag=True, help="Print the content that was kept, and nothing else.")
@keys_options("key", "passphrase", "key-service", "opens the content, in place of those of the pipeline file")
@json_option
def show(
    target: str,
    entry_id: str,
    content: bool,
    key: tuple[Path, ...],
    passphrase: tuple[str, ...],
    key_service: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show one entry whole; the beginning of its ID is enough.

    \b
    Examples:
      muniment quarantine show archive.db 3f9a
      muniment quarantine show pipeline.yaml 3f9a --content
    """
    found = [e for e in _entries(target) if str(e["id"]).startswith(entry_id)]
    if len({e["id"] for e in found}) != 1:
        what = "several entries begin" if found else "no open entry begins"
        raise InputError(f"{what} with `{entry_id}`; `muniment quarantine list {target}` shows all")
    text = _content(target, str(found[0]["id"]), key, passphrase, key_service) if content else None
    if as_json:
        screen.out_json(found[0] if text is None else {**found[0], "text": text})
    elif text is not None:
        screen.out(screen.clean(text))
    else:
        shown = {**found[0], "owed": ", ".join(found[0]["owed"]), "content": "kept" if found[0]["content"] else "-"}
        for row in screen.columns([[name, str(value)] for name, value in shown.items()], indent=""):
            screen.out(row)
    return 0


@quarantine.command(short_help="Try quarantined records again.")
@target_argument
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[EXPORT...]")
@click.option("--source", type=ComponentName("sources"), metavar="TYPE", help="How to read EXPORT.")
@run_options
def retry(
    target: str,
    paths: tuple[str, ...],
    source: str | None,
    workers: int | None,
    allow_incomplete: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Try quarantined records again, for the sinks that lack them.

    Where a pipeline file keeps their content, nothing else is needed.  Otherwise the inputs that have
    quarantined records are read again: for an archive say which exports they came from; a pipeline file
    knows.  What is stored already counts as unchanged, and an entry that does not come again is resolved.

    \b
    Examples:
      muniment quarantine retry archive.db export.zip
      muniment quarantine retry pipeline.yaml
    """
    from muniment.cli.running import finish
    from muniment.plugins import load_registry

    registry = load_registry()
    plan = _plan(target, paths, source, workers, allow_incomplete, registry)
    silent = quiet or as_json
    if plan is not None and plan.keeping is not None:
        report, before, left = _retry_kept(plan, registry, target, silent=silent)
    elif before := len(_entries(target)):
        assert plan is not None
        report, left = _read_again(plan, registry, target, silent=silent), len(_entries(target))
    if not before:
        if as_json:
            screen.out_json({"quarantined": 0, "retried": 0})
        elif not quiet:
            screen.out("nothing is quarantined")
        return 0
    code = finish(report, as_json=as_json, quiet=quiet, more={"resolved": before - left, "left": left})
    if not silent:
        screen.out(f"resolved {before - left}, still quarantined {left}")
    return code if left == 0 or report.failed else 3


def _plan(
    target: str,
    paths: tuple[str, ...],
    source: str | None,
    workers: int | None,
    allow_incomplete: bool,
    registry: "Registry",
) -> "Plan | None":
    """Return the plan of another try; None where nothing is quarantined in an archive."""
    import attrs

    from muniment import config
    from muniment.cli.assemble import engine_for, import_plan, sink_for

    if is_pipeline_file(target):
        if paths:
            raise click.UsageError("a pipeline file knows its sources; leave EXPORT out")
        plan = config.load(Path(target), registry)
        if workers is not None:
            plan = attrs.evolve(plan, engine=engine_for(workers, ()))
        return attrs.evolve(plan, allow_incomplete=plan.allow_incomplete or allow_incomplete)
    entries = _entries(target)
    if not entries:
        return None
    if not paths:
        labels = ", ".join(f"`{label}`" for label in sorted({str(e["label"]) for e in entries}))
        raise click.UsageError(f"say which export to read again, the one with {labels}")
    sink = sink_for(registry, target)
    return import_plan(registry, paths, sink, source=source, workers=workers, allow_incomplete=allow_incomplete)


def _read_again(plan: "Plan", registry: "Registry", target: str, *, silent: bool) -> "RunReport":
    from muniment.cli.running import run_plan

    report = run_plan(plan, registry, silent=silent, retry_quarantined=True)
    if not report.bytes_read:
        raise InputError(
            f"nothing was read again: no entry of `{target}` comes from this content; a file that was repaired"
            " is a new one: import it"
        )
    return report


def _retry_kept(plan: "Plan", registry: "Registry", target: str, *, silent: bool) -> "tuple[RunReport, int, int]":
    """Try what was kept, then read the inputs again of what was not; return the report, and the open entries
    before and after."""
    from muniment.cli.running import retry_plan

    retried = retry_plan(plan, registry, silent=silent)
    before, left = (sum(map(len, ids.values())) for ids in (retried.before, retried.left))
    if not any(retried.without_content.values()):
        return retried.report, before, left
    try:
        again = _read_again(plan, registry, target, silent=silent)
    except InputError as error:
        if not retried.report.bytes_read:
            raise
        screen.note(
            f"note: of some entries no content was kept, and their input cannot be read: {screen.line(str(error))}"
        )
        return retried.report, before, left
    return again.behind(retried.report), before, len(_entries(target))


def _content(
    target: str, entry: str, key: tuple[Path, ...], passphrase: tuple[str, ...], key_service: tuple[str, ...]
) -> str:
    from muniment import config
    from muniment.cli.keys import keyring_of
    from muniment.components import Context
    from muniment.plugins import load_registry
    from muniment.quarantine import Keeper
    from muniment.quarantine_store import Custody, Store

    keeping = config.load(Path(target), load_registry()).keeping if is_pipeline_file(target) else None
    if keeping is None:
        raise InputError(f"`{target}` keeps no content; a pipeline file does with `quarantine: {{encryption: ...}}`")
    given = keyring_of(key, passphrase, key_service) if key or passphrase or key_service else None
    keeper = Keeper(given) if given is not None else Keeper.of(keeping, Context(run=""))
    with contextlib.closing(Custody(Store(keeping.path, keeping.pipeline), keeper)) as custody:
        content = custody.load(entry)
    if content is None:
        raise InputError(f"no content was kept of entry `{entry}`; its input still holds it")
    return content.data.decode("utf-8", "replace")


def _entries(target: str) -> list[dict[str, Any]]:
    """Return the open entries, each with the sinks that owe it and whether its content is kept."""
    from muniment.plugins import load_registry

    registry = load_registry()
    entries = [
        {**entry, "sink": ledger.sink} for ledger in ledgers_of(target, registry) for entry in ledger.quarantined
    ]
    kept = _kept(target, registry) if entries else set()
    owed: dict[str, list[str]] = {}
    for entry in entries:
        owed.setdefault(entry["id"], []).append(entry["sink"])
    return [{**e, "owed": owed[e["id"]], "content": e["id"] in kept} for e in entries]


def _kept(target: str, registry: "Registry") -> set[str]:
    if not is_pipeline_file(target):
        return set()
    from muniment import config
    from muniment.quarantine_store import Store

    keeping = config.load(Path(target), registry).keeping
    if keeping is None:
        return set()
    with contextlib.closing(Store(keeping.path, keeping.pipeline)) as store:
        return store.ids()


def _where(entry: dict[str, Any]) -> str:
    return f"{entry['label']} bytes {entry['start']}-{entry['end']}"
