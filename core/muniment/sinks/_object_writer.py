"""How are a unit's records staged: in parts, or as one object per conversation?"""

import contextlib
import hashlib
import io
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from muniment import names
from muniment.canonical import to_json
from muniment.components import Context, Writer
from muniment.crypto.frames import FRAMES_TYPE, new_key
from muniment.errors import DamagedError, WrongKeyError
from muniment.merge import merge_records
from muniment.model import Origin, Record, Rejected
from muniment.objects import MEGABYTES, ObjectStream, compressed, compressing, document
from muniment.sinks import _object_manifest as manifests
from muniment.sinks._object_assets import AssetCopies
from muniment.sinks._object_fate import Fate, decide, joined
from muniment.sinks._object_manifest import part_id, row
from muniment.sinks._object_parts import PartLimits, Parts, PieceParts
from muniment.sinks._object_payload import EARLIER, Entry, Payload
from muniment.sinks._object_retry import retried_here
from muniment.sinks._object_sealing import keys_of_record, sealed_object, write_keys
from muniment.sinks._object_tables import TableParts
from muniment.sinks._object_vault import open_cover
from muniment.sinks.cover import Cover, Encrypted, read_opened
from muniment.state import State, StoredRecord
from muniment.storage import Staged
from muniment.tables import TableFormat
from muniment.units import Prepared, Receipt, Unit

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

_COMPRESSORS_MB = 64


class ObjectWriter(Writer):
    """What both modes share: what is known, the assets, the order of a seal.

    It knows what is committed and what its open unit holds, so a unit is committed before the next
    one is written.
    """

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        self.ctx = ctx
        self.layout = sink.layout
        self.form = sink.make_format()
        self.suffix = self.form.suffix + self.layout.ending
        self.storage = sink.storage()
        self._state: State | None = None
        self._unit: dict[str, StoredRecord] = {}
        self._number = ctx.first_unit
        try:
            self.cover = open_cover(sink, ctx, self.storage)
            path = sink.state_path(ctx)
            self._state = State.open(path, read_only=True) if path.exists() else None
        except BaseException:
            self.storage.close()
            raise
        self._assets = AssetCopies(self.storage, self.layout.assets, ctx.open_asset, self.cover)

    def write(self, payload: Payload) -> Receipt:
        given = payload.entries
        payload = attrs.evolve(payload, entries=self.cover.entries(given)) if self.cover.hides else payload
        known = self._state.find([e.key for e in payload.entries]) if self._state else {}
        known.update((e.key, self._unit[e.key]) for e in payload.entries if e.key in self._unit)
        # The assets come first: when they fail for the moment, a second attempt at the payload finds
        # none of its records stored.  Everything behind them is tried again here.
        refused = self._copy_assets(payload, known)
        stored = unchanged = 0
        rejected: list[Rejected] = []
        for entry in payload.entries:
            before = self._unit.get(entry.key) or known.get(entry.key)
            fate = self._fate(entry, before)
            if fate is Fate.KEEP:
                unchanged += 1
            elif id(entry) in refused:
                rejected.append(Rejected(entry.origin, "write", refused[id(entry)], given[entry.index].key))
            elif retried_here(partial(self._store, entry, before, fate)):
                stored += 1
            else:
                unchanged += 1
        return Receipt(stored, unchanged, tuple(rejected))

    def seal(self, unit: Unit) -> Prepared:
        ended = self._end()
        retried_here(self.storage.sync)
        objects = [{**made, "token": staged.token} if staged else made for staged, made in ended]
        unit = self.cover.unit(unit)
        if self._assets:
            retried_here(self._assets.publish)
            retried_here(self.storage.sync)
        if copies := self._assets.take_copies():
            objects.append({"copies": list(copies)})
        if named := self._assets.take_named():
            objects.append({"assets": list(named)})
        if missing := self._assets.take_missing():
            objects.append({"missing_assets": list(missing)})
        self._unit.clear()
        self._number = unit.number + 1
        return Prepared(unit, tuple(objects))

    def close(self) -> None:
        try:
            self._discard()
            self._assets.discard()
        finally:
            if self._state:
                self._state.close()
            self.storage.close()

    @abstractmethod
    def _store(self, entry: Entry, before: StoredRecord | None, fate: Fate) -> bool:
        """Stage an entry; False if it turns out to be stored already.  Failing for the moment, it has no effect."""

    @abstractmethod
    def _end(self) -> list[tuple[ObjectStream | Staged | None, dict[str, Any]]]:
        """Close what is staged and return it with the objects of a `Prepared`, which lack their tokens."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what is staged and was not sealed."""

    def _fate(self, entry: Entry, before: StoredRecord | None) -> Fate:
        return decide(entry, before, self.ctx.plan_hash, self.ctx.on_plan_change)

    def _copy_assets(self, payload: Payload, known: dict[str, StoredRecord]) -> dict[int, str]:
        refused = {}
        for entry in payload.entries:
            if entry.assets and self._fate(entry, known.get(entry.key)) is not Fate.KEEP:
                problem = self._assets.add(entry.assets)
                if problem:
                    refused[id(entry)] = problem
        return refused


class AppendWriter(ObjectWriter):
    """A unit is immutable parts, one per key; a conversation that changed is appended again."""

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        super().__init__(sink, ctx)
        self._taken: dict[str, list[tuple[Entry, list[Any]]]] = {}
        # Of many parts at once none gets a thread.
        wrappers = [
            compressing(self.layout.compression, threaded=not self.layout.key),
            *self.cover.wrappers(self.form.media_type),
        ]
        given = self._name, sink.part or PartLimits(), self._max_open(), self.cover
        if isinstance(self.form, TableFormat):
            self._parts: Parts = TableParts(self.storage, self.form, wrappers, *given)
        elif sink.seals_records:
            inside = self.cover.wrappers(FRAMES_TYPE)
            self._parts = PieceParts(self.storage, self.form, inside, *given, sealing=self.layout.compression)
        else:
            self._parts = PieceParts(self.storage, self.form, wrappers, *given)

    def write(self, payload: Payload) -> Receipt:
        receipt = super().write(payload)
        taken, self._taken = self._taken, {}
        if taken:
            self._parts.add(payload, taken)
        return receipt

    def _store(self, entry: Entry, before: StoredRecord | None, fate: Fate) -> bool:
        record = joined(entry, before, fate, self.ctx.plan_hash, "", self.ctx.run)
        self._unit[entry.key] = record
        self._taken.setdefault(entry.name, []).append((entry, row(record, supersedes=fate is Fate.OTHER_PLAN)))
        return True

    def _end(self) -> list[tuple[ObjectStream | Staged | None, dict[str, Any]]]:
        return [(ended.stream, ended.made) for ended in self._parts.end()]

    def _discard(self) -> None:
        self._parts.discard()

    def _name(self, key: str, part: int, table: str) -> str:
        name = part_id(self.ctx.run, self._number, part)
        return key.replace("{part}", name).replace("{table}", table) if key else f"{name}{self.suffix}"

    def _max_open(self) -> int:
        tables = len(self.form.table_names) if isinstance(self.form, TableFormat) else 1
        memory = MEGABYTES[self.layout.compression]
        return max(1, min(self.storage.capabilities.max_open // tables, _COMPRESSORS_MB // memory if memory else 64))


@frozen
class _Object:
    """A staged object of a mirror; ``data`` is what it holds, kept where the storage cannot open it yet."""

    staged: Staged
    made: dict[str, Any]
    data: bytes


class MirrorWriter(ObjectWriter):
    """One object per conversation.  Its name stays as it was first given, whatever the title becomes.

    A newer version is merged into what stands there, where the format can be read; where it cannot,
    and something would be lost, the object it replaces is kept as ``<name>.earlier-<8 hex digits>``.
    """

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        super().__init__(sink, ctx)
        self._objects: dict[str, _Object] = {}
        self._removed: dict[str, None] = {}
        self._earlier: dict[str, list[str]] | None = None
        self._digests: dict[str, str] | None = None
        self._seals = sink.seals_records

    def _store(self, entry: Entry, before: StoredRecord | None, fate: Fate) -> bool:
        piece, name = entry.piece, entry.name
        if before is not None:
            name = names.stem(before.location) + self.suffix
            if fate in (Fate.NEWER, Fate.MIXED) and self.form.reads_back:
                merged = self._merge(entry, before)
                if merged is None:
                    return False
                piece = merged
            elif fate in (Fate.MIXED, Fate.OTHER_PLAN_LACKING) or (
                fate is Fate.OTHER_PLAN and self.ctx.on_plan_change == "new_version"
            ):
                self._keep_earlier(before)
            elif fate is Fate.OTHER_PLAN:
                self._removed.update(dict.fromkeys(self._earlier_of(name)))
            if name != before.location:
                self._removed[before.location] = None
        record = joined(entry, before, fate, self.ctx.plan_hash, name, self.ctx.run)
        if self._seals:
            data = sealed_object(piece, entry.key, self._key_of(entry.key, is_known=before is not None), self.cover)
        else:
            data = self.cover.sealed(piece, self.form.media_type, entry.true_name)
        digest = entry.sha256 if data is entry.piece else hashlib.sha256(data).hexdigest()
        self._stage(name, data, digest, [row(record, supersedes=fate is Fate.OTHER_PLAN)])
        self._unit[entry.key] = record
        return True

    def _end(self) -> list[tuple[ObjectStream | Staged | None, dict[str, Any]]]:
        ended: list[tuple[ObjectStream | Staged | None, dict[str, Any]]] = [
            (o.staged, o.made) for o in self._objects.values()
        ]
        if self._digests is not None:
            self._digests.update((name, o.made["sha256"]) for name, o in self._objects.items())
        removed = [name for name in self._removed if name not in self._objects]
        self._objects, self._removed = {}, {}
        if isinstance(self.cover, Encrypted) and self.cover.keys:
            self.cover.keys.noted.clear()
        return [*ended, (None, {"removed": removed})] if removed else ended

    def _discard(self) -> None:
        while self._objects:
            self._objects.popitem()[1].staged.discard()

    def _stage(self, name: str, data: bytes, sha256: str, rows: list[list[Any]], *, if_absent: bool = False) -> None:
        staged = self.storage.stage(name)
        try:
            staged.write(data)
            staged.close()
        except BaseException:
            staged.discard()
            raise
        replaced = self._objects.get(name)
        made = {"name": name, "size": len(data), "sha256": sha256, "records": rows, "if_absent": if_absent}
        self._objects[name] = _Object(staged, made, b"" if self.storage.capabilities.reads_staged else data)
        if replaced is not None:
            replaced.staged.discard()

    def _key_of(self, key: str, *, is_known: bool) -> bytes:
        """Return the key of a record for all of its versions; a new one is staged before the first of them."""
        assert isinstance(self.cover, Encrypted) and self.cover.keys
        keys, name = self.cover.keys, keys_of_record(key)
        found = keys.noted.get(name)
        if found is None and is_known:
            # Where it is lost, so is all that it opened.
            with contextlib.suppress(DamagedError):
                found = keys.read(name)
        if not found or key not in found:
            found = {key: new_key()}
            stream, made = write_keys(self.storage.stage(name), name, found, self.cover)
            self._objects[name] = _Object(stream.staged, {**made, "if_absent": False}, b"")
        keys.noted[name] = found
        return found[key]

    # --- versions ---------------------------------------------------------------------------

    def _merge(self, entry: Entry, before: StoredRecord) -> bytes | None:
        """Return the union of what is stored and ``entry``; None if that is what is stored, and named."""
        stored = self._read(before.location)
        if stored is None:
            return entry.piece
        new = _decode_one(self.form, entry.piece, entry.origin, self.suffix, Cover())
        try:
            old = _decode_one(self.form, stored, entry.origin, before.location, self.cover)
            merged = merge_records(old, new)
        except WrongKeyError:
            raise
        except Exception:  # noqa: BLE001 - whatever a format makes of damaged bytes; they are kept
            self._keep_earlier(before)
            return entry.piece
        if (merged is old or _same(merged, old)) and self._is_named(before.location, stored):
            return None
        piece = self.form.encode(merged, self.layout.links)
        return compressed(document(self.form, piece), self.layout.compression)

    def _is_named(self, location: str, data: bytes) -> bool:
        """Say whether a manifest says of an object what it is: a commit that was cut off has replaced it unnamed."""
        if location in self._objects:
            return True
        if self._digests is None:
            self._digests = {o["name"]: o["sha256"] for m in manifests.load_all(self.storage) for o in m.objects}
        return self._digests.get(location) == hashlib.sha256(data).hexdigest()

    def _keep_earlier(self, before: StoredRecord) -> None:
        data = self._read(before.location)
        if data is None:
            return
        stem = names.stem(before.location)
        name = f"{stem}{EARLIER}{before.source_hash[:8]}{before.location[len(stem) :]}"
        if name not in self._objects:
            self._stage(name, data, hashlib.sha256(data).hexdigest(), [], if_absent=True)

    def _read(self, location: str) -> bytes | None:
        """Return what stands at a name, or will when this unit is committed; None if it is gone."""
        waiting = self._objects.get(location)
        if waiting and waiting.data:
            return waiting.data
        try:
            with self.storage.open(waiting.staged.token if waiting else location) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def _earlier_of(self, name: str) -> list[str]:
        if self._earlier is None:
            self._earlier = {}
            for stored in self.storage.list():
                stem, mark, _ = stored.name.partition(EARLIER)
                if mark:
                    self._earlier.setdefault(stem, []).append(stored.name)
        return self._earlier.get(names.stem(name), [])


def _decode_one(form: Any, data: bytes, origin: Origin, name: str, cover: Cover) -> Record:
    """Return the one record of a document.  A format raises what it likes on damaged bytes."""
    with read_opened(cover, io.BytesIO(data), name) as stream:
        (record,) = form.decode(stream, origin)
    return record  # type: ignore[no-any-return]


def _same(one: Record, other: Record) -> bool:
    return to_json((one.conversation, one.raw)) == to_json((other.conversation, other.raw))
