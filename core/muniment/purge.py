"""How is a purge planned, looked at by people, and then run, on the archive that it was planned for?

Between the two the archive may have changed: whatever no longer is what the plan says stops the run.
"""

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

import attrs
import msgspec
from attrs import field, frozen

from muniment.custody import Custody
from muniment.errors import ConfigError, FatalError, InputError
from muniment.proof import TreeHead
from muniment.retention import Holding, Holds, Policy, Verdict, clock_problem, decide, moment, purged_keys

VERSION = 1
MOST_NAMED = 5


@frozen
class Held:
    """A record that would be purged if nothing held it, with the hold."""

    key: str
    reason: str
    actor: str
    at: str


@frozen
class PurgePlan:
    """What is to be purged of one archive.

    ``target`` and ``sink`` are how it was named; ``log``, ``size`` and ``root`` (hex) are the head of its log.
    Without a ``policy`` the records were named one by one.  ``kept`` counts what is too young.
    """

    target: str
    sink: str
    log: str
    size: int
    root: str
    made_at: str
    reason: str
    policy: Policy | None
    records: tuple[Holding, ...]
    held: tuple[Held, ...] = ()
    kept: int = 0
    version: int = VERSION

    def to_json(self) -> bytes:
        value = attrs.asdict(self)
        value["records"] = [{**attrs.asdict(r), "hashes": sorted(r.hashes)} for r in self.records]
        return (json.dumps(value, indent=2, ensure_ascii=True) + "\n").encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> "PurgePlan":
        """Return what `to_json` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            value = msgspec.json.decode(data)
            if value["version"] != VERSION:
                raise InputError("it was written by another version of muniment; make the plan again")
            return msgspec.convert(value, cls)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("it is no plan of a purge; `muniment purge plan` makes one") from error


@frozen
class PurgeReport:
    """How a purge ended: how many ``purged``, how many ``before`` by an earlier run of the same plan.

    Of ``shredded`` records the key was destroyed; ``locked_assets`` files stay because a lock keeps them.
    """

    purged: int = 0
    before: int = 0
    assets: int = 0
    kept_assets: bool = False
    shredded: int = 0
    locked_assets: int = 0
    tombstones: tuple[dict[str, Any], ...] = field(default=())


def make_plan(
    custody: Custody,
    *,
    target: str,
    sink: str,
    policy: Policy | None,
    keys: Collection[str],
    reason: str,
    now: datetime,
    clock_reason: str = "",
) -> PurgePlan:
    """Return what ``policy`` lets go, or the records with these ``keys``.

    Raises:
        InputError: a record is not there.
        ConfigError: nothing can be purged here.
        FatalError: the chain is not sound, or the clock jumped.
    """
    if reason_not := custody.refusal():
        raise ConfigError(reason_not)
    head = custody.check()
    custody.check_signer()
    assert head is not None
    _check_clock(custody, now, clock_reason)
    holds = Holds.of(custody.manifests())
    wanted = {custody.noted(key): key for key in keys}
    found: list[Holding] = []
    held: list[Held] = []
    kept = 0
    for holding in custody.holdings():
        if policy is None and wanted.pop(holding.key, None) is None:
            continue
        verdict = decide(holding, policy, holds, now)
        if verdict is Verdict.PURGE:
            found.append(holding)
        elif verdict is Verdict.KEEP:
            kept += 1
        elif decide(holding, policy, Holds(), now) is Verdict.PURGE:
            hold = holds.find(holding.key)
            assert hold is not None
            held.append(Held(holding.key, hold.reason, hold.actor, hold.at))
        else:
            kept += 1
    if wanted:
        raise InputError(f"there is no record {_some(wanted.values())}; was it purged before?")
    return PurgePlan(
        target=target, sink=sink, log=head.origin, size=head.size, root=head.root.hex(),
        made_at=now.isoformat(timespec="microseconds"), reason=reason, policy=policy, records=tuple(found),
        held=tuple(held), kept=kept,
    )  # fmt: skip


def run_plan(plan: PurgePlan, custody: Custody, *, actor: str, now: datetime, clock_reason: str = "") -> PurgeReport:
    """Purge what ``plan`` says; run again after it was killed, do the rest.

    Raises:
        ConfigError: nothing can be purged here.
        FatalError: the archive is another one, or an older copy; a record is held, or changed; the clock jumped.
            Nothing was purged then.
    """
    if reason_not := custody.refusal():
        raise ConfigError(reason_not)
    head = custody.check()
    if head is None or head.origin != plan.log:
        raise FatalError("the plan was made for another archive than the one that stands there now")
    custody.check(TreeHead(plan.log, plan.size, bytes.fromhex(plan.root)))
    custody.check_signer()
    _check_clock(custody, now, clock_reason, moment(plan.made_at))
    wanted = {r.key: r for r in plan.records}
    holds = Holds.of(custody.manifests())
    if held := [key for key in wanted if holds.find(key)]:
        raise FatalError(f"a hold has come since the plan was made: {_some(held)}; make the plan again")
    found = {h.key: h for h in custody.holdings() if h.key in wanted}
    done = wanted.keys() - found.keys()
    if lost := done - set(purged_keys(custody.manifests())):
        raise FatalError(f"records of the plan are not there: {_some(lost)}; make the plan again")
    if changed := [key for key, holding in found.items() if holding.hashes != wanted[key].hashes]:
        raise FatalError(f"records have changed since the plan was made: {_some(changed)}; make the plan again")
    if not found:
        custody.finish()
        return PurgeReport(before=len(done))
    event: dict[str, Any] = {
        "kind": "purge", "actor": actor, "at": now.isoformat(timespec="microseconds"), "reason": plan.reason,
    }  # fmt: skip
    if plan.policy is not None:
        event["policy"] = attrs.asdict(plan.policy)
    if clock_reason:
        event["clock"] = clock_reason
    purged = custody.purge(found.keys(), event)
    return PurgeReport(
        len(found), len(done), purged.assets, purged.kept_assets, purged.shredded, purged.locked_assets,
        tuple(dict(t) for t in purged.tombstones),
    )  # fmt: skip


def _check_clock(custody: Custody, now: datetime, reason: str, planned: datetime | None = None) -> None:
    last_seen = max(filter(None, [custody.last_seen(), planned]), default=None)
    problem = clock_problem(now, last_seen)
    if problem and not reason:
        raise FatalError(
            f"{problem}: who cannot tell the time must not purge; set the clock right, or say with --clock-is-right"
            " REASON why it is"
        )


def _some(keys: Collection[str]) -> str:
    shown = ", ".join(f"`{key}`" for key in sorted(keys)[:MOST_NAMED])
    return f"{shown} and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else shown
