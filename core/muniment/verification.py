"""Is a target what its manifests say, and are they what was signed?  What is common to all targets.

A target's `Sink.verify` calls `check_log` for the chain, the log and its head, and then reads what the
manifests name.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from attrs import define, field, frozen

from muniment import jcs
from muniment.errors import FatalError
from muniment.manifest import Log, Manifest
from muniment.proof import SignedHead, TreeHead, VerifierKey

if TYPE_CHECKING:
    from muniment.crypto import Keyring

T = TypeVar("T")
Kind = Literal["missing", "changed", "extra", "swapped", "rolled back", "unreadable", "unsigned"]


@frozen
class Finding:
    """Something that is not as it should be: ``where`` names an object, a record, a manifest.

    ``is_problem`` is False for what is worth knowing and proves nothing wrong.
    """

    kind: Kind
    where: str
    reason: str
    is_problem: bool = True


@frozen
class Sample:
    """How much is read: a number of things, or a share of them between 0 and 100."""

    count: int = 0
    percent: float = 0.0

    def choose(self, things: Sequence[T], chance: random.Random) -> list[T]:
        """Return some of ``things``, at least one where there are any."""
        count = self.count or max(1, round(len(things) * self.percent / 100))
        return chance.sample(things, min(count, len(things)))


@define(eq=False)
class Inspection:
    """What is asked of a verification, and what it came to.

    ``seen`` is called after each thing that was read.  ``since`` is a head that is remembered from
    earlier, ``public_key`` the one that must have signed.  ``undecoded`` counts what was compared with
    its digest only, because it is encrypted or of a format that cannot be read.
    """

    sample: Sample | None = None
    keyring: "Keyring | None" = None
    public_key: VerifierKey | None = None
    since: TreeHead | None = None
    seen: Callable[[], object] = lambda: None
    chance: random.Random = field(factory=random.SystemRandom)
    manifests: int = 0
    objects: int = 0
    records: int = 0
    skipped: int = 0
    undecoded: int = 0
    head: TreeHead | None = None
    note: bytes = b""
    signer: VerifierKey | None = None
    is_signed: bool = False

    def choose(self, things: Sequence[T]) -> list[T]:
        """Return what of ``things`` is to be read."""
        if self.sample is None:
            return list(things)
        chosen = self.sample.choose(things, self.chance)
        self.skipped += len(things) - len(chosen)
        return chosen


@frozen
class Entries:
    """The manifests of a target: their numbers in order, how to read and to name one, and the head beside them."""

    numbers: Sequence[int]
    read: Callable[[int], bytes]
    name: Callable[[int], str]
    head_name: str
    note: bytes


def check_log(entries: Entries, inspection: Inspection) -> Iterator[Finding]:
    """Yield what is wrong with the chain of manifests, the log over them, its head and its signature."""
    return _LogCheck(entries, inspection).findings()


@define(eq=False)
class Purges:
    """What purges say that they took away, held against what the manifests say was there.

    Of all manifests call `hear`, then of all of them, in order, `object` or `receipt`.
    """

    keys: dict[str, int] = field(factory=dict)
    """The keys that were purged, with the number of the last manifest that says so."""
    shredded: set[tuple[str, str]] = field(factory=set)
    """The keys whose object stays, and the object: what opened them is destroyed."""
    _open: dict[tuple[str, str, str, str], int] = field(factory=dict)
    _removed: dict[str, int] = field(factory=dict)
    _held: dict[str, Counter[tuple[str, str]]] = field(factory=dict)
    _left: dict[int, Counter[tuple[str, str]]] = field(factory=dict)
    _owed: dict[int, Counter[tuple[str, str]]] = field(factory=dict)

    def hear(self, manifest: Manifest) -> None:
        if manifest.event.get("kind") != "purge":
            return
        left = self._left[manifest.number] = Counter()
        tombstones: Any = manifest.event.get("tombstones", ())
        for t in tombstones:
            self.keys[t["key"]] = manifest.number
            self._open[t["key"], t["hash"], t.get("object", ""), t.get("sha256", "")] = manifest.number
            left[t["key"], t["hash"]] += 1
            if t.get("shredded") and t.get("object"):
                self.shredded.add((t["key"], t["object"]))
        for made in manifest.objects:
            left.update((row[0], row[1]) for row in made["records"])
        self._removed.update(dict.fromkeys(manifest.removed, manifest.number))

    def receipt(self, number: int, key: str, record_hash: str, *, gone: bool, is_record: bool = True) -> None:
        """Hear that a manifest of a database says of a record, or a file, that it was stored, or is held no longer."""
        if not gone:
            self._stored(number, key, record_hash)
        elif number in self._left and is_record:
            self._owed.setdefault(number, Counter())[key, record_hash] += 1

    def object(self, number: int, made: dict[str, Any]) -> None:
        """Hear what a manifest says of an object."""
        name = made["name"]
        for row in made["records"] if self.keys else ():
            for named in (name, ""):
                self._stored(number, row[0], row[1], named, made["sha256"])
        if self._removed.get(name, 0) > number:
            self._held[name] = Counter((row[0], row[1]) for row in made["records"])

    def _stored(self, number: int, key: str, record_hash: str, name: str = "", sha256: str = "") -> None:
        if self._open.get((key, record_hash, name, sha256), 0) > number:
            del self._open[key, record_hash, name, sha256]

    def findings(self, name_of: Callable[[int], str]) -> Iterator[Finding]:
        for (key, *_), number in self._open.items():
            yield Finding("changed", name_of(number), f"it says that it purged `{key}`, as it never was in here")
        for name, held in self._held.items():
            self._owed.setdefault(self._removed[name], Counter()).update(held)
        for number, records in self._owed.items():
            for key, _ in records - self._left[number]:
                yield Finding("missing", name_of(number), f"it took `{key}` away without a tombstone")


class _LogCheck:
    def __init__(self, entries: Entries, inspection: Inspection) -> None:
        self._entries = entries
        self._inspection = inspection
        self._log: Log | None = Log()
        self._heads: dict[int, TreeHead] = {}
        self._signer = ""
        self._has_log = False

    def findings(self) -> Iterator[Finding]:
        signed, wrong = self._signed_head()
        wanted = {h.size for h in (self._inspection.since, signed.head if signed else None) if h}
        expected = 1
        for number in self._entries.numbers:
            if number != expected:
                yield self._gap(expected, number)
                self._log = None
            expected = number + 1
            yield from self._manifest(number)
            if self._log is not None and number in wanted:
                self._heads[number] = self._log.head()
        self._inspection.manifests = len(self._entries.numbers)
        if self._log is not None and self._log.number:
            self._inspection.head = self._log.head()
        if wrong:
            yield wrong
        elif signed is None and self._has_log:
            yield Finding("missing", self._entries.head_name, "the checkpoint is missing")
        elif signed is not None:
            yield from self._check_head(signed)
        elif self._inspection.public_key:
            yield Finding("unsigned", self._entries.head_name, "there is no checkpoint that anyone could have signed")
        if self._inspection.since is not None:
            yield from self._check_since(self._inspection.since)

    # --- the manifests ----------------------------------------------------------------------

    def _manifest(self, number: int) -> Iterator[Finding]:
        name = self._entries.name(number)
        log, self._log = self._log, None
        try:
            data = self._entries.read(number)
            manifest = Manifest.from_json(data)
            is_canonical = manifest.version == 1 or jcs.canonical(json.loads(data)) == data
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, msgspec.ValidationError) as error:
            yield Finding("changed", name, f"it is no manifest any more ({type(error).__name__})")
            return
        except (OSError, FatalError) as error:
            yield Finding("unreadable", name, str(error))
            return
        if not is_canonical:
            yield Finding("changed", name, "it is not as it was written: the JSON is not canonical")
            return
        if manifest.number != number:
            yield Finding("swapped", name, f"it is manifest {manifest.number}")
            return
        self._has_log = self._has_log or manifest.version > 1
        self._signer = manifest.signer
        if log is None:
            # Behind a gap the manifest itself says what came before; the head tells whether that is true.
            self._log = self._behind(manifest, data)
            return
        if not _fits(manifest, log):
            before = self._entries.name(number - 1) if number > 1 else name
            yield Finding(
                "changed", before, f"manifest {number} names another state before it: one of the two was changed"
            )
            self._log = self._behind(manifest, data)
            return
        log.append(data)
        self._log = log

    def _behind(self, manifest: Manifest, data: bytes) -> Log | None:
        try:
            return Log.behind(manifest, data)
        except ValueError:
            return None

    def _gap(self, first: int, behind: int) -> Finding:
        last = behind - 1
        more = f" to `{self._entries.name(last)}`" if last > first else ""
        return Finding("missing", self._entries.name(first), f"the manifest{more} is missing")

    # --- the head ---------------------------------------------------------------------------

    def _signed_head(self) -> tuple[SignedHead | None, Finding | None]:
        if not self._entries.note:
            return None, None
        try:
            return SignedHead.parse(self._entries.note), None
        except ValueError as error:
            return None, Finding("changed", self._entries.head_name, f"the checkpoint cannot be read: {error}")

    def _check_head(self, signed: SignedHead) -> Iterator[Finding]:
        head, name, count = signed.head, self._entries.head_name, self._last()
        self._inspection.note = self._entries.note
        if head.size > count:
            yield Finding("rolled back", name, f"it covers {head.size} manifests, of which {count} are there")
        else:
            yield from self._differs(head, name)
        if head.size < count:
            newer = f"{count - head.size} manifests are newer than the checkpoint"
            if self._inspection.public_key:
                yield Finding("unsigned", name, f"{newer}, so nobody has signed them")
            else:
                yield Finding("unsigned", name, f"{newer}: a run is writing, or was killed", is_problem=False)
        yield from self._check_signature(signed)

    def _check_signature(self, signed: SignedHead) -> Iterator[Finding]:
        name, key = self._entries.head_name, self._inspection.public_key
        if key is None and self._signer:
            try:
                key = VerifierKey.parse(self._signer)
            except ValueError:
                yield Finding("changed", name, "the manifests name a signer that is no public key")
                return
        if key is None:
            if signed.signatures:
                yield Finding("changed", name, "it is signed, but the manifests name no signer")
            return
        self._inspection.signer = key
        self._inspection.is_signed = signed.is_signed_by(key)
        if not self._inspection.is_signed:
            yield Finding("unsigned", name, f"it has no valid signature of `{key.name}+{key.id.hex()}`")
        elif len(signed.signatures) > 1 or not self._signer:
            yield from self._others(signed, key)

    def _others(self, signed: SignedHead, key: VerifierKey) -> Iterator[Finding]:
        others = [s.name for s in signed.signatures if (s.name, s.key_id) != (key.name, key.id)]
        if others:
            yield Finding(
                "unsigned", self._entries.head_name, f"signatures of {others} were not checked", is_problem=False
            )

    def _check_since(self, since: TreeHead) -> Iterator[Finding]:
        count = self._last()
        if since.size > count:
            yield Finding(
                "rolled back",
                "archive",
                f"it had {since.size} manifests when the checkpoint was kept, and has {count} now",
            )
        else:
            yield from self._differs(since, "archive")

    def _differs(self, head: TreeHead, where: str) -> Iterator[Finding]:
        found = self._heads.get(head.size)
        now = self._inspection.head
        if now is not None and head.origin != now.origin:
            yield Finding("swapped", where, f"the checkpoint is of another archive (`{head.origin}`)")
        elif found is not None and found.root != head.root:
            yield Finding("changed", where, f"the first {head.size} manifests are not those that the checkpoint covers")

    def _last(self) -> int:
        return self._entries.numbers[-1] if self._entries.numbers else 0


def _fits(manifest: Manifest, log: Log) -> bool:
    if manifest.previous != log.digest:
        return False
    if manifest.version == 1:
        return True
    return manifest.log == log.id and manifest.tree == tuple(p.hex() for p in log.tree.peaks)
