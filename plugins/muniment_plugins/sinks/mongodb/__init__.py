"""Keep conversations in MongoDB, as documents that people can query."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

from attrs import frozen

from muniment import (
    Asset,
    Batch,
    Checkpoint,
    Context,
    Counts,
    Fence,
    History,
    InputError,
    Known,
    Orphan,
    Prepared,
    Receipt,
    Record,
    Secret,
    Target,
    Unit,
    UpsertSink,
    Writer,
)
from muniment.model import JSON
from muniment.options import option
from muniment.proof import Proof, open_signer
from muniment.retry import retry
from muniment.sinks.database_manifests import Manifests
from muniment.units import Damage, UnitBounds

if TYPE_CHECKING:
    from muniment.verification import Finding, Inspection
    from muniment_plugins.sinks.mongodb.connection import Connection
    from muniment_plugins.sinks.mongodb.encode import Document

_SECRET_OPTIONS = re.compile(r"[?&;](tlsCertificateKeyFilePassword|proxyPassword)=|AWS_SESSION_TOKEN:", re.IGNORECASE)
_MAX_DATABASE_BYTES = 63


@frozen(kw_only=True)
class MongoDB(UpsertSink):
    """A MongoDB database: one document per conversation or per message, every byte of the raw JSON, images
    and files in GridFS, earlier versions kept.  On a replica set each unit is one transaction.
    """

    reads_back: ClassVar[bool] = True
    # A unit is one transaction, which the server keeps in its cache until it ends, and in our memory.
    unit: ClassVar[UnitBounds] = UnitBounds(max_records=2000, max_bytes=8 * 2**20)
    refuses_late: ClassVar[bool] = True

    uri: str = option(
        "Where the servers are and who connects, without a password.",
        default="mongodb://localhost:27017",
        identity=False,
        example="mongodb://archiver@db1.example.org,db2.example.org/?replicaSet=rs0&authSource=admin",
    )
    password: Secret | None = option("The password of the user in `uri`.", default=None, identity=False)
    database: str = option("The database; made when it is missing.", default="muniment", identity=False)
    collection_prefix: str = option("What the names of all collections begin with.", default="", identity=False)
    collections: Mapping[str, str] = option(
        "Other names for single collections (`conversations`, `messages` ...), prefix included.",
        factory=dict,
        identity=False,
    )
    documents: Literal["conversation", "message"] = option(
        "What a document is: a conversation with its messages, or a message (and a small one for each"
        " conversation).  Decided when the archive is made.",
        default="conversation",
        identity=False,
    )
    write_concern: str = option(
        'How many members must have a write: `majority`, a number as text (`"2"`), or the name of a rule of the set.',
        default="majority",
        identity=False,
    )
    journal: bool = option("A write counts once it is in the journal on disk.", default=True, identity=False)
    tls_ca_file: str | None = option(
        "Certificates that the servers' own must be signed by; turns TLS on.", default=None, is_path=True
    )
    tls_certificate_key_file: str | None = option(
        "Our certificate and its key, where the servers want one; turns TLS on.", default=None, is_path=True
    )
    tls_certificate_key_password: Secret | None = option("What that key is locked with.", default=None, identity=False)
    create_indexes: bool = option(
        "Make the indexes that are missing; `false` only checks, and names them.", default=True, identity=False
    )
    text_index: bool = option(
        "Also a text index over titles and messages (about as large as the text).", default=False, identity=False
    )
    proof: Proof | None = option(
        "Who signs the state of the archive: `key`.",
        default=None,
        identity=False,
        example={"key": "${secret:file:sign.key}"},
    )
    server_selection_timeout_seconds: float = option(
        "How long to wait for a server that can be written, also while a set elects one.", default=30.0, identity=False
    )

    def check(self) -> Iterable[str]:
        from muniment_plugins.sinks.mongodb.names import ROLES, Names

        yield from _check_uri(self.uri, has_password=self.password is not None)
        if not self.database or re.search(r'[/\\. "$*<>:|?\0]', self.database) or (
            len(self.database.encode()) > _MAX_DATABASE_BYTES
        ):  # fmt: skip
            yield f"`{self.database}` cannot be the name of a MongoDB database"
        unknown = [role for role in self.collections if role not in ROLES]
        if unknown:
            yield f"`collections` has no `{unknown[0]}`; it may name {', '.join(f'`{r}`' for r in ROLES)}"
        names = list(Names(self.collection_prefix, dict(self.collections)).collections(self.documents))
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice:
            yield f"two collections are named `{twice}`"
        if any(not n or "$" in n or "\0" in n or n.startswith(("system.", ".")) for n in names):
            yield "a collection's name is not empty, holds no `$` and does not begin with `system.`"
        if self.write_concern in ("0", ""):
            yield "`write_concern` is at least one member: without an answer nothing is known to be stored"

    @property
    def guarantee(self) -> str:
        if self.write_concern == "majority":
            return "effectively once"
        return "effectively once; but a fail-over may lose what no majority had"

    def encode(self, batch: Batch) -> list["Document"]:
        from muniment_plugins.sinks.mongodb.encode import encode

        return [encode(r, documents=self.documents) for r in batch.records]

    def connect(self, ctx: Context) -> "Connection":
        from muniment_plugins.sinks.mongodb.connection import connect

        return connect(self, ctx)

    def open(self, ctx: Context) -> Writer:
        return _MongoWriter(self, ctx)

    def open_target(self, ctx: Context) -> Target:
        return _MongoTarget(self, ctx)

    def verify(self, ctx: Context, inspection: "Inspection") -> "Iterator[Finding]":
        from muniment_plugins.sinks.mongodb.verify import verify

        with contextlib.closing(self._found(ctx)) as connection, connection.translated():
            yield from verify(connection, inspection)

    def proof_files(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        from muniment.sinks.database_manifests import proof_files
        from muniment_plugins.sinks.mongodb.manifests import ManifestCollections

        with contextlib.closing(self._found(ctx)) as connection, connection.translated():
            store = ManifestCollections(connection)
            yield from proof_files(store.entries(), store.receipts())

    def history(self, ctx: Context) -> History | None:
        from muniment_plugins.sinks.mongodb.ledger import Ledger

        try:
            connection = self._found(ctx)
        except InputError:
            return None
        with contextlib.closing(connection):
            ledger = Ledger(connection)
            checkpoints, entries = ledger.checkpoints().values(), ledger.quarantined()
            return History(connection.place, tuple(ledger.runs()), tuple(checkpoints), tuple(entries))

    def _found(self, ctx: Context) -> "Connection":
        """Return a connection to an archive that is there already, for reading.

        Raises:
            InputError: there is none.
        """
        from muniment_plugins.sinks.mongodb.connection import check_meta

        connection = retry(lambda: self.connect(ctx))
        try:
            with connection.translated():
                if not check_meta(connection):
                    raise InputError(f"there is no archive in `{connection.place}`; check `database` and the prefix")
        except BaseException:
            connection.close()
            raise
        return connection

    def open_known(self, ctx: Context) -> Known | None:
        from muniment_plugins.sinks.mongodb.read import MongoKnown

        known = MongoKnown(retry(lambda: self.connect(ctx)))
        if known.is_empty():
            # What this run itself adds is found by the writer.
            known.close()
            return None
        return known


class _MongoWriter(Writer):
    """Collects a unit and commits it at its end."""

    def __init__(self, sink: MongoDB, ctx: Context) -> None:
        from muniment_plugins.sinks.mongodb.archive import Archive

        self._ctx = ctx
        self._connection = sink.connect(ctx)
        try:
            self._archive = Archive(self._connection, ctx, open_signer(sink.proof, ctx))
        except BaseException:
            self._connection.close()
            raise

    def write(self, payload: Any) -> Receipt:
        return self._archive.write(payload, self._ctx.open_asset)

    def seal(self, unit: Unit) -> Prepared:
        return Prepared(self._archive.seal(unit), committed=True)

    def close(self) -> None:
        try:
            self._archive.close()
        finally:
            self._connection.close()


class _MongoTarget(Target):
    """Holds the lease while the run lives."""

    def __init__(self, sink: MongoDB, ctx: Context) -> None:
        from muniment_plugins.sinks.mongodb.blobs import discard_unfinished
        from muniment_plugins.sinks.mongodb.connection import prepare
        from muniment_plugins.sinks.mongodb.lease import Lease
        from muniment_plugins.sinks.mongodb.ledger import Ledger
        from muniment_plugins.sinks.mongodb.manifests import ManifestCollections, adopt

        self._ctx = ctx
        self._signer = open_signer(sink.proof, ctx)
        self._report: Mapping[str, JSON] = {}
        self._connection = sink.connect(ctx)
        self._lease = Lease(self._connection, ctx.run)
        self._ledger = Ledger(self._connection)
        try:
            self._lease.acquire()
            prepare(self._connection, sink)
            discard_unfinished(self._connection)
            self._ledger.begin_run(ctx.run, ctx.pipeline, ctx.path)
            with self._connection.translated():
                self._manifests = Manifests(ManifestCollections(self._connection), ctx, self._signer)
                self._manifests.last()
                adopt(self._connection, ctx, self._signer)
        except BaseException:
            self.close()
            raise

    def committed(self) -> Mapping[str, Checkpoint]:
        with self._connection.translated():
            return self._manifests.confirmed(self._ledger.checkpoints())

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        """Nothing is left to do: the writer's seal has committed."""

    def note_report(self, report: Mapping[str, JSON]) -> None:
        self._report = report

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        from muniment_plugins.sinks.mongodb.lease import Fence as Pass
        from muniment_plugins.sinks.mongodb.manifests import ManifestCollections

        def end(session: Any) -> None:
            Pass(self._connection, run).check(0, session)
            store = ManifestCollections(self._connection, session)
            Manifests(store, self._ctx, self._signer, self._report).append_report(run, exit_code, counts)
            self._ledger.end_run(run, exit_code, counts, session)

        retry(lambda: self._connection.together(end))

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        return self._ledger.quarantined()

    def holds_newer(self, record: Record) -> bool:
        from muniment.versions import is_newer
        from muniment_plugins.sinks.mongodb.read import find_record

        stored = retry(lambda: find_record(self._connection, record.key))
        return stored is not None and is_newer(stored, record)

    def orphans(self) -> Iterator[Orphan]:
        from muniment_plugins.sinks.mongodb.blobs import unfinished

        return (Orphan(f"{u['role']}.chunks/{u['_id']}") for u in unfinished(self._connection))

    def read_back(self) -> Iterator[Record]:
        from muniment_plugins.sinks.mongodb.read import read_records, refuse_damage

        return read_records(self._connection, refuse_damage)

    def survey(self, damaged: Callable[[Damage], None]) -> Iterator[Record]:
        from muniment_plugins.sinks.mongodb.read import read_records

        return read_records(self._connection, damaged)

    def forget(self, missing: Iterable[str], short: Iterable[str], replaced: Sequence[Damage]) -> None:
        # What is missing has no document.
        self._ledger.forget([*short, *(key for damage in replaced for key in damage.keys)])

    def open_asset(self, asset: Asset) -> BinaryIO:
        from muniment_plugins.sinks.mongodb.blobs import Bucket

        return Bucket(self._connection, "assets").open(asset.sha256 or "")

    def close(self) -> None:
        try:
            self._lease.release()
        finally:
            self._connection.close()


def _check_uri(uri: str, *, has_password: bool) -> Iterator[str]:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        # Without a scheme any part of it may be a password, so it is not repeated.
        yield "`uri` begins with `mongodb://` or `mongodb+srv://`"
        return
    user = re.match(r"[^/]*//([^/?]*)@", uri)
    if (user and ":" in user[1]) or _SECRET_OPTIONS.search(uri):
        yield "`uri` holds a secret; leave it out there and say `password: ${secret:env:MONGODB_PASSWORD}`"
    if has_password and not user:
        yield "`password` needs a user: `uri: mongodb://user@host/`"
