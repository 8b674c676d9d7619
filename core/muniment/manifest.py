"""What exactly was stored, and can it be proved?

Every commit leaves a manifest, every run that stored something leaves one at its end, and so does
what is done to the archive itself: a hold, a purge.  They are numbered, each names the one before, and
together they are the leaves of a Merkle log (`Log`) whose head is signed where there is a key.
`docs/formats/manifest.md` specifies all of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import attrs
import msgspec
from attrs import Factory, define, field, frozen

from muniment import jcs
from muniment.merkle import Tree, leaf_hash
from muniment.model import JSON, Rejected
from muniment.proof import ORIGIN_PREFIX, SigningKey, TreeHead, sign_head
from muniment.state import StoredRecord
from muniment.units import Checkpoint, Counts, Unit

VERSION = 3
_BEFORE_EVENTS = 2
_READABLE = (1, _BEFORE_EVENTS, VERSION)
_LITERAL = "json-text:"
_ABSENT: tuple[Any, ...] = (None, "", (), {})


@frozen(kw_only=True)
class Manifest:
    """What one commit stored, how a run ended, or what was done to the archive.

    Of a commit it has the ``unit``, of a run's end the ``report``, else the ``event``: its ``kind``,
    ``actor``, ``at``, ``reason``, and what `_Event` says.  What has none is of version 2, which a reader
    that knows no events takes.

    A target of objects says ``objects``: ``{name, size, sha256, records}``; a record's row is ``[key,
    source_hash, updated_at, message digests (hex, 8 digits each), supersedes]``, where ``supersedes``
    says that earlier versions of it no longer count.  An object that was written anew from another one
    has ``of``: which manifest first said these records, with its plan, run and format (`made_by`); of a
    name that comes again the last one counts.  ``assets`` are names of the files that these
    records need (their digests are in the names), ``removed`` are names, ``missing_assets`` digests.

    A database says ``records``: ``{count, root}``, the Merkle root over what it stored.

    ``previous`` is the SHA-256 of the manifest before, empty for the first; ``log`` names the chain,
    ``tree`` are the peaks of the log before this manifest, in hex.  ``signer`` is the public key that
    signs the log.  ``at`` is when it was written, by the clock of the machine.
    """

    number: int
    unit: Unit | None = None
    report: Mapping[str, JSON] = field(factory=dict)
    run: str = ""
    at: str = ""
    plan_hash: str = ""
    pipeline: str = ""
    sink: str = ""
    made_with: Mapping[str, JSON] = field(factory=dict)
    mode: str = ""
    format: str = ""
    format_options: Mapping[str, JSON] = field(factory=dict)
    objects: tuple[dict[str, Any], ...] = ()
    assets: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    missing_assets: tuple[str, ...] = ()
    records: Mapping[str, JSON] = field(factory=dict)
    previous: str = ""
    log: str = ""
    tree: tuple[str, ...] = ()
    signer: str = ""
    event: Mapping[str, JSON] = field(factory=dict)
    version: int = field(default=Factory(lambda self: VERSION if self.event else _BEFORE_EVENTS, takes_self=True))

    def to_json(self) -> bytes:
        """Return canonical JSON (RFC 8785).  Fields without a value are left out."""
        value: dict[str, Any] = {
            a.name: v for a in attrs.fields(Manifest) if (v := getattr(self, a.name)) not in _ABSENT
        }
        if self.unit is not None:
            value["unit"] = {**attrs.asdict(self.unit), "quarantined": msgspec.to_builtins(self.unit.quarantined)}
        for name in ("report", "made_with", "format_options", "records", "event"):
            if name in value:
                value[name] = dict(value[name])
        try:
            data = jcs.canonical(value)
        except UnicodeEncodeError:
            return jcs.canonical(_map_text(value, _escaped))
        return jcs.canonical(_map_text(value, _escaped)) if _LITERAL.encode() in data else data

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Return what `to_json` wrote, today or in an earlier version.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        value = parse(data)
        if value["version"] not in _READABLE:
            raise ValueError("it was written by a newer version")
        msgspec.convert(value, _Shape)
        if unit := value.pop("unit", None):
            quarantined = msgspec.convert(unit.pop("quarantined"), tuple[Rejected, ...])
            checkpoint, counts = Checkpoint(**unit.pop("checkpoint")), Counts(**unit.pop("counts"))
            value["unit"] = Unit(checkpoint=checkpoint, counts=counts, quarantined=quarantined, **unit)
            value.setdefault("run", value["unit"].run)
        for name in ("objects", "assets", "removed", "missing_assets", "tree"):
            value[name] = tuple(value.get(name, ()))
        return cls(**value)

    def made_by(self, made: Mapping[str, Any]) -> "MadeBy":
        """Return what one of the ``objects`` was first made by: this manifest, unless it has an ``of``."""
        if of := made.get("of"):
            return MadeBy(of["number"], of["run"], of["plan_hash"], of["format"], of.get("format_options", {}))
        return MadeBy(self.number, self.run, self.plan_hash, self.format, self.format_options)

    def stored(self) -> Iterator[StoredRecord]:
        """Yield what a commit to a target of objects stored, for the state.

        What was only written anew is known already, perhaps in a newer version.
        """
        for made in self.objects:
            if "of" in made:
                continue
            for key, source_hash, updated_at, digits, _ in made["records"]:
                messages = frozenset(digits[i : i + 8] for i in range(0, len(digits), 8))
                yield StoredRecord(key, source_hash, self.plan_hash, updated_at, made["name"], messages, self.run)


@frozen
class MadeBy:
    """The manifest that first said some records, and how their object was made."""

    number: int
    run: str
    plan_hash: str
    format: str
    format_options: Mapping[str, JSON] = field(factory=dict)

    def of(self) -> dict[str, Any]:
        """Return what stands as ``of`` in the manifest of an object that was written anew."""
        value = {a.name: getattr(self, a.name) for a in attrs.fields(MadeBy)}
        return {**value, "format_options": dict(self.format_options)}


class _MadeBy(msgspec.Struct):
    number: int
    run: str
    plan_hash: str
    format: str
    format_options: dict[str, Any] = {}


class _Object(msgspec.Struct):
    name: str
    size: int
    sha256: str
    records: list[tuple[str, str, str | None, str, bool]]
    of: _MadeBy | None = None


class _Tombstone(msgspec.Struct):
    """What a purge took away.

    ``hash`` is the record's hash as the chain has it, ``object`` and ``sha256`` are what held it where the
    target is one of objects; ``shredded`` is the id of a key that was destroyed.
    """

    key: str
    hash: str
    object: str = ""
    sha256: str = ""
    shredded: str = ""


class _Event(msgspec.Struct):
    """What an event holds beside details of its kind.

    ``keys`` are what is held or released, ``all`` stands for every record; ``tombstones`` are of a purge.
    """

    kind: Literal["hold", "release", "purge", "rewrap"]
    actor: str
    at: str
    reason: str = ""
    keys: list[str] = []
    all: bool = False
    tombstones: list[_Tombstone] = []


class _Shape(msgspec.Struct):
    """What each field holds: whoever reads a manifest can rely on it."""

    number: int
    unit: dict[str, Any] | None = None
    report: dict[str, Any] = {}
    run: str = ""
    at: str = ""
    plan_hash: str = ""
    pipeline: str = ""
    sink: str = ""
    made_with: dict[str, Any] = {}
    mode: str = ""
    format: str = ""
    format_options: dict[str, Any] = {}
    objects: list[_Object] = []
    assets: list[str] = []
    removed: list[str] = []
    missing_assets: list[str] = []
    records: dict[str, Any] = {}
    previous: str = ""
    log: str = ""
    tree: list[str] = []
    signer: str = ""
    event: _Event | None = None


@define
class Log:
    """Where the manifests of a target end.

    ``digest`` is the SHA-256 of the last one, ``id`` the name of the log: 32 hex digits of the first
    one's, so that no two archives share it.
    """

    tree: Tree = field(factory=Tree)
    digest: str = ""
    id: str = ""

    @property
    def number(self) -> int:
        """The number of the last manifest; 0 before the first."""
        return self.tree.size

    @classmethod
    def behind(cls, manifest: Manifest, data: bytes) -> "Log | None":
        """Return the log that ends with ``manifest``; None if its version does not say enough."""
        if manifest.version == 1 and manifest.number > 1:
            return None
        log = cls(Tree(manifest.number - 1, [bytes.fromhex(p) for p in manifest.tree]), manifest.previous, manifest.log)
        log.append(data)
        return log

    def append(self, data: bytes) -> None:
        """Add a manifest's bytes."""
        self.tree.append(leaf_hash(data))
        self.digest = hashlib.sha256(data).hexdigest()
        self.id = self.id or self.digest[:32]

    def chained(self) -> dict[str, Any]:
        """Return the fields by which the next manifest is chained to this log."""
        return {
            "number": self.number + 1,
            "previous": self.digest,
            "log": self.id,
            "tree": tuple(p.hex() for p in self.tree.peaks),
        }

    def head(self) -> TreeHead:
        return TreeHead(ORIGIN_PREFIX + self.id, self.number, self.tree.root())

    def note(self, signer: SigningKey | None) -> bytes:
        """Return the signed text of the head; without a signer the text alone."""
        return sign_head(self.head(), [signer] if signer else [])


def parse(data: bytes) -> Any:
    """Return a manifest's JSON, with the texts that canonical JSON cannot hold.

    Raises:
        ValueError: it is no JSON.
    """
    value = json.loads(data)
    return _map_text(value, _unescaped) if _LITERAL.encode() in data else value


def record_leaf(key: str, stored_hash: str, *, gone: bool = False) -> bytes:
    """Return the leaf of a database's record: what a unit stored, or what it took away, under a key.

    ``stored_hash`` is the SHA-256 of the stored bytes in hex.
    """
    return leaf_hash(jcs.canonical([key, stored_hash, "gone"] if gone else [key, stored_hash]))


def now() -> str:
    """Return the time as manifests hold it: UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _map_text(value: Any, change: Any) -> Any:
    """Return JSON with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(k): _map_text(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_map_text(v, change) for v in value]
    return value


def _escaped(text: str) -> str:
    """Return a text that canonical JSON takes: one with a lone surrogate becomes its own JSON text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _LITERAL + json.dumps(text)
    return _LITERAL + json.dumps(text) if text.startswith(_LITERAL) else text


def _unescaped(text: str) -> str:
    return str(json.loads(text.removeprefix(_LITERAL))) if text.startswith(_LITERAL) else text
