"""Does the ledger in an archive say what its manifests say?  Checkpoints, quarantine, ends of runs."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
from attrs import frozen

from muniment.manifest import Manifest
from muniment.state import quarantine_id
from muniment.units import Checkpoint, Counts
from muniment.verification import Finding


@frozen(eq=False)
class LedgerCheck:
    """A ledger, to be compared with the manifests that can be read."""

    connection: sqlite3.Connection
    manifests: Iterable[Manifest]

    def findings(self) -> Iterator[Finding]:
        """Compare checkpoints, quarantine and ends of runs with what the manifests say of them."""
        checkpoints: dict[str, tuple[Any, ...]] = {}
        entries: dict[str, tuple[Any, ...]] = {}
        ends: dict[str, tuple[Any, ...]] = {}
        writing: set[str] = set()
        has_all = False
        for manifest in self.manifests:
            has_all = has_all or (manifest.number == 1 and "adopted" not in manifest.report)
            if manifest.unit is not None:
                writing.add(manifest.run)
                checkpoints[manifest.unit.checkpoint.partition] = _checkpoint(manifest.unit.checkpoint)
                entries.update((quarantine_id(r), (r.stage, r.reason)) for r in manifest.unit.quarantined)
            elif "exit_code" in manifest.report:
                ends[manifest.run] = (manifest.report["exit_code"], *attrs.astuple(Counts(**manifest.report["counts"])))
        yield from self._same("checkpoint", checkpoints, self._checkpoints(), has_all=has_all)
        found = {r[0]: r[1:] for r in self._all("SELECT id, stage, reason FROM quarantine")}
        yield from self._same("quarantine entry", entries, found, has_all=has_all)
        select = "SELECT run, exit_code, read, stored, unchanged, dropped, quarantined FROM runs"
        runs = {r[0]: r[1:] for r in self._all(select)}
        yield from self._same("run", ends, runs, has_all=False)
        for run in sorted(writing - ends.keys()):
            if run in runs and runs[run][0] is not None:
                yield Finding("missing", f"run `{run}`", "it has ended, and the manifest that says so is gone")

    def _checkpoints(self) -> dict[str, tuple[Any, ...]]:
        select = "SELECT partition, fingerprint, position, sequence, finished, records, plan_hash, run FROM checkpoints"
        return {r[0]: (r[1], _parsed(r[2]), *r[3:]) for r in self._all(select)}

    def _same(self, what: str, said: dict[str, Any], found: dict[str, Any], *, has_all: bool) -> Iterator[Finding]:
        for name, value in said.items():
            if name not in found:
                yield Finding("missing", f"{what} `{name}`", "a manifest names it, and it is gone")
            elif tuple(value) != tuple(found[name]):
                yield Finding("changed", f"{what} `{name}`", "it is not what the manifests say")
        for name in found.keys() - said.keys() if has_all else ():
            yield Finding("extra", f"{what} `{name}`", "no manifest names it")

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement).fetchall()


def _checkpoint(c: Checkpoint) -> tuple[Any, ...]:
    return c.fingerprint, c.position, c.sequence, int(c.finished), c.records, c.plan_hash, c.run


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text
