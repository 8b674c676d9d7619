"""Keep conversations in one SQLite file that people can query and search."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

from attrs import frozen

from muniment import (
    Asset,
    Batch,
    Checkpoint,
    Context,
    Counts,
    Fence,
    Known,
    Prepared,
    Receipt,
    Record,
    Target,
    Unit,
    Writer,
)
from muniment.crypto import Encryption, open_keyring
from muniment.lock import TargetLock
from muniment.model import JSON
from muniment.options import option
from muniment.proof import Proof, open_signer
from muniment.sinks.upsert import UpsertSink, UpsertTarget, UpsertWriter
from muniment.units import Damage

if TYPE_CHECKING:
    from muniment.crypto import Keyring, NewHeader
    from muniment.custody import Custody
    from muniment.verification import Finding, Inspection
    from muniment_plugins.sinks.sqlite.archive import Archive
    from muniment_plugins.sinks.sqlite.cover import Cover
    from muniment_plugins.sinks.sqlite.encode import Rows


@frozen(kw_only=True)
class SQLite(UpsertSink):
    """One SQLite file: conversations, messages and parts in tables, full-text search, every byte of the
    raw JSON, images and files inside, earlier versions kept.
    """

    reads_back: ClassVar[bool] = True

    path: str = option("The archive file.", default="archive.db", identity=False, is_path=True)
    fts: Literal["words", "trigram", "none"] | None = option(
        "Full-text index: words (and any substring of Chinese, Japanese and Korean), trigram (also any"
        " substring of three characters; three times larger), or none.  Decided when the archive is made."
        "  Default: words; none where the archive is encrypted.",
        default=None,
        identity=False,
    )
    encryption: Encryption | None = option(
        "Whom the archive is encrypted for, from its beginning or never.",
        default=None,
        identity=False,
        example={"key": "${secret:file:archive.key}"},
    )

    proof: Proof | None = option(
        "Who signs the state of the archive: `key`.",
        default=None,
        identity=False,
        example={"key": "${secret:file:sign.key}"},
    )

    def check(self) -> Iterable[str]:
        if self.encryption is None:
            return
        yield from self.encryption.check()
        if self.encryption.per != "object":
            yield (
                f"`encryption.per: {self.encryption.per}` does not go with `sqlite`, which one key opens; a purge takes"
                " records out of the file anyway"
            )
        if self.fts not in (None, "none"):
            yield (
                f"`fts: {self.fts}` does not go with `encryption`: an index holds the words of every conversation;"
                " leave out one of the two"
            )

    @property
    def index(self) -> str:
        """Which full-text index a new archive gets."""
        return self.fts or ("none" if self.encryption else "words")

    def keyring(self, ctx: Context) -> "Keyring | None":
        """Return the keys that the options name, revealed in this process."""
        return open_keyring(self.encryption, ctx) if self.encryption else None

    def encode(self, batch: Batch) -> list["Rows"]:
        from muniment_plugins.sinks.sqlite.encode import encode

        indexed = self.index != "none"
        return [encode(r, indexed=indexed) for r in batch.records]

    def connect(self, ctx: Context) -> "Archive":
        from muniment_plugins.sinks.sqlite.archive import Archive

        path = Path(self.path)
        signer = open_signer(self.proof, ctx)
        keyring = self.keyring(ctx)
        return Archive(path, fts=self.index, loading=not path.exists(), ctx=ctx, signer=signer, keyring=keyring)

    def begin(self, connection: "Archive") -> None:
        connection.begin()

    def load_checkpoints(self, connection: "Archive") -> Mapping[str, Checkpoint]:
        from muniment_plugins.sinks.sqlite.sound import explained

        with explained(connection.path):
            return connection.manifests.confirmed(connection.ledger.checkpoints())

    def save_unit(self, connection: "Archive", unit: Unit) -> None:
        connection.save_unit(unit)

    def save_end(self, connection: "Archive", run: str, exit_code: int, counts: Counts) -> None:
        from muniment_plugins.sinks.sqlite.sound import explained

        with explained(connection.path):
            connection.save_end(run, exit_code, counts)

    def load_quarantine(self, connection: "Archive") -> Iterator[Mapping[str, JSON]]:
        from muniment_plugins.sinks.sqlite.sound import explained

        with explained(connection.path):
            yield from connection.ledger.quarantined()

    def load_record(self, connection: "Archive", key: str) -> Record | None:
        from muniment_plugins.sinks.sqlite.read import find_record
        from muniment_plugins.sinks.sqlite.sound import explained

        with explained(connection.path):
            return find_record(connection.connection, connection.cover, key)

    def state_path(self, ctx: Context) -> Path:
        return Path(self.path)

    def verify(self, ctx: Context, inspection: "Inspection") -> "Iterator[Finding]":
        from muniment_plugins.sinks.sqlite.verify import verify

        return verify(Path(self.path), inspection, inspection.keyring or self.keyring(ctx))

    def open_custody(self, ctx: Context) -> "Custody":
        from muniment_plugins.sinks.sqlite.purge import SQLiteCustody

        return SQLiteCustody(self, ctx)

    def proof_files(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        from muniment_plugins.sinks.sqlite.manifests import proof_files

        return proof_files(Path(self.path))

    def rewrap(self, ctx: Context, change: "Callable[[BinaryIO], NewHeader]") -> bool:
        from muniment_plugins.sinks.sqlite.vault import change_header

        return change_header(Path(self.path), change)

    def open(self, ctx: Context) -> Writer:
        return _SQLiteWriter(self, ctx)

    def open_target(self, ctx: Context) -> Target:
        return _SQLiteTarget(self, ctx)

    def open_leftovers(self, ctx: Context) -> Target:
        from muniment_plugins.sinks.sqlite.sound import Leftovers

        return Leftovers(Path(self.path))

    def open_known(self, ctx: Context) -> Known | None:
        from muniment_plugins.sinks.sqlite.read import ArchiveKnown

        path = Path(self.path)
        return ArchiveKnown(path, self.keyring(ctx)) if path.exists() else None


class _SQLiteWriter(UpsertWriter):
    def __init__(self, sink: SQLite, ctx: Context) -> None:
        super().__init__(sink, ctx)
        self._ctx = ctx

    def write(self, payload: Any) -> Receipt:
        self._begin()
        archive: Archive = self.connection
        return archive.write(
            payload,
            run=self._ctx.run,
            plan_hash=self._ctx.plan_hash,
            seen=self._ctx.fingerprint,
            on_plan_change=self._ctx.on_plan_change,
            open_asset=self._ctx.open_asset,
        )

    def touch(self, keys: Sequence[str]) -> None:
        from muniment_plugins.sinks.sqlite.sound import explained

        self._begin()
        with explained(self.connection.path):
            self.connection.see(keys, self._ctx.fingerprint)


class _SQLiteTarget(UpsertTarget):
    """Holds the lock; a new archive is loaded whole and appears at the end of the run."""

    def __init__(self, sink: SQLite, ctx: Context) -> None:
        from muniment_plugins.sinks.sqlite.loading import discard_load
        from muniment_plugins.sinks.sqlite.sound import check, explained

        self._path = Path(sink.path)
        self._ctx = ctx
        self._lock = TargetLock(self._path)
        self._lock.acquire()
        try:
            discard_load(self._path)
            self._loading = not self._path.exists()
            super().__init__(sink, ctx)
            archive: Archive = self.connection
            try:
                if not self._loading:
                    check(self._path, archive.connection)
                with explained(self._path):
                    archive.manifests.check()
                    archive.begin()
                    archive.ledger.begin_run(ctx.run, ctx.pipeline, ctx.path)
                    archive.manifests.adopt()
                    archive.commit()
            except BaseException:
                archive.close()
                raise
            if self._loading:
                # The writers fill the file; this handle must not hold its exclusive lock meanwhile.
                archive.close()
        except BaseException:
            self._lock.release()
            raise

    @property
    def whole_run(self) -> bool:
        return self._loading

    def committed(self) -> Mapping[str, Checkpoint]:
        return {} if self._loading else super().committed()

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        return iter(()) if self._loading else super().quarantined()

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        from muniment_plugins.sinks.sqlite.loading import finish_load
        from muniment_plugins.sinks.sqlite.sound import explained

        if self._loading and prepared:
            with explained(self._path):
                finish_load(self.sink.connect(self._ctx))
            self._loading = False
            self.connection = self.sink.connect(self._ctx)

    def note_report(self, report: Mapping[str, JSON]) -> None:
        if not self._loading:
            self.connection.manifests.set_report(report)

    def read_back(self) -> Iterator[Record]:
        from muniment_plugins.sinks.sqlite.read import read_records

        if self._loading:
            return iter(())
        return (record for _, record in read_records(self._path, self._cover))

    def survey(self, damaged: Callable[[Damage], None]) -> Iterator[Record]:
        from muniment_plugins.sinks.sqlite.mend import survey

        return iter(()) if self._loading else survey(self._path, self._cover, damaged)

    def noted(self, key: str) -> str:
        return self._cover.receipt_key(self._cover.key(key))

    def open_asset(self, asset: Asset) -> BinaryIO:
        from muniment_plugins.sinks.sqlite.read import open_asset

        if self._loading:
            raise FileNotFoundError(asset.id)
        return open_asset(self._path, asset.sha256 or "", self._cover)

    @property
    def _cover(self) -> "Cover":
        cover: Cover = self.connection.cover
        return cover

    def mark_absent(self, fingerprint: str, later: Sequence[str]) -> int:
        from muniment_plugins.sinks.sqlite.sound import explained

        if self._loading:
            return 0
        with explained(self._path):
            return int(self.connection.mark_absent(fingerprint, later))

    def forget(self, missing: Iterable[str], short: Iterable[str], replaced: Sequence[Damage]) -> None:
        from muniment_plugins.sinks.sqlite.sound import explained

        if not self._loading:
            with explained(self._path):
                self.connection.forget(missing, short)

    def close(self) -> None:
        from muniment_plugins.sinks.sqlite.loading import discard_load

        try:
            if not self._loading:
                self.connection.settle()
        finally:
            try:
                super().close()
                if self._loading:
                    discard_load(self._path)
            finally:
                self._lock.release()
