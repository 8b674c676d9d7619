"""Is an archive what its manifests say?  Every record, document and file read and compared; nothing written."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from muniment import Checkpoint, Record
from muniment.sinks import database_verify
from muniment.sinks.database_manifests import Entry, Stored
from muniment.sinks.database_verify import Archived, Content
from muniment.verification import Finding, Inspection
from muniment_plugins.sinks.mongodb.blobs import Bucket
from muniment_plugins.sinks.mongodb.connection import Connection
from muniment_plugins.sinks.mongodb.encode import encode, revision_of
from muniment_plugins.sinks.mongodb.keys import document_id, scrubbed
from muniment_plugins.sinks.mongodb.ledger import Ledger
from muniment_plugins.sinks.mongodb.manifests import ManifestCollections
from muniment_plugins.sinks.mongodb.names import BUCKETS
from muniment_plugins.sinks.mongodb.read import blob_in

_WITH_MANIFESTS = 2
_AT_ONCE = 1000
# What only the run knows, and what holds the record itself.
_BESIDE = ("plan_hash", "run", "stored_at", "source_hash", "record", "record_sha256")
_COUNTS = ("read", "stored", "unchanged", "dropped", "quarantined")
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


def verify(connection: Connection, inspection: Inspection) -> Iterator[Finding]:
    """Yield what is wrong with an archive."""
    try:
        yield from database_verify.verify(_Archived(connection), inspection)
    except _DAMAGED as error:
        # No field is as safe as its name: whoever can write can put anything into it.
        said = f"a field holds what was never stored in it ({type(error).__name__})"
        yield Finding("changed", connection.place, said)


class _Archived(Archived):
    versions_are_a_set: ClassVar[bool] = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stored = ManifestCollections(connection)
        self._conversations = connection.collection("conversations")
        self._further_role = "messages" if connection.documents == "message" else "further"
        self._further = connection.collection(self._further_role)
        self._records = Bucket(connection, "records")
        self._assets = Bucket(connection, "assets")

    # --- what proves ------------------------------------------------------------------------

    def has_manifests(self) -> bool:
        name = self._connection.names.of("manifests")
        return bool(self._connection.database.list_collection_names(filter={"name": name}))

    def is_older(self) -> bool:
        found = self._connection.collection("meta").find_one({"_id": "archive"})
        return found is not None and found["version"] < _WITH_MANIFESTS

    def numbers(self) -> list[int]:
        return self._stored.numbers()

    def entry(self, number: int) -> Entry:
        return self._stored.entry(number)

    def receipts(self) -> Iterator[tuple[int, int, Stored]]:
        return self._stored.receipts()

    def receipts_between(self, after: Any, until: Any) -> Iterable[Stored]:
        limits = {"$gt": after or ""} | ({} if until is None else {"$lte": until})
        return self._stored.receipts_where({"conversation": limits})

    def owner_of(self, stored_hash: bytes) -> str:
        found = self._stored.receipts_where({"stored_hash": stored_hash})
        return found[0].key if found else ""

    # --- records ----------------------------------------------------------------------------

    def identities(self, after: Any, limit: int) -> list[Any]:
        # Every `_id` of ours is text, and no key is empty.
        found = self._conversations.find({"_id": {"$gt": after or ""}}, {"_id": 1}).sort("_id", 1).limit(limit)
        return [f["_id"] for f in found]

    def contents(self, identities: Sequence[Any]) -> Iterator[Content]:
        for found in self._conversations.find({"_id": {"$in": list(identities)}}):
            yield Content(found["_id"], self._blob(found), found)

    def versions(self, identities: Sequence[Any]) -> Iterator[tuple[Any, bytes]]:
        wanted = {"conversation": {"$in": list(identities)}}
        for found in self._connection.collection("versions").find(wanted).sort([("conversation", 1), ("_id", 1)]):
            blob = self._blob(found)
            identity = {"conversation": found["conversation"], "revision": revision_of(blob or b"")}
            yield found["conversation"], blob if blob is not None and found["_id"] == identity else b""

    def _blob(self, found: Mapping[str, Any]) -> bytes | None:
        try:
            return blob_in(found, self._records)
        except OSError:
            return None

    def name(self, identity: Any) -> str:
        return str(identity)

    def identity_of(self, record: Record) -> Any:
        return document_id(record.key)

    def key_of(self, record: Record) -> str:
        return str(scrubbed(record.key))

    def differences(self, contents: Sequence[tuple[Content, Record]]) -> Iterator[tuple[Any, str]]:
        further: dict[Any, list[Any]] = {}
        wanted = {"conversation": {"$in": [content.identity for content, _ in contents]}}
        for found in self._further.find(wanted).sort("position", 1) if contents else ():
            further.setdefault(found["conversation"], []).append(found)
        for content, record in contents:
            said = encode(record, documents=self._connection.documents)
            # Another version of the compressor makes other bytes of the same record.
            revision = {"revision": revision_of(content.blob or b"")}
            if _shown(content.shown) != _shown(self._decoded(said.body)):
                yield content.identity, "its document is not what its record says"
            if further.get(content.identity, []) != [self._decoded(f) | revision for f in said.further]:
                yield content.identity, f"its documents in `{self._further_role}` are not what its record says"

    def _decoded(self, data: bytes) -> dict[str, Any]:
        import bson

        return dict(bson.decode(data, self._conversations.codec_options))

    # --- what belongs to nothing ------------------------------------------------------------

    def leftovers(self) -> Iterator[Finding]:
        for role in (self._further_role, "versions"):
            groups = self._connection.collection(role).aggregate([{"$group": {"_id": "$conversation"}}])
            yield from self._lonely(role, (g["_id"] for g in groups), self._conversations, "_id")
        names: set[Any] = set()
        for role in ("conversations", "versions"):
            large = self._connection.collection(role).find({"record_sha256": {"$exists": True}}, {"record_sha256": 1})
            names.update(f["record_sha256"] for f in large)
        for file in self._records.files.find({}, {"filename": 1}):
            if file.get("filename") not in names:
                yield Finding("extra", "records.files", f"no document names `{file.get('filename')}`")
        begun = {u["_id"] for u in self._connection.collection("uploads").find({}, {"_id": 1})}
        for role in BUCKETS:
            bucket = Bucket(self._connection, role)
            groups = bucket.chunks.aggregate([{"$group": {"_id": "$files_id"}}])
            owners = (g["_id"] for g in groups if g["_id"] not in begun)
            yield from self._lonely(f"{role}.chunks", owners, bucket.files, "_id")

    def _lonely(self, role: str, owners: Iterator[Any], collection: Any, field: str) -> Iterator[Finding]:
        waiting = list(owners)
        count = 0
        for start in range(0, len(waiting), _AT_ONCE):
            some = waiting[start : start + _AT_ONCE]
            held = [f[field] for f in collection.find({field: {"$in": some}}, {field: 1})]
            count += sum(owner not in held for owner in some)
        if count:
            yield Finding("extra", role, f"it has documents of {count} that are not here")

    # --- files ------------------------------------------------------------------------------

    def assets(self) -> Iterator[str]:
        return (str(f["filename"]) for f in self._assets.files.find({}, {"filename": 1}))

    def asset_digest(self, digest: str) -> str:
        actual = ""
        for file in self._assets.files.find({"filename": digest}):
            read, length, count = hashlib.sha256(), 0, 0
            for chunk in self._assets.chunks.find({"files_id": file["_id"]}).sort("n", 1):
                if chunk["n"] != count:
                    return ""
                read.update(chunk["data"])
                length, count = length + len(chunk["data"]), count + 1
            if length != file["length"] or (actual and actual != read.hexdigest()):
                return ""
            actual = read.hexdigest()
        return actual

    def shown_assets(self) -> set[str]:
        pipeline = [{"$unwind": "$assets"}, {"$group": {"_id": "$assets.sha256"}}]
        return {str(g["_id"]) for g in self._conversations.aggregate(pipeline)}

    # --- the ledger -------------------------------------------------------------------------

    def as_stored(self, text: str) -> str:
        return str(scrubbed(text))

    def checkpoints(self) -> Mapping[str, Checkpoint]:
        found = (
            attrs.evolve(c, partition=scrubbed(c.partition)) for c in Ledger(self._connection).checkpoints().values()
        )
        return {c.partition: c for c in found}

    def quarantined(self) -> Mapping[str, tuple[str, str]]:
        return {q["_id"]: (q["stage"], q["reason"]) for q in self._connection.collection("quarantine").find()}

    def runs(self) -> Mapping[str, tuple[int | None, ...]]:
        runs = self._connection.collection("runs").find()
        return {r["_id"]: (r.get("exit_code"), *(r[n] for n in _COUNTS)) for r in runs}


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in document.items() if n not in _BESIDE}
