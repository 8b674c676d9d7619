"""Store conversations in Azure Blob Storage."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from muniment import Context, Secret, Target, option
from muniment.sinks.objects import ObjectSink
from muniment_plugins.sinks._remote import lock_remote, remote_state_path, to_prefix
from muniment_plugins.sinks._retention import Retention

if TYPE_CHECKING:
    from muniment_plugins.sinks.azure_blob.client import BlobOptions
    from muniment_plugins.sinks.azure_blob.storage import AzureStorage

_MAX_BLOCK_BYTES = 4000 * 2**20


@frozen(kw_only=True)
class BlobLock(Retention):
    """A retention, a legal hold, or both."""

    legal_hold: bool = option("Keep objects until the hold is taken away, whatever the retention.", default=False)

    @property
    def holds_only(self) -> bool:
        """Whether there is a legal hold, and no time."""
        return self.legal_hold and self.retain_days is None and self.retain_until is None

    def problem(self) -> str:
        return "" if self.holds_only else super().problem()


@frozen(kw_only=True)
class AzureBlob(ObjectSink):
    """A container of Azure Blob Storage, or a part of one below a prefix.

    Large objects are sent as blocks that nobody sees until their unit is committed; Azure removes those of
    a killed run after a week.
    """

    account_url: str | None = option(
        "The account's address; not needed with a `connection_string`.",
        default=None,
        identity=False,
        example="https://myaccount.blob.core.windows.net",
    )
    container: str = option("The container's name.", identity=False, example="archive")
    prefix: str = option(
        "What the names of all objects begin with.", default="", converter=to_prefix, identity=False, example="chats/"
    )
    connection_string: Secret | None = option(
        "Account and key in one text, as the portal shows it.",
        default=None,
        identity=False,
        example="${secret:env:AZURE_STORAGE_CONNECTION_STRING}",
    )
    account_key: Secret | None = option("A key of the account.", default=None, identity=False)
    sas_token: Secret | None = option("A shared access signature.", default=None, identity=False)
    access_tier: Literal["Hot", "Cool", "Cold", "Archive"] | None = option(
        "The access tier of new objects; by default that of the account.  Manifests stay in the account's.",
        default=None,
        identity=False,
    )
    encryption_scope: str | None = option(
        "The encryption scope of new objects; by default that of the container.", default=None, identity=False
    )
    object_lock: BlobLock | None = option(
        "How long nobody can remove or replace an object; a policy of the container holds without it.",
        default=None,
        identity=False,
        example={"mode": "unlocked", "retain_days": 2555},
    )
    metadata: Mapping[str, str] = option("Metadata of new objects.", factory=dict, identity=False)
    part_bytes: int = option("Size of the blocks of large objects, in bytes.", default=8 * 2**20, identity=False)
    concurrency: int = option("How many requests may run at one time.", default=8, identity=False)
    timeout_seconds: float = option("How long an answer may take.", default=60.0, identity=False)

    def check(self) -> Iterable[str]:
        yield from super().check()
        if (self.account_url is None) == (self.connection_string is None):
            yield "either `account_url` or `connection_string` is needed, not both"
        keys = [k for k in ("connection_string", "account_key", "sas_token") if getattr(self, k) is not None]
        if len(keys) > 1:
            yield f"`{keys[0]}` and `{keys[1]}` exclude each other"
        if not 2**16 <= self.part_bytes <= _MAX_BLOCK_BYTES:
            yield f"`part_bytes` must be between {2**16} and {_MAX_BLOCK_BYTES}"
        if self.concurrency < 1:
            yield "`concurrency` must be at least 1"
        if wrong := next((k for k in self.metadata if not k.isidentifier() or not k.isascii()), None):
            yield f"`metadata`: `{wrong}` is no key that Azure takes; use letters, digits and `_`"
        if self.object_lock:
            if problem := self.object_lock.problem():
                yield problem
            if self.layout.mode != "append":
                mode = self.layout.mode
                yield f"`object_lock` cannot go with `mode: {mode}`, which replaces objects; use `mode: append`"

    def storage(self) -> "AzureStorage":
        from muniment_plugins.sinks.azure_blob.client import connect
        from muniment_plugins.sinks.azure_blob.storage import AzureStorage

        return AzureStorage(
            connect(self),
            self.prefix,
            options=self._blob_options,
            part_bytes=self.part_bytes,
            concurrency=self.concurrency,
            replaces=self.object_lock is None,
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
        storage: AzureStorage = target.storage  # type: ignore[attr-defined]
        storage.at_close(lock.release)
        return target

    @property
    def place(self) -> str:
        """What messages call the place."""
        return f"azure container {self.container}/{self.prefix}"

    def state_path(self, ctx: Context) -> Path:
        # A connection string names the account, but its value stays where it is.
        account = self.account_url or (self.connection_string.reference if self.connection_string else "")
        return remote_state_path(ctx, "azure", account, self.container, self.prefix)

    def snapshot_name(self) -> str:
        return f"snapshot{self.make_format().suffix}{self.layout.ending}"

    def _blob_options(self) -> "BlobOptions":
        from muniment_plugins.sinks.azure_blob.client import BlobOptions

        lock = self.object_lock
        until = lock.until() if lock and not lock.holds_only else None
        return BlobOptions(
            access_tier=self.access_tier,
            encryption_scope=self.encryption_scope,
            retention_mode=lock.mode.capitalize() if lock else "",
            retain_until=until,
            legal_hold=bool(lock and lock.legal_hold),
            metadata=dict(self.metadata),
        )
