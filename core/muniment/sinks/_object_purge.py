"""How are records taken out of a store of objects?  Their parts are written anew without them; a tombstone stays."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define, field, frozen

from muniment import names
from muniment.components import Context, Format
from muniment.crypto import SUFFIX
from muniment.custody import Custody, Purged
from muniment.errors import ConfigError, FatalError, InputError
from muniment.manifest import MadeBy
from muniment.model import Record
from muniment.objects import ObjectStream, compressing, compression_of
from muniment.retention import Holding, purged_keys
from muniment.sinks import _object_manifest as manifests
from muniment.sinks._object_latest import NOTE, refresh, shown
from muniment.sinks._object_parts import begin_body
from muniment.sinks._object_payload import EARLIER, Payload, encode
from muniment.sinks._object_read import read_object
from muniment.sinks._object_repair import is_sound
from muniment.sinks._object_shred import Shred, finish, key_objects
from muniment.sinks._object_target import ObjectTarget
from muniment.sinks.cover import read_opened
from muniment.storage import Storage
from muniment.tables import TableFormat
from muniment.verification import Entries

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

_PART = re.compile(r"(?<![0-9A-Za-z])part-[0-9]{8,}-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}(?:-[0-9]+)?(?![0-9A-Za-z])")
_DIGEST = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.[^/]*)?$")
_ANY_DIGEST = re.compile(rb"[0-9a-f]{64}")
_BATCH_RECORDS = 64
_READ_BYTES = 2**20


class ObjectCustody(Custody):
    """An object target, opened to look after it.

    Where its storage is locked, what is deleted stays: only records can be purged whose keys are their own.
    """

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        if sink.layout.mode == "snapshot":
            raise ConfigError(
                f"{ctx.path} is one file, written whole, without manifests: delete the file, or leave the record out of"
                " what it is written from"
            )
        with sink.storage() as storage:
            if not manifests.numbers(storage):
                raise InputError("it holds no manifests, so nothing can be held or purged; is this the right place?")
        # As a run opens it: a sink of a bucket looks there at what the bucket locks, and keeps other runs away.
        target = sink.open_target(ctx)
        assert isinstance(target, ObjectTarget)
        self._target = target
        self.signs = sink.proof is not None and sink.proof.key is not None
        self._sink = sink
        self._storage: Storage = self._target.storage

    def close(self) -> None:
        self._target.close()

    def entries(self) -> Entries:
        name, note = manifests.load_head(self._storage)
        return Entries(manifests.numbers(self._storage), self._read, manifests.name_of, name or manifests.HEAD, note)

    def _read(self, number: int) -> bytes:
        with self._storage.open(manifests.name_of(number)) as stream:
            return stream.read()

    def times(self) -> Iterator[str]:
        for run in self._target.state.runs():
            yield run["started_at"]
            yield run["finished_at"] or ""

    def holdings(self) -> Iterator[Holding]:
        at = {m.number: m.at for m in manifests.load_all(self._storage)}
        # Of a record whose key was destroyed the row stays.
        purged = set(purged_keys(manifests.load_all(self._storage)))
        found: dict[str, Holding] = {}
        for manifest, made in manifests.Standing(self._storage).objects():
            archived_at = at[manifest.made_by(made).number] or None
            for key, source_hash, updated_at, _, _ in made["records"]:
                if key in purged:
                    continue
                before = found.get(key)
                hashes = before.hashes if before else frozenset()
                times = [t for t in (updated_at, before.updated_at if before else None) if t]
                # Objects come in the order in which they were stored.
                found[key] = Holding(key, archived_at, max(times, default=None), hashes | {source_hash})
        yield from found.values()

    def noted(self, key: str) -> str:
        return self._target.noted(key)

    def refusal(self) -> str:
        if (reason := self._storage.keeps_deleted()) and not self._sink.seals_records:
            return (
                f"this storage keeps what is deleted ({reason}), so nothing in it can be purged; wait until the lock is"
                " over, or have the keys of the archive destroyed"
            )
        return ""

    def note(self, event: Mapping[str, Any]) -> None:
        self._target.append_event(event)

    def purge(self, keys: Collection[str], event: Mapping[str, Any]) -> Purged:
        finish(self._storage)
        work = _Purge(self._sink, self._target, frozenset(keys))
        try:
            work.prepare()
            work.shred.publish()
            self._target.append_event(
                {**event, "tombstones": work.tombstones}, work.made, work.removed, work.shred.announced
            )
        except BaseException:
            work.discard()
            raise
        self.finish()
        shredded = len({t["key"] for t in work.tombstones if "shredded" in t})
        return Purged(
            tuple(work.tombstones), len(work.assets), work.is_unsure_of_assets, shredded, len(work.locked_assets)
        )

    def finish(self) -> None:
        """Destroy keys, and write the view anew, or remove it where these options have none.

        The view must not show what was purged.
        """
        finish(self._storage)
        before = shown(self._storage)
        if before is None:
            return
        if self._sink.latest:
            target = self._target
            refresh(self._sink, self._storage, target.state, self.entries().numbers[-1], target.cover)
        else:
            self._storage.delete(NOTE)
        for name in before - (shown(self._storage) or set() if self._sink.latest else set()):
            self._storage.delete(name)
        self._storage.sync()


@frozen
class _Affected:
    """An object that holds something to be purged; ``siblings`` are the other tables of the same part."""

    made: dict[str, Any]
    by: MadeBy
    siblings: tuple[dict[str, Any], ...]

    @property
    def is_part(self) -> bool:
        return _PART.search(self.made["name"]) is not None


@define(eq=False)
class _Purge:
    """What is to be staged, removed and said for one purge."""

    sink: "ObjectSink"
    target: ObjectTarget
    keys: frozenset[str]
    made: list[dict[str, Any]] = field(factory=list)
    removed: list[str] = field(factory=list)
    assets: list[str] = field(factory=list)
    tombstones: list[dict[str, Any]] = field(factory=list)
    locked_assets: list[str] = field(factory=list)
    """Files that nothing needs now, and that a lock keeps."""
    is_unsure_of_assets: bool = False
    shred: Shred = field(init=False)
    _read: set[str] = field(factory=set)
    """The objects that stay, and of which it is known which files they need."""
    _streams: list[ObjectStream] = field(factory=list)
    _gone: set[str] = field(factory=set)
    _needed: set[str] = field(factory=set)
    _of_units: set[str] = field(factory=set)
    """The files of the units of records whose format does not give back what they need."""

    @property
    def _storage(self) -> Storage:
        return self.target.storage

    def prepare(self) -> None:
        standing = manifests.Standing(self._storage)
        affected = []
        by_name = {made["name"]: made for made in key_objects(standing)}
        self.shred = Shred(self._storage, self.target.cover, by_name)
        for manifest, made in standing.objects():
            if any(row[0] in self.keys for row in made["records"]):
                affected.append(_Affected(made, manifest.made_by(made), tuple(_siblings(made, manifest.objects))))
        for one in affected:
            if keys := self.shred.keys_name(one.made):
                self._shred(one, keys)
            elif reason := self._storage.keeps_deleted():
                raise FatalError(
                    f"`{one.made['name']}` was written before `per: conversation`; nothing was purged ({reason})"
                )
            else:
                self._take(one)
        self.shred.stage()
        self.removed += self._earlier_copies(affected)
        if self._gone - self._needed or self._of_units:
            self._remove_assets(standing)
        self._storage.sync()
        for made, stream in zip(self.made, self._streams, strict=True):
            made["token"] = stream.token

    def discard(self) -> None:
        self.shred.discard()
        for stream in self._streams:
            stream.discard()

    # --- one object -------------------------------------------------------------------------

    def _take(self, one: _Affected) -> None:
        made = one.made
        if not is_sound(self._storage, made):
            raise FatalError(
                f"`{made['name']}` is missing or not what was stored, so that it cannot be written anew; nothing was"
                " purged: repair the archive or restore it first"
            )
        rows = [row for row in made["records"] if row[0] not in self.keys]
        self._bury(one, {})
        self.removed += [made["name"], *(s["name"] for s in one.siblings)]
        if rows:
            self._rewrite(one, rows)
        else:
            form = self._form(one.by)
            self._gone |= self._digests(form, made["name"])
            if not form.reads_back:
                self._of_units.update(self._assets_of(one.by))

    def _shred(self, one: _Affected, keys: str) -> None:
        """Destroy keys; a part stays as it is, an object of a mirror holds nothing more and goes, too."""
        made = one.made
        self._bury(one, self.shred.take(keys, [row[0] for row in made["records"] if row[0] in self.keys]))
        form = self._form(one.by)
        if not is_sound(self._storage, made):
            self.is_unsure_of_assets = True
        elif not form.reads_back:
            # Of an encrypted unit nothing says which files it needs beside those that its objects name.
            self.is_unsure_of_assets = True
            self._gone |= self._digests(form, made["name"])
        else:
            left = self._left(made["name"], form)
            self._needed.update(a.sha256 for r in left for a in r.conversation.assets if a.sha256)
        if one.is_part:
            self._read.add(made["name"])
        else:
            self.removed.append(made["name"])

    def _bury(self, one: _Affected, destroyed: Mapping[str, str]) -> None:
        # In a mirror the name of an object says a title, which no tombstone does.
        where = {"object": one.made["name"]} if one.is_part else {}
        for key, source_hash, *_ in one.made["records"]:
            if key in self.keys:
                said = {"shredded": destroyed[key]} if key in destroyed else {}
                self.tombstones.append({"key": key, "hash": source_hash, **where, "sha256": one.made["sha256"], **said})

    def _rewrite(self, one: _Affected, rows: list[Any]) -> None:
        form = self._form(one.by)
        if not form.reads_back:
            raise FatalError(
                f"`{one.made['name']}` is of format `{one.by.format}`, which cannot be read back, and it holds other"
                " records too: nothing was purged; a record can be purged from parts of another format, or where each"
                " is an object of its own (`mode: mirror`)"
            )
        layout = attrs.evolve(self.sink.layout, format=one.by.format, mode="append", key=one.made["name"])
        streams = self._begin(one, rows, form)
        body = begin_body(form, streams)
        count = 0
        for records in _batches(self._left(one.made["name"], form)):
            payload: Payload = encode(records, form, layout)
            body.add(payload.batch_of(payload.entries, form))
            self._needed.update(a.sha256 for r in records for a in r.conversation.assets if a.sha256)
            count += len(records)
        body.close()
        for stream in streams.values():
            stream.close()
        if count != len(rows):
            raise FatalError(f"`{one.made['name']}` holds other records than its manifest says; nothing was purged")
        for made, stream in zip(self.made[-len(streams) :], streams.values(), strict=True):
            made.update(size=stream.size, sha256=stream.sha256)

    def _begin(self, one: _Affected, rows: list[Any], form: Format) -> dict[str, ObjectStream]:
        """Stage the objects that stand for a part, by table."""
        number = len({m["part"] for m in self.made}) + 1
        part = manifests.part_id(self.target.ctx.run, 1, number)
        tables = form.table_names if isinstance(form, TableFormat) else ("",)
        streams: dict[str, ObjectStream] = {}
        for table, old in zip(tables, (one.made, *one.siblings), strict=True):
            name = _PART.sub(part, old["name"])
            compression = compression_of(name.removesuffix(SUFFIX))
            wrappers = [compressing(compression, threaded=False), *self.target.cover.wrappers(form.media_type)]
            streams[table] = ObjectStream(self._storage.stage(name), wrappers)
            self._streams.append(streams[table])
            kept = rows if old is one.made else []
            self.made.append({"name": name, "records": kept, "of": one.by.of(), "if_absent": True, "part": part})
        return streams

    def _left(self, name: str, form: Format) -> Iterator[Record]:
        cover = self.target.cover
        for record in read_object(self._storage, form, name, cover):
            if cover.key(record.key) in self.keys:
                self._gone.update(a.sha256 for a in record.conversation.assets if a.sha256)
            else:
                yield record

    def _form(self, by: MadeBy) -> Format:
        return self.sink.make_format(by.format, by.format_options)

    # --- copies and files -------------------------------------------------------------------

    def _earlier_copies(self, affected: list[_Affected]) -> list[str]:
        stems = {names.stem(one.made["name"]) for one in affected if not one.is_part}
        if not stems:
            return []
        found = (s.name for s in self._storage.list() if EARLIER in s.name)
        copies = sorted(name for name in found if name.partition(EARLIER)[0] in stems)
        for name in copies:
            self._gone |= self._digests(None, name)
        return copies

    def _remove_assets(self, standing: manifests.Standing) -> None:
        """Remove the files that only purged records needed.

        Of a format that cannot be read back a record needs what it names; what it may need unnamed goes with the
        last object of its unit.
        """
        digest = self.target.cover.digest
        by_digest: dict[str, str] = {}
        for stored in self._storage.list(self.sink.layout.assets):
            if found := _DIGEST.search(stored.name):
                by_digest[found[1]] = stored.name
        named = {by_digest[digest(d)] for d in self._gone if digest(d) in by_digest}
        needed = {by_digest.get(digest(d), "") for d in self._needed}
        unnamed = self._of_units.intersection(by_digest.values()) - named
        gone = (named | unnamed) - needed
        without = {*self.removed, *self._read}
        for manifest, made in standing.objects():
            if not gone:
                break
            if made["name"] in without or not (made["records"] or EARLIER in made["name"]):
                continue
            by = manifest.made_by(made)
            form = self._form(by) if made["records"] else None
            gone -= {by_digest.get(digest(d), "") for d in self._digests(form, made["name"])}
            if form is not None and not form.reads_back and unnamed & gone:
                gone -= unnamed.intersection(self._assets_of(by))
        self.is_unsure_of_assets = self.is_unsure_of_assets or not unnamed - needed <= gone
        if self._storage.keeps_deleted():
            self.locked_assets = sorted(gone)
            return
        self.assets = sorted(gone)
        self.removed += self.assets

    def _assets_of(self, by: MadeBy) -> tuple[str, ...]:
        return manifests.load(self._storage, by.number)[0].assets

    def _digests(self, form: Format | None, name: str) -> set[str]:
        """Return the digests of the files that an object names; of one that cannot be decoded, all it may name."""
        cover = self.target.cover
        if form is not None and form.reads_back:
            records = read_object(self._storage, form, name, cover)
            return {a.sha256 for r in records for a in r.conversation.assets if a.sha256}
        if isinstance(form, TableFormat):
            self.is_unsure_of_assets = True
            return set()
        found: set[str] = set()
        try:
            with self._storage.open(name) as raw, closing(read_opened(cover, raw, name)) as stream:
                tail = b""
                while data := stream.read(_READ_BYTES):
                    found.update(d.decode() for d in _ANY_DIGEST.findall(tail + data))
                    tail = (tail + data)[-63:]
        except FileNotFoundError:
            pass
        return found


def _siblings(made: dict[str, Any], objects: Collection[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    part = _PART.search(made["name"])
    for other in objects:
        found = _PART.search(other["name"])
        if other is not made and part and found and found[0] == part[0] and not other["records"]:
            yield other


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while some := list(islice(records, _BATCH_RECORDS)):
        yield some
