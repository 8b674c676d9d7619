"""What did each unit store in a database?  Manifests with their receipts, in tables of its own.

A sink says in a `ManifestStore` where they stand; `Manifests` makes each one and chains it to the last.
``docs/formats/manifest.md`` describes what comes of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from attrs import define, field, frozen

from muniment import jcs
from muniment.components import Context
from muniment.errors import FatalError
from muniment.manifest import Log, Manifest, now, record_leaf
from muniment.merkle import Tree
from muniment.model import JSON
from muniment.proof import SigningKey
from muniment.units import Checkpoint, Counts, Unit

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError)
"""What `Manifest.from_json` raises of bytes that are no manifest any more."""


@frozen
class Stored:
    """That a record was stored, or that this state of it is held no longer (``gone``).

    ``identity`` is what the database finds the record by; ``key`` is ``<source>:<id>`` as its columns
    hold it; ``stored_hash`` is the SHA-256 of the stored bytes.
    """

    identity: Any
    key: str
    stored_hash: bytes
    gone: bool = False

    def leaf(self) -> bytes:
        return record_leaf(self.key, self.stored_hash.hex(), gone=self.gone)


@frozen
class Entry:
    """A manifest as a database holds it: its text, and the checkpoint of the log that it ends."""

    number: int
    run: str
    data: bytes
    note: bytes


class ManifestStore(ABC):
    """Where a database keeps manifests and receipts.  What is added joins the open transaction."""

    place: str
    """The database as messages name it."""

    @abstractmethod
    def last(self) -> bytes | None:
        """Return the manifest with the highest number."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield all manifests in the order of their numbers."""

    @abstractmethod
    def add(self, entry: Entry) -> None:
        """Add a manifest.

        Raises:
            TargetBusyError: there is one of this number: another run is writing.
        """

    @abstractmethod
    def add_receipts(self, number: int, first: int, receipts: Sequence[Stored]) -> None:
        """Add receipts of manifest ``number``, whose positions begin with ``first``."""


@define(eq=False)
class Manifests:
    """The manifests of an archive, appended one by one.  ``report`` is what the run's end says of its sources."""

    _store: ManifestStore
    _ctx: Context
    _signer: SigningKey | None = None
    report: Mapping[str, JSON] = field(factory=dict)

    def last(self) -> Manifest | None:
        """Return the last manifest.

        Raises:
            FatalError: it is damaged.
        """
        return self._last()[0]

    def append_unit(self, unit: Unit, receipts: Sequence[Stored]) -> None:
        """Write the manifest of a unit that has stored what ``receipts`` say."""
        self._append([receipts], run=unit.run, unit=unit)

    def append_report(self, run: str, exit_code: int, counts: Counts) -> None:
        """Write the manifest of a run's end, once, if the run has stored anything."""
        last = self.last()
        if last is not None and last.run == run and "exit_code" not in last.report:
            self._append([], run=run, report={**self.report, "exit_code": exit_code, "counts": attrs.asdict(counts)})

    def append_event(self, event: Mapping[str, JSON], receipts: Sequence[Stored]) -> None:
        """Write the manifest of what was done to the archive, which changed what ``receipts`` say."""
        self._append([receipts], run=self._ctx.run, event=event)

    def append_note(self, receipts: Iterable[Sequence[Stored]], said: Mapping[str, JSON], *, count: str) -> None:
        """Write the manifest of something that is neither a unit nor a run's end.

        ``said`` goes into its report, with the number of receipts under the name ``count``.
        """
        self._append(receipts, run=self._ctx.run, report=dict(said), count=count)

    def confirmed(self, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
        """Return the checkpoints that are what the manifests say: of another one the partition is read again."""
        said: dict[str, Checkpoint | None] = {}
        for entry in self._store.entries():
            try:
                manifest = Manifest.from_json(entry.data)
            except UNREADABLE:
                return {}
            if manifest.unit is not None:
                said[manifest.unit.checkpoint.partition] = manifest.unit.checkpoint
            elif "adopted" in manifest.report:
                # What came before the first manifest has none.
                said.update(dict.fromkeys(checkpoints))
        return {p: c for p, c in checkpoints.items() if p in said and said[p] in (None, c)}

    def _append(self, receipts: Iterable[Sequence[Stored]], *, count: str = "", **what: Any) -> None:
        _, log = self._last()
        tree = Tree()
        for some in receipts:
            self._store.add_receipts(log.number + 1, tree.size, some)
            for receipt in some:
                tree.append(receipt.leaf())
        if tree.size or "unit" in what:
            what["records"] = {"count": tree.size, "root": tree.root().hex()}
        if count:
            what["report"][count] = tree.size
        ctx = self._ctx
        unit: Unit | None = what.get("unit")
        manifest = Manifest(
            **what,
            **log.chained(),
            at=now(),
            plan_hash=unit.checkpoint.plan_hash if unit else ctx.plan_hash,
            pipeline=ctx.pipeline,
            sink=ctx.path,
            made_with=ctx.made_with,
            signer=str(self._signer.verifier) if self._signer else "",
        )
        data = manifest.to_json()
        log.append(data)
        self._store.add(Entry(manifest.number, manifest.run, data, log.note(self._signer)))

    def _last(self) -> tuple[Manifest | None, Log]:
        data = self._store.last()
        if data is None:
            return None, Log()
        try:
            manifest = Manifest.from_json(data)
            log = Log.behind(manifest, data)
        except UNREADABLE:
            log = None
        if log is None:
            raise FatalError(f"the last manifest in `{self._store.place}` is damaged; restore the archive from a copy")
        return manifest, log


def held_by(receipts: Iterable[Stored]) -> dict[Any, list[Stored]]:
    """Return what is held of each record, oldest first, of receipts in the order in which they were written."""
    held: dict[Any, list[Stored]] = {}
    for receipt in receipts:
        states = held.setdefault(receipt.identity, [])
        if not receipt.gone:
            states.append(receipt)
            continue
        for place in reversed(range(len(states))):
            if states[place].stored_hash == receipt.stored_hash:
                del states[place]
                break
    return held


def proof_files(entries: Iterable[Entry], receipts: Iterable[tuple[int, int, Stored]]) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests, their receipts and the last checkpoint as files for a hand-over."""
    note = b""
    for entry in entries:
        yield f"manifests/{entry.number:08}.json", entry.data
        note = entry.note
    if note:
        lines = (jcs.canonical([n, r.key, r.stored_hash.hex(), r.gone]) + b"\n" for n, _, r in receipts)
        yield "receipts.jsonl", b"".join(lines)
        yield "checkpoint", note
