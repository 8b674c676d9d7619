"""``muniment hold``: what must not be purged, whatever its age."""

import contextlib
from typing import TYPE_CHECKING, Any

import click

from muniment.cli import screen
from muniment.cli.custody import (
    actor_option,
    actor_or_me,
    opened,
    reason_option,
    sink_option,
    sinks_of,
    target_argument,
)
from muniment.cli.group import Subcommands
from muniment.cli.options import json_option
from muniment.errors import InputError

if TYPE_CHECKING:
    from muniment.custody import Custody

keys_option = click.option(
    "--conversation", "keys", multiple=True, metavar="KEY", help="A record, as `<source>:<id>`; can be repeated."
)


@click.group(cls=Subcommands, short_help="Say what must not be purged, and see it.")
def hold() -> None:
    """Say what must not be purged, whatever its age and whoever asks.

    Holds are written into the archive's own chain of manifests: they move with it, they are signed with
    it, and `muniment verify` finds out if somebody takes one away.

    \b
    Example:
      muniment hold add archive.db --all --reason "audit 2026"
    """


@hold.command(short_help="Hold records.")
@target_argument
@sink_option
@keys_option
@click.option("--all", "everything", is_flag=True, help="Every record, those to come included.")
@click.option("--ahead", is_flag=True, help="Hold records also if they are not there yet.")
@reason_option
@actor_option
def add(
    target: str, sink_name: str | None, keys: tuple[str, ...], everything: bool, ahead: bool, reason: str,
    actor: str | None,
) -> int:  # fmt: skip
    """Hold records: nothing purges them until they are released.

    \b
    Examples:
      muniment hold add archive.db --conversation chatgpt:68a1 --reason "case 2026-17"
      muniment hold add pipeline.yaml --all --reason "audit 2026"
    """
    _check(keys, everything)
    with contextlib.ExitStack() as stack:
        # All are opened and asked before anything is written to one.
        custodies = [(p.name, stack.enter_context(opened(p, ctx))) for p, ctx in sinks_of(target, sink_name)]
        for _, custody in custodies:
            custody.check()
            custody.check_signer()
            if not ahead:
                _check_there(custody, keys)
        for name, custody in custodies:
            custody.note(_event("hold", custody, keys, everything, reason, actor))
            screen.out(f"{screen.line(name)}: {_what(keys, everything)} held")
    return 0


@hold.command(short_help="End holds.")
@target_argument
@sink_option
@keys_option
@click.option("--all", "everything", is_flag=True, help="End the hold of every record; those of single ones stay.")
@reason_option
@actor_option
def release(
    target: str, sink_name: str | None, keys: tuple[str, ...], everything: bool, reason: str, actor: str | None
) -> int:
    """End holds; that they were there stays written down.

    \b
    Example:
      muniment hold release archive.db --conversation chatgpt:68a1 --reason "case 2026-17 closed"
    """
    from muniment.retention import Holds

    _check(keys, everything)
    with contextlib.ExitStack() as stack:
        custodies = [(p.name, stack.enter_context(opened(p, ctx))) for p, ctx in sinks_of(target, sink_name)]
        for name, custody in custodies:
            custody.check()
            custody.check_signer()
            holds = Holds.of(custody.manifests())
            for key in keys:
                if custody.noted(key) not in holds.keys:
                    raise InputError(f"`{key}` is not held in `{name}`; `muniment hold list {target}` shows what is")
            if everything and holds.everything is None:
                raise InputError(f"there is no hold of all records in `{name}`")
        for name, custody in custodies:
            custody.note(_event("release", custody, keys, everything, reason, actor))
            screen.out(f"{screen.line(name)}: {_what(keys, everything)} released")
    return 0


@hold.command("list", short_help="List what is held.")
@target_argument
@sink_option
@json_option
def list_(target: str, sink_name: str | None, as_json: bool) -> int:
    """List what is held, why, by whom and since when.

    In an encrypted archive records are called by pseudonyms.
    """
    from muniment.retention import ALL, Holds

    found: list[dict[str, Any]] = []
    for path, ctx in sinks_of(target, sink_name):
        with opened(path, ctx) as custody:
            custody.check()
            holds = Holds.of(custody.manifests())
        said = [*([(ALL, holds.everything)] if holds.everything else []), *sorted(holds.keys.items())]
        found += [{"sink": path.name, "key": key, "reason": h.reason, "actor": h.actor, "at": h.at} for key, h in said]
    if as_json:
        screen.out_json(found)
    elif not found:
        screen.out("nothing is held")
    else:
        names = ("sink", "key", "at", "actor", "reason")
        for text in screen.columns([names, *([screen.line(f[n]) for n in names] for f in found)], indent=""):
            screen.out(text)
    return 0


def _check(keys: tuple[str, ...], everything: bool) -> None:
    if bool(keys) == everything:
        raise click.UsageError("name records with --conversation, or all of them with --all")


def _check_there(custody: "Custody", keys: tuple[str, ...]) -> None:
    wanted = {custody.noted(key): key for key in keys}
    if wanted:
        for holding in custody.holdings():
            wanted.pop(holding.key, None)
    for key in wanted.values():
        raise InputError(f"there is no record `{key}`; to hold what is not there yet, add --ahead")


def _event(
    kind: str, custody: "Custody", keys: tuple[str, ...], everything: bool, reason: str, actor: str | None
) -> dict[str, Any]:
    from muniment.manifest import now

    what: dict[str, Any] = {"all": True} if everything else {"keys": sorted(map(custody.noted, keys))}
    return {"kind": kind, "actor": actor_or_me(actor), "at": now(), "reason": reason, **what}


def _what(keys: tuple[str, ...], everything: bool) -> str:
    return "all records are" if everything else "1 record is" if len(keys) == 1 else f"{len(keys)} records are"
