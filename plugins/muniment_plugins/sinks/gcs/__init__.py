"""Store conversations in Google Cloud Storage."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from muniment import Context, Target, option
from muniment.sinks.objects import ObjectSink
from muniment_plugins.sinks._remote import lock_remote, remote_state_path, to_prefix
from muniment_plugins.sinks._retention import Retention

if TYPE_CHECKING:
    from muniment_plugins.sinks.gcs.objects import ObjectOptions
    from muniment_plugins.sinks.gcs.storage import GCSStorage

GRAIN = 256 * 2**10
"""What the size of every chunk of a resumable upload, but the last, is a multiple of."""


@frozen(kw_only=True)
class GCS(ObjectSink):
    """A bucket of Google Cloud Storage, or a part of one below a prefix.

    Large objects are uploaded in resumable sessions that are completed when their unit is committed:
    until then nothing is visible, and what a killed run left goes away by itself.
    """

    bucket: str = option("The bucket's name, without `gs://`.", identity=False, example="my-archive")
    prefix: str = option(
        "What the names of all objects begin with.", default="", converter=to_prefix, identity=False, example="chats/"
    )
    project: str | None = option(
        "The project; by default that of the credentials.", default=None, identity=False, example="my-project"
    )
    credentials_file: Path | None = option(
        "The key file of a service account; by default Application Default Credentials.",
        default=None,
        is_path=True,
        example="./service-account.json",
    )
    anonymous: bool = option("Send no credentials: for emulators.", default=False, identity=False)
    endpoint_url: str | None = option(
        "Another endpoint than Google's: an emulator, a private endpoint.",
        default=None,
        identity=False,
        example="http://127.0.0.1:4443",
    )
    conditional_writes: Literal["require", "auto", "off"] = option(
        "require: refuse a store that does not honour `ifGenerationMatch`; auto: write to it all the same, which is"
        " safe while one machine writes; off: as if it did not, without asking.  Google's own is not asked.",
        default="require",
        identity=False,
    )
    storage_class: Literal["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"] | None = option(
        "The storage class of new objects; by default that of the bucket.", default=None, identity=False
    )
    kms_key_name: str | None = option(
        "The Cloud KMS key that encrypts new objects; by default that of the bucket.",
        default=None,
        identity=False,
        example="projects/p/locations/europe/keyRings/r/cryptoKeys/k",
    )
    object_lock: Retention | None = option(
        "How long nobody can remove or replace an object; a retention policy of the bucket holds without it.",
        default=None,
        identity=False,
        example={"mode": "unlocked", "retain_days": 2555},
    )
    temporary_hold: bool = option("Put a temporary hold on new objects.", default=False, identity=False)
    event_based_hold: bool = option("Put an event-based hold on new objects.", default=False, identity=False)
    metadata: Mapping[str, str] = option("Custom metadata of new objects.", factory=dict, identity=False)
    part_bytes: int = option(
        "Size of the chunks of large uploads, in bytes: a multiple of 262144.", default=8 * 2**20, identity=False
    )
    concurrency: int = option("How many requests may run at one time.", default=8, identity=False)
    timeout_seconds: float = option("How long an answer may take.", default=60.0, identity=False)

    def check(self) -> Iterable[str]:
        yield from super().check()
        if "/" in self.bucket or not self.bucket:
            yield "`bucket` is a name alone, such as `my-archive`; what follows it is the `prefix`"
        if self.part_bytes < GRAIN or self.part_bytes % GRAIN:
            yield f"`part_bytes` must be a multiple of {GRAIN}"
        if self.concurrency < 1:
            yield "`concurrency` must be at least 1"
        if self.anonymous and self.credentials_file:
            yield "`anonymous` and `credentials_file` exclude each other"
        if self.object_lock and (problem := self.object_lock.problem()):
            yield problem
        if self.keeps and self.layout.mode != "append":
            yield f"`mode: {self.layout.mode}` replaces objects, which {self.keeps} forbids; use `mode: append`"

    @property
    def keeps(self) -> str:
        """The option by which no object can be replaced; empty where they can."""
        options = ("object_lock", "temporary_hold", "event_based_hold")
        return next((f"`{name}`" for name in options if getattr(self, name)), "")

    @property
    def guarantee(self) -> str:
        if self.conditional_writes == "require" or self.layout.mode == "snapshot":
            return "effectively once"
        return "effectively once; only while one machine writes, where the store ignores conditional writes"

    def storage(self) -> "GCSStorage":
        from muniment_plugins.sinks.gcs.client import connect
        from muniment_plugins.sinks.gcs.storage import GCSStorage

        return GCSStorage(
            connect(self),
            self.prefix,
            options=self._object_options,
            part_bytes=self.part_bytes,
            concurrency=self.concurrency,
            conditional_writes=self.conditional_writes,
            # To replace an object takes the right to delete it, which adding to an archive should not need.
            replaces=not self.keeps and (self.latest or self.layout.mode != "append"),
        )

    def open_target(self, ctx: Context) -> Target:
        # Not `lock_path`: with a lock the base removes what dead runs left, and of the runs on other
        # machines nobody here knows which are dead.
        lock = lock_remote(self.state_path(ctx), self.place)
        try:
            target = super().open_target(ctx)
        except BaseException:
            lock.release()
            raise
        storage: GCSStorage = target.storage  # type: ignore[attr-defined]
        storage.at_close(lock.release)
        try:
            if self.layout.mode != "snapshot":
                storage.check_conditions()
        except BaseException:
            target.close()
            raise
        return target

    @property
    def place(self) -> str:
        """What messages call the place."""
        return f"gs://{self.bucket}/{self.prefix}"

    def state_path(self, ctx: Context) -> Path:
        return remote_state_path(ctx, "gcs", self.endpoint_url or "", self.bucket, self.prefix)

    def snapshot_name(self) -> str:
        return f"snapshot{self.make_format().suffix}{self.layout.ending}"

    def _object_options(self) -> "ObjectOptions":
        from muniment_plugins.sinks.gcs.objects import ObjectOptions

        return ObjectOptions(
            storage_class=self.storage_class,
            kms_key_name=self.kms_key_name,
            retention_mode=self.object_lock.mode.capitalize() if self.object_lock else "",
            retain_until=self.object_lock.until() if self.object_lock else None,
            temporary_hold=self.temporary_hold,
            event_based_hold=self.event_based_hold,
            metadata=dict(self.metadata),
        )
