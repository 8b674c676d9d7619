"""Is a database what its manifests say?  What is common to all of them: records in pages, nothing written.

A sink says in an `Archived` how its tables are read; `verify` compares what they hold with the receipts,
the receipts with the manifests, and the ledger with both.
"""

import contextlib
import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
from attrs import define, field, frozen

from muniment.manifest import Log, Manifest
from muniment.merkle import Tree
from muniment.model import Origin, Record
from muniment.proof import SignedHead, VerifierKey
from muniment.record_blob import DamagedBlobError, record_from_blob
from muniment.sinks.database_manifests import UNREADABLE, Entry, Stored, held_by
from muniment.state import quarantine_id
from muniment.units import Checkpoint, Counts
from muniment.verification import Entries, Finding, Inspection, check_log

_PAGE = 1000
_LOADED_TOGETHER = 32


@frozen
class Content:
    """A record as it stands in a database; ``blob`` is None where pieces of it are gone."""

    identity: Any
    blob: bytes | None
    shown: Mapping[str, Any] = field(factory=dict)


class Archived(ABC):
    """A database as it is read to be verified.

    Identities are what records are found by; they have an order.
    """

    versions_are_a_set: ClassVar[bool] = False
    """True where a state that came twice is kept once."""

    @abstractmethod
    def has_manifests(self) -> bool:
        """Say whether there is a place for manifests."""

    @abstractmethod
    def is_older(self) -> bool:
        """Say whether the archive was made before there were manifests."""

    @abstractmethod
    def numbers(self) -> list[int]:
        """Return the numbers of the manifests, in order."""

    @abstractmethod
    def entry(self, number: int) -> Entry:
        """Return a manifest."""

    @abstractmethod
    def receipts(self) -> Iterator[tuple[int, int, Stored]]:
        """Yield (manifest, position, receipt) in the order of both."""

    @abstractmethod
    def receipts_between(self, after: Any, until: Any) -> Iterable[Stored]:
        """Yield the receipts of identities above ``after`` up to ``until`` (None: to the end), as they were written."""

    @abstractmethod
    def identities(self, after: Any, limit: int) -> list[Any]:
        """Return the next identities of stored records above ``after`` (None: from the first), in order."""

    @abstractmethod
    def contents(self, identities: Sequence[Any]) -> Iterator[Content]:
        """Yield the records with these identities."""

    @abstractmethod
    def versions(self, identities: Sequence[Any]) -> Iterator[tuple[Any, bytes]]:
        """Yield (identity, bytes) of earlier states, of each record the oldest first."""

    @abstractmethod
    def name(self, identity: Any) -> str:
        """Return what a person calls a record of which nothing is known but its identity."""

    @abstractmethod
    def identity_of(self, record: Record) -> Any:
        """Return the identity that a record's key gives it; None where it is only a number."""

    @abstractmethod
    def differences(self, contents: Sequence[tuple[Content, Record]]) -> Iterator[tuple[Any, str]]:
        """Yield (identity, reason) where what stands beside a record is not what it says."""

    @abstractmethod
    def owner_of(self, stored_hash: bytes) -> str:
        """Return the key of a record that was stored with this hash; empty if there is none."""

    @abstractmethod
    def key_of(self, record: Record) -> str:
        """Return a record's key as receipts hold it."""

    @abstractmethod
    def assets(self) -> Iterator[str]:
        """Yield the digest of every file that is held."""

    @abstractmethod
    def asset_digest(self, digest: str) -> str:
        """Return the SHA-256 of a file's stored bytes; empty if pieces are gone or doubled."""

    @abstractmethod
    def shown_assets(self) -> set[str]:
        """Return the digests that tables for people name, also of records that cannot be read."""

    @abstractmethod
    def leftovers(self) -> Iterator[Finding]:
        """Yield what belongs to no record."""

    @abstractmethod
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Return the checkpoints by partition."""

    @abstractmethod
    def quarantined(self) -> Mapping[str, tuple[str, str]]:
        """Return (stage, reason) of every quarantine entry, by its id."""

    @abstractmethod
    def runs(self) -> Mapping[str, tuple[int | None, ...]]:
        """Return (exit code, read, stored, unchanged, dropped, quarantined) of every run."""

    def as_stored(self, text: str) -> str:
        """Return a text as columns hold it."""
        return text


def verify(archived: Archived, inspection: Inspection) -> Iterator[Finding]:
    """Yield what is wrong with a database."""
    return _Check(archived, inspection).findings()


@define(eq=False)
class _Check:
    archived: Archived
    inspection: Inspection
    named: set[str] = field(factory=set)
    chosen: set[Any] | None = None
    is_proven: bool = True
    numbers: list[int] = field(factory=list)

    def findings(self) -> Iterator[Finding]:
        self.is_proven = self.archived.has_manifests()
        if not self.is_proven:
            said = "without manifests its content could be compared with itself only; the next run adds them"
            asked = self.inspection.since or self.inspection.public_key or not self.archived.is_older()
            yield Finding("missing", "manifests", said, is_problem=bool(asked))
        else:
            self.numbers = self.archived.numbers()
            yield from check_log(self._entries(), self.inspection)
            yield from self._notes()
            yield from self._receipts()
            yield from self._ledger()
        yield from self._records()
        yield from self._assets()
        yield from self.archived.leftovers()

    # --- the chain --------------------------------------------------------------------------

    def _entries(self) -> Entries:
        note = self.archived.entry(self.numbers[-1]).note if self.numbers else b""
        return Entries(self.numbers, lambda n: self.archived.entry(n).data, "manifest {}".format, "checkpoint", note)

    def _manifests(self) -> Iterator[Manifest]:
        """Yield those that can be read; `check_log` has named the others."""
        for number in self.numbers:
            with contextlib.suppress(*UNREADABLE):
                yield Manifest.from_json(self.archived.entry(number).data)

    def _notes(self) -> Iterator[Finding]:
        """Compare the checkpoint of every manifest but the last, which `check_log` has seen, with the log."""
        log = Log()
        for number in self.numbers:
            entry = self.archived.entry(number)
            log.append(entry.data)
            try:
                manifest, signed = Manifest.from_json(entry.data), SignedHead.parse(entry.note)
                keys = [VerifierKey.parse(manifest.signer)] if manifest.signer else []
            except UNREADABLE:
                yield Finding("changed", f"manifest {number}", "it or its checkpoint cannot be read")
                return
            if log.number != number or signed.head != log.head() or entry.run != manifest.run:
                yield Finding("changed", f"manifest {number}", "its checkpoint is not that of the manifests up to it")
                return
            if len(signed.signatures) != len(keys) or not all(map(signed.is_signed_by, keys)):
                yield Finding("unsigned", f"manifest {number}", "its checkpoint has not the signature that it says")

    def _receipts(self) -> Iterator[Finding]:
        """Compare the receipts of each manifest with the root that it has of them."""
        found: dict[int, tuple[int, str]] = {}
        tree, number = Tree(), 0
        for manifest, position, receipt in self.archived.receipts():
            if manifest != number:
                found[number] = tree.size, tree.root().hex()
                tree, number = Tree(), manifest
            if position != tree.size:
                # One that was taken away leaves its place empty.
                tree.append(b"\0" * 32)
            tree.append(receipt.leaf())
        found[number] = tree.size, tree.root().hex()
        found.pop(0, None)
        nothing = 0, Tree().root().hex()
        for said in self._manifests():
            records = said.records or dict(zip(("count", "root"), nothing, strict=True))
            if found.pop(said.number, nothing) != (records.get("count"), records.get("root")):
                yield Finding("changed", f"manifest {said.number}", "the receipts of its records were changed")
        for extra in sorted(found.keys() - set(self.numbers)):
            yield Finding("extra", f"manifest {extra}", "there are receipts of records, but no such manifest")

    def _ledger(self) -> Iterator[Finding]:
        """Compare checkpoints, quarantine and ends of runs with what the manifests say of them."""
        text = self.archived.as_stored
        checkpoints: dict[str, Any] = {}
        entries: dict[str, Any] = {}
        ends: dict[str, Any] = {}
        writing: set[str] = set()
        has_all = False
        for manifest in self._manifests():
            has_all = has_all or (manifest.number == 1 and "adopted" not in manifest.report)
            if manifest.unit is not None:
                c = manifest.unit.checkpoint
                writing.add(manifest.run)
                checkpoints[text(c.partition)] = attrs.evolve(
                    c, partition=text(c.partition), fingerprint=text(c.fingerprint)
                )
                entries.update((quarantine_id(r), (r.stage, text(r.reason))) for r in manifest.unit.quarantined)
            elif "exit_code" in manifest.report:
                ends[manifest.run] = (manifest.report["exit_code"], *attrs.astuple(Counts(**manifest.report["counts"])))
        yield from _same("checkpoint", checkpoints, self.archived.checkpoints(), has_all=has_all)
        yield from _same("quarantine entry", entries, self.archived.quarantined(), has_all=has_all)
        runs = self.archived.runs()
        yield from _same("run", ends, runs, has_all=False)
        for run in sorted(writing - ends.keys()):
            if run in runs and runs[run][0] is not None:
                yield Finding("missing", f"run `{run}`", "it has ended, and the manifest that says so is gone")

    # --- records ----------------------------------------------------------------------------

    def _records(self) -> Iterator[Finding]:
        if self.inspection.sample is not None:
            self.chosen = set(self.inspection.choose(list(self._all_identities())))
        after: Any = None
        while True:
            page = self.archived.identities(after, _PAGE)
            until = page[-1] if len(page) == _PAGE else None
            held = held_by(self.archived.receipts_between(after, until)) if self.is_proven else {}
            present = set(page)
            for identity, states in held.items():
                if identity not in present and states:
                    yield Finding("missing", f"record `{states[-1].key}`", "it was stored, and is gone")
            wanted = [i for i in page if self.chosen is None or i in self.chosen]
            for start in range(0, len(wanted), _LOADED_TOGETHER):
                yield from self._some(wanted[start : start + _LOADED_TOGETHER], held)
            if until is None:
                return
            after = until

    def _all_identities(self) -> Iterator[Any]:
        after = None
        while page := self.archived.identities(after, _PAGE):
            yield from page
            after = page[-1]

    def _some(self, identities: Sequence[Any], held: Mapping[Any, list[Stored]]) -> Iterator[Finding]:
        good: list[tuple[Content, Record]] = []
        keys: dict[Any, str] = {}
        for content in self.archived.contents(identities):
            self.inspection.objects += 1
            self.inspection.seen()
            states = held.get(content.identity, [])
            where = f"record `{states[-1].key if states else self.archived.name(content.identity)}`"
            keys[content.identity] = where
            if content.blob is None:
                yield Finding("missing", where, "its row is here, its content is gone")
                continue
            if self.is_proven and (problem := self._stored(where, content.blob, states)):
                yield problem
                continue
            try:
                record = record_from_blob(content.blob, Origin("", ""))
            except DamagedBlobError:
                yield Finding("unreadable", where, "its content cannot be decoded")
                continue
            self.inspection.records += 1
            self.named.update(a.sha256 for a in record.conversation.assets if a.sha256)
            if self.archived.identity_of(record) not in (None, content.identity):
                yield Finding("swapped", where, "it has the content of another record")
            elif states and states[-1].key != self.archived.key_of(record):
                yield Finding("changed", where, "its receipt has another key")
            good.append((content, record))
        for identity, reason in self.archived.differences(good):
            yield Finding("changed", keys[identity], reason)
        if self.is_proven:
            yield from self._versions(identities, held)

    def _stored(self, where: str, blob: bytes, states: Sequence[Stored]) -> Finding | None:
        if not states:
            return Finding("extra", where, "no manifest says that it was stored")
        digest = hashlib.sha256(blob).digest()
        if states[-1].stored_hash == digest:
            return None
        if any(s.stored_hash == digest for s in states):
            return Finding("rolled back", where, "it is an earlier version of itself")
        other = self.archived.owner_of(digest)
        if other and other != states[-1].key:
            return Finding("swapped", where, f"it has the content of `{other}`")
        return Finding("changed", where, "its content is not what was stored")

    def _versions(self, identities: Sequence[Any], held: Mapping[Any, list[Stored]]) -> Iterator[Finding]:
        """Compare the earlier states of records with the receipts that came before their last."""
        found: dict[Any, list[bytes]] = {}
        for identity, blob in self.archived.versions(identities):
            found.setdefault(identity, []).append(hashlib.sha256(blob).digest())
            with contextlib.suppress(DamagedBlobError):
                assets = record_from_blob(blob, Origin("", "")).conversation.assets
                self.named.update(a.sha256 for a in assets if a.sha256)
        for identity in identities:
            states = held.get(identity, [])
            expected, actual = [s.stored_hash for s in states[:-1]], found.get(identity, [])
            if expected == actual or (self.archived.versions_are_a_set and set(expected) == set(actual)):
                continue
            where = f"an earlier version of `{states[-1].key if states else self.archived.name(identity)}`"
            lacking, extra = Counter(expected) - Counter(actual), Counter(actual) - Counter(expected)
            if extra:
                yield Finding("changed", where, "it is not what was stored")
            elif lacking:
                yield Finding("missing", where, "it was stored, and is gone")
            else:
                yield Finding("swapped", where, "it stands in the place of another one")

    # --- files ------------------------------------------------------------------------------

    def _assets(self) -> Iterator[Finding]:
        found = set(self.archived.assets())
        for digest in self.inspection.choose(sorted(found)):
            self.inspection.objects += 1
            self.inspection.seen()
            if self.archived.asset_digest(digest) != digest:
                yield Finding("changed", f"file {digest}", "its bytes are not what was stored")
        for digest in sorted(self.named - found):
            yield Finding("missing", f"file {digest}", "a record names it, and it is gone")
        if self.inspection.sample is None:
            # What only a changed record names is told with that record; its row still does.
            for digest in sorted(found - self.named - self.archived.shown_assets()):
                yield Finding("extra", f"file {digest}", "no record names it")


def _same(what: str, said: Mapping[str, Any], found: Mapping[str, Any], *, has_all: bool) -> Iterator[Finding]:
    for name, value in said.items():
        if name not in found:
            yield Finding("missing", f"{what} `{name}`", "a manifest names it, and it is gone")
        elif value != found[name]:
            yield Finding("changed", f"{what} `{name}`", "it is not what the manifests say")
    for name in found.keys() - said.keys() if has_all else ():
        yield Finding("extra", f"{what} `{name}`", "no manifest names it")


def parsed(text: Any) -> Any:
    """Return the JSON in a text; one that holds none comes back as it is."""
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text
