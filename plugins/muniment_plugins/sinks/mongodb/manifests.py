"""Where are the manifests of an archive, and what do they say of a conversation?  In collections, in its transactions.

Without transactions a manifest comes before what it tells of, and its receipts before it: what a killed
run has announced and not stored, the next run stores.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from muniment import Context, TargetBusyError, Unit
from muniment.proof import SigningKey
from muniment.sinks.database_manifests import Entry, Manifests, ManifestStore, Stored, held_by
from muniment_plugins.sinks.mongodb.changes import Change
from muniment_plugins.sinks.mongodb.connection import Connection
from muniment_plugins.sinks.mongodb.keys import scrubbed

_AT_ONCE = 1000


class ManifestCollections(ManifestStore):
    """The collections ``manifests`` and ``receipts``; writes join the transaction of ``session``, if there is one."""

    def __init__(self, connection: Connection, session: Any = None) -> None:
        self.place = connection.place
        self._session = session
        self._manifests = connection.collection("manifests")
        self._receipts = connection.collection("receipts")

    # --- what is written --------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        from pymongo.errors import DuplicateKeyError

        document = {
            "_id": entry.number,
            "run": entry.run,
            "manifest": entry.data.decode(),
            "checkpoint": entry.note.decode(),
        }
        try:
            self._manifests.insert_one(document, session=self._session)
        except DuplicateKeyError:
            raise TargetBusyError(
                f"another run has written manifest {entry.number} in `{self.place}`; run again when it has finished:"
                " what was committed stands"
            ) from None

    def add_receipts(self, number: int, first: int, receipts: Sequence[Stored]) -> None:
        if self._session is None and not first:
            # What a killed run has left: its manifest never came.
            self._receipts.delete_many({"_id": {"$gte": {"manifest": number, "position": 0}}})
        for start in range(0, len(receipts), _AT_ONCE):
            documents = [
                {
                    "_id": {"manifest": number, "position": position},
                    "conversation": r.identity,
                    "key": r.key,
                    "stored_hash": r.stored_hash,
                    "gone": r.gone,
                }
                for position, r in enumerate(receipts[start : start + _AT_ONCE], first + start)
            ]
            self._receipts.insert_many(documents, ordered=False, session=self._session)

    # --- what is read -----------------------------------------------------------------------

    def last(self) -> bytes | None:
        found = self._manifests.find_one({}, {"manifest": 1}, sort=[("_id", -1)], session=self._session)
        return None if found is None else _text(found["manifest"])

    def numbers(self) -> list[int]:
        return [f["_id"] for f in self._manifests.find({}, {"_id": 1}).sort("_id", 1)]

    def entry(self, number: int) -> Entry:
        return _entry(self._manifests.find_one({"_id": number}))

    def entries(self) -> Iterator[Entry]:
        return map(_entry, self._manifests.find().sort("_id", 1))

    def receipts(self) -> Iterator[tuple[int, int, Stored]]:
        """Yield (manifest, position, receipt) in the order of both."""
        for found in self._receipts.find().sort("_id", 1):
            yield found["_id"]["manifest"], found["_id"]["position"], _stored(found)

    def receipts_where(self, condition: Mapping[str, Any]) -> list[Stored]:
        """Return receipts as they were written."""
        return [_stored(f) for f in self._receipts.find(condition, session=self._session).sort("_id", 1)]

    def receipts_of(self, conversations: Sequence[str]) -> list[Stored]:
        """Return the receipts of conversations, of each as they were written."""
        found: list[Stored] = []
        for start in range(0, len(conversations), _AT_ONCE):
            some = list(conversations[start : start + _AT_ONCE])
            found += self.receipts_where({"conversation": {"$in": some}})
        return found


def append_unit(
    connection: Connection,
    session: Any,
    ctx: Context,
    signer: SigningKey | None,
    unit: Unit,
    changes: Sequence[Change],
) -> set[str]:
    """Write the manifest of a unit that makes ``changes``; the second time nothing.

    Returns:
        Those of its conversations that were stored before, also where they are gone now.
    """
    store = ManifestCollections(connection, session)
    manifests = Manifests(store, ctx, signer)
    undone: list[Stored] = []
    last = manifests.last() if session is None else None
    if last is not None and last.unit is not None and (last.run, last.unit.number) == (unit.run, unit.number):
        if last.unit.counts == unit.counts:
            return set()
        # The server has refused some of what was announced.
        kept = {c.document.id for c in changes}
        said = store.receipts_where({"_id": {"$gte": _first(last.number), "$lt": _first(last.number + 1)}})
        undone = [Stored(r.identity, r.key, r.stored_hash, not r.gone) for r in said if r.identity not in kept][::-1]
    held = held_by(store.receipts_of([c.document.id for c in changes]))
    manifests.append_unit(unit, [*undone, *_receipts_of(changes, held)])
    return set(held)


def adopt(connection: Connection, ctx: Context, signer: SigningKey | None) -> None:
    """Take what an archive held before it had manifests into a first one, as it is now."""
    store = ManifestCollections(connection)
    if store.last() is None and connection.collection("conversations").find_one({}, {"_id": 1}) is not None:
        Manifests(store, ctx, signer).append_note(_adopted(connection), {}, count="adopted")


def _receipts_of(changes: Sequence[Change], held: Mapping[str, Sequence[Stored]]) -> Iterator[Stored]:
    for change in changes:
        identity, key = change.document.id, scrubbed(change.document.key)
        states = held.get(identity, ())
        versions = [hashlib.sha256(v.record).digest() for v in change.versions]
        gone = states
        if not change.forgets:
            gone = [s for s in states[-1:] if s.stored_hash not in versions]
            known = {s.stored_hash for s in states}
            # Those that came and went within the unit.
            versions = [v for v in versions if v not in known]
        for state in gone:
            yield Stored(identity, state.key, state.stored_hash, gone=True)
        for digest in (*versions, change.document.stored_hash):
            yield Stored(identity, key, digest)


def _adopted(connection: Connection) -> Iterator[list[Stored]]:
    from muniment_plugins.sinks.mongodb.blobs import Bucket
    from muniment_plugins.sinks.mongodb.read import blob_in

    records, versions = Bucket(connection, "records"), connection.collection("versions")
    fields = {"record": 1, "record_sha256": 1, "source": 1, "id": 1}
    for found in connection.collection("conversations").find({}, fields).sort("_id", 1):
        earlier = versions.find({"conversation": found["_id"]}).sort("superseded_at", 1)
        blobs: Iterable[bytes] = (blob_in(f, records) for f in (*earlier, found))
        key = f"{found['source']}:{found['id']}"
        yield [Stored(found["_id"], key, hashlib.sha256(b).digest()) for b in blobs]


def _first(number: int) -> dict[str, int]:
    return {"manifest": number, "position": 0}


def _entry(found: Mapping[str, Any]) -> Entry:
    return Entry(found["_id"], str(found.get("run")), _text(found.get("manifest")), _text(found.get("checkpoint")))


def _stored(found: Mapping[str, Any]) -> Stored:
    stored_hash = found["stored_hash"]
    return Stored(
        found["conversation"],
        found["key"],
        bytes(stored_hash) if isinstance(stored_hash, bytes) else b"",
        bool(found["gone"]),
    )


def _text(value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")
