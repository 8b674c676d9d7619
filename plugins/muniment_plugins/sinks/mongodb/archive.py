"""How do documents become part of an archive?  Collected for a unit, then written all at once.

What a unit changes is kept in memory until it is sealed.  Where the server has transactions, the
documents, their manifest, the checkpoint and the quarantine entries are one.  Where it has none, each
write can be repeated: the manifest announces what comes, the conversations come behind what belongs to
them, and the checkpoint comes last.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

import attrs
from msgspec.structs import replace

from muniment import Asset, Context, FatalError, MunimentError, Receipt, Record, RecordError, Rejected, Unit
from muniment.merge import merge_records
from muniment.proof import SigningKey
from muniment.record_blob import DamagedBlobError, record_from_blob
from muniment.retry import retry
from muniment_plugins.sinks.mongodb.blobs import Bucket
from muniment_plugins.sinks.mongodb.changes import Change, Held, batches
from muniment_plugins.sinks.mongodb.connection import Connection
from muniment_plugins.sinks.mongodb.encode import (
    MAX_INLINE_BYTES,
    Document,
    encode,
    extended,
    id_of,
    record_fields,
    revision_of,
)
from muniment_plugins.sinks.mongodb.lease import Fence
from muniment_plugins.sinks.mongodb.ledger import Ledger
from muniment_plugins.sinks.mongodb.manifests import append_unit
from muniment_plugins.sinks.mongodb.names import KNOWN_INDEX
from muniment_plugins.sinks.mongodb.refusals import DocumentRefusedError, refused_documents, refuses_documents

_MAX_REFUSED = 50


class Archive:
    """An open archive that documents are written to, unit by unit."""

    def __init__(self, connection: Connection, ctx: Context, signer: SigningKey | None = None) -> None:
        self.connection = connection
        self._ctx = ctx
        self._signer = signer
        self._ledger = Ledger(connection)
        self._fence = Fence(connection, ctx.run)
        self._assets = Bucket(connection, "assets")
        self._records = Bucket(connection, "records")
        self._conversations = connection.collection("conversations")
        self._further = connection.collection("messages" if connection.documents == "message" else "further")
        self._pending: dict[str, Change] = {}
        self._session: Any = None
        with connection.translated():
            if connection.transactions:
                self._session = connection.client.start_session()
                self._fence.note_session(self._session)

    def close(self) -> None:
        if self._session is not None:
            # Where the server is gone it ends by itself, and the reason for closing must not be hidden.
            with contextlib.suppress(MunimentError), self.connection.translated():
                self._session.end_session()

    # --- a unit -----------------------------------------------------------------------------

    def write(self, batch: Sequence[Document], open_asset: Callable[[Asset], BinaryIO]) -> Receipt:
        """Take a batch into the open unit; what is stored already is merged or left alone.

        Assets and records that are too large for a document are stored at once: nothing names them
        before the unit is sealed.  All or nothing.

        Raises:
            TransientError: the same call may work later.
        """
        good, rejected = self._with_assets(batch, open_asset)
        changes: dict[str, Change] = {}
        held = self._held(good)
        stored = 0
        for document in good:
            changed = self._change(document, changes, held)
            stored += changed
        for change in changes.values():
            self._store_large(change)
        self._pending.update(changes)
        return Receipt(stored, len(good) - stored, tuple(rejected))

    def seal(self, unit: Unit) -> Unit:
        """Commit the open unit; committing it again changes nothing.

        Returns:
            The unit as it was committed: documents that the server refuses are quarantined.

        Raises:
            TargetBusyError: another run has taken the archive over.
            FatalError: the server refuses too much, or for good.
        """
        refused = 0
        while True:
            try:
                retry(lambda: self._commit(unit))  # noqa: B023 - called before the name changes
                break
            except DocumentRefusedError as error:
                refused += len(error.reasons)
                if refused > _MAX_REFUSED:
                    raise FatalError(
                        f"`{self.connection.place}` refuses document after document: {error.reasons[0][1]}"
                    ) from None
                unit = self._without(unit, error)
        self._pending = {}
        return unit

    def _commit(self, unit: Unit) -> None:
        from pymongo.read_concern import ReadConcern

        with self.connection.translated():
            if self._session is None:
                self._put_unit(unit, None)
            else:
                self._session.with_transaction(
                    lambda session: self._put_unit(unit, session),
                    read_concern=ReadConcern("snapshot"),
                    write_concern=self.connection.database.write_concern,
                )

    def _put_unit(self, unit: Unit, session: Any) -> None:
        if self._ledger.holds(unit, session):
            return
        self._fence.check(unit.number, session)
        changes = list(self._pending.values())
        before = append_unit(self.connection, session, self._ctx, self._signer, unit, changes)
        for change in changes:
            # One that was lost may have left what belongs to it.
            change.replaces = change.replaces or change.document.id in before
        self._put(self.connection.collection("versions"), self._version_documents(changes), session)
        self._put(self._further, ((c, d) for c in changes for d in c.document.further), session)
        self._put(self._conversations, ((c, self._stored(c)) for c in changes), session)
        self._remove_stale([c for c in changes if c.replaces or c.forgets], session)
        self._ledger.save_unit(unit, session)

    # --- what becomes of a document ---------------------------------------------------------

    def _held(self, batch: Sequence[Document]) -> dict[str, Held]:
        """Return what the archive holds of these conversations, with the record where it is needed."""
        wanted = [d for d in batch if d.id not in self._pending]
        if not wanted:
            return {}
        with self.connection.translated():
            fields = {"source_hash": 1, "plan_hash": 1}
            found = self._conversations.find({"_id": {"$in": [d.id for d in wanted]}}, fields, hint=KNOWN_INDEX)
            held = {f["_id"]: Held(f["source_hash"], f["plan_hash"]) for f in found}
            changing = [d.id for d in wanted if d.id in held and not self._is_same(held[d.id], d)]
            fields = {"source_hash": 1, "plan_hash": 1, "run": 1, "record": 1, "record_sha256": 1}
            for f in self._conversations.find({"_id": {"$in": changing}}, fields) if changing else ():
                held[f["_id"]] = Held(f["source_hash"], f["plan_hash"], f["run"], self._record_of(f))
        return held

    def _is_same(self, held: Held, document: Document) -> bool:
        same_plan = held.plan_hash == self._ctx.plan_hash or self._ctx.on_plan_change == "keep"
        return held.source_hash == document.source_hash and same_plan

    def _change(self, document: Document, changes: dict[str, Change], held: Mapping[str, Held]) -> bool:
        """Decide what becomes of a document; return whether it changes anything."""
        identity = document.id
        before = changes.get(identity) or self._pending.get(identity)
        old = held.get(identity) if before is None else self._as_held(before)
        if old is None:
            changes[identity] = Change(document, replaces=False, origins=[document.origin])
            return True
        if self._is_same(old, document):
            return False
        change = Change(document, replaces=True) if before is None else before.copy()
        policy = self._ctx.on_plan_change
        if old.source_hash == document.source_hash or (
            old.plan_hash != self._ctx.plan_hash and policy == "rewrite"
        ):  # fmt: skip
            # The plan is another one: what it makes stands in place of the old, not beside it.
            keeps_old = policy == "new_version"
            if policy == "rewrite":
                change.gone += [v.record for v in (*change.versions, old)]
                change.forgets, change.versions = True, []
        else:
            stored = self._readable(old, document)
            keeps_old = stored is not None
            if stored is not None:
                merged = merge_records(stored, record_from_blob(document.record, document.origin))
                # Without a hash it was forgotten for a repair, and is written again in any case.
                if merged.source_hash == stored.source_hash and old.source_hash:
                    return False
                document = encode(merged, documents=self.connection.documents)
        if keeps_old:
            change.versions.append(old)
        change.document = document
        change.origins.append(document.origin)
        changes[identity] = change
        return True

    def _readable(self, held: Held, document: Document) -> Record | None:
        """Return the stored record; None where it is damaged, and a repair has said to replace it.

        Raises:
            FatalError: it is damaged, and nothing has said so yet.
        """
        try:
            return record_from_blob(held.record, document.origin)
        except DamagedBlobError:
            if held.source_hash:
                raise FatalError(
                    f"`{self.connection.place}`: what is stored as `{document.id!a}` is damaged; fill it from"
                    " another copy with `muniment repair`"
                ) from None
            return None

    def _as_held(self, change: Change) -> Held:
        d = change.document
        return Held(d.source_hash, self._ctx.plan_hash, self._ctx.run, d.record)

    def _record_of(self, found: Mapping[str, Any]) -> bytes:
        if "record" in found:
            return bytes(found["record"])
        try:
            with self._records.open(found["record_sha256"]) as stream:
                return stream.read()
        except FileNotFoundError:
            return b""

    # --- what is stored beside --------------------------------------------------------------

    def _with_assets(
        self, batch: Sequence[Document], open_asset: Callable[[Asset], BinaryIO]
    ) -> tuple[list[Document], list[Rejected]]:
        """Store the assets that the archive lacks; return the documents whose assets it holds now."""
        digests = {a.sha256 for d in batch for a in d.assets if a.sha256}
        missing = self._assets.missing(sorted(digests)) if digests else set()
        if not missing:
            return list(batch), []
        good: list[Document] = []
        rejected: list[Rejected] = []
        for document in batch:
            try:
                for asset in document.assets:
                    if asset.sha256 in missing:
                        self._put_asset(asset, asset.sha256, open_asset)
                        missing.discard(asset.sha256)
            except RecordError as error:
                rejected.append(Rejected(document.origin, "write", error.reason, document.key))
            else:
                good.append(document)
        return good, rejected

    def _put_asset(self, asset: Asset, digest: str, open_asset: Callable[[Asset], BinaryIO]) -> None:
        try:
            stream = open_asset(asset)
        except FileNotFoundError:
            raise RecordError("an asset changed or vanished while it was read; run the import again") from None
        self._assets.put(digest, stream, content_type=asset.mime_type)

    def _store_large(self, change: Change) -> None:
        """Keep records that are too large for a document as bytes of their own."""
        for blob in (change.document.record, *(v.record for v in change.versions)):
            if len(blob) > MAX_INLINE_BYTES:
                digest = record_fields(blob)["record_sha256"]
                if self._records.missing([digest]):
                    self._records.put(digest, io.BytesIO(blob))

    # --- writing ----------------------------------------------------------------------------

    def _stored(self, change: Change) -> bytes:
        return extended(
            change.document.body,
            {
                "plan_hash": self._ctx.plan_hash,
                "run": self._ctx.run,
                "stored_at": datetime.now(UTC),
                **record_fields(change.document.record),
            },
        )

    def _version_documents(self, changes: Iterable[Change]) -> Iterator[tuple[Change, bytes]]:
        from bson import encode as bson

        for change in changes:
            for held in change.versions:
                yield (
                    change,
                    bson({
                        "_id": {"conversation": change.document.id, "revision": revision_of(held.record)},
                        "conversation": change.document.id,
                        "source_hash": held.source_hash,
                        "plan_hash": held.plan_hash,
                        "run": held.run,
                        "superseded_at": datetime.now(UTC),
                        **record_fields(held.record),
                    }),
                )  # fmt: skip

    def _put(self, collection: Any, documents: Iterable[tuple[Change, bytes]], session: Any) -> None:
        """Write documents in batches of bounded size.

        Raises:
            DocumentRefusedError: the server refuses some; the others of the batch may be stored.
        """
        for batch in batches(documents):
            self._put_batch(collection, batch, session)

    def _put_batch(self, collection: Any, batch: Sequence[tuple[Change, bytes]], session: Any) -> None:
        from bson.raw_bson import RawBSONDocument
        from pymongo import InsertOne, ReplaceOne
        from pymongo.errors import BulkWriteError

        whole = collection is self._conversations
        operations: list[Any] = []
        for change, data in batch:
            if session is not None and not change.replaces:
                operations.append(InsertOne(RawBSONDocument(data)))
            else:
                identity = change.document.id if whole else id_of(data)
                operations.append(ReplaceOne({"_id": identity}, RawBSONDocument(data), upsert=True))
        try:
            collection.bulk_write(operations, ordered=False, session=session)
        except BulkWriteError as error:
            if not refuses_documents(error):
                raise
            raise refused_documents(error, collection.name, [c for c, _ in batch]) from None

    def _remove_stale(self, changes: Sequence[Change], session: Any) -> None:
        """Remove what the new state of a conversation does not have any more."""
        versions = self.connection.collection("versions")
        for change in changes:
            identity, record = change.document.id, change.document.record
            self._further.delete_many(
                {"conversation": identity, "revision": {"$ne": revision_of(record)}}, session=session
            )
            if change.forgets:
                kept = [h.record for h in change.versions]
                stale = {"conversation": identity, "_id.revision": {"$nin": [revision_of(r) for r in kept]}}
                gone = {v.get("record_sha256") for v in versions.find(stale, session=session)}
                gone |= {record_fields(r).get("record_sha256") for r in change.gone}
                still = {record_fields(r).get("record_sha256") for r in (record, *kept)}
                self._records.delete([d for d in gone - still if d], session)
                versions.delete_many(stale, session=session)

    # --- what the server refuses ------------------------------------------------------------

    def _without(self, unit: Unit, error: DocumentRefusedError) -> Unit:
        """Return the unit without what the server refused; that is quarantined with it."""
        reasons = {change.document.id: reason for change, reason in error.reasons}
        counts, rejected = unit.counts, list(unit.quarantined)
        for identity, reason in reasons.items():
            change = self._pending.pop(identity)
            gone = len(change.origins)
            counts = attrs.evolve(counts, stored=counts.stored - gone, quarantined=counts.quarantined + gone)
            # An entry stands under the partition that it was read from, whatever the source wrote into it.
            origins = [replace(o, partition=unit.checkpoint.partition) for o in change.origins]
            refused = [Rejected(o, "write", reason, change.document.key) for o in origins]
            # Before the commit that passes them.
            self._ctx.keep(refused)
            rejected += refused
        for identity in {change.document.id for change in error.raced} - reasons.keys():
            counts = self._merge_again(identity, counts)
        return attrs.evolve(unit, counts=counts, quarantined=tuple(rejected))

    def _merge_again(self, identity: str, counts: Any) -> Any:
        """Merge with what another attempt has stored since the look-up."""
        change = self._pending.pop(identity)
        held = self._held([change.document])
        if not held:
            # Only what belongs to it is there: the conversation itself was lost.
            self._pending[identity] = attrs.evolve(change, replaces=True)
            return counts
        changes: dict[str, Change] = {}
        if self._change(change.document, changes, held):
            changes[identity].origins = change.origins
            self._store_large(changes[identity])
            self._pending.update(changes)
            return counts
        gone = len(change.origins)
        return attrs.evolve(counts, stored=counts.stored - gone, unchanged=counts.unchanged + gone)
