"""The sink `s3`: its options, and what a run finds out before it writes."""

import base64
import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import attrs
from attrs import frozen

from muniment import Context, ObjectSink, Target, option
from muniment.errors import ConfigError, FatalError, TransientError
from muniment.secrets import Secret, reveal
from muniment.units import UnitBounds
from muniment_plugins.sinks._remote import lock_remote, remote_state_path, to_prefix
from muniment_plugins.sinks.s3.settings import ObjectLock, ObjectSettings

if TYPE_CHECKING:
    from muniment_plugins.sinks.s3.client import Bucket, Connection
    from muniment_plugins.sinks.s3.probe import ConditionFindings, LockFindings
    from muniment_plugins.sinks.s3.storage import S3Storage

_MIN_PART_BYTES, _MAX_PART_BYTES = 5 * 2**20, 5 * 2**30
_CUSTOMER_KEY_BYTES = 32
_MIRROR_UNIT = UnitBounds(max_bytes=8 * 2**20)

_log = logging.getLogger(__name__)


def _bucket_name(_: Any, __: Any, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}|arn:[^\s]+", name):
        raise ValueError("is no name of a bucket: 3 or more letters, digits, dots and dashes, without `s3://`")


@frozen(kw_only=True)
class S3(ObjectSink):
    """A bucket of Amazon S3, or of a store that speaks its protocol.

    Objects appear whole or not at all, with checksums that the store has verified.  Several machines may
    write to one place: each commit is a manifest that is put only if it is absent, so one of them wins.
    """

    bucket: str = option("The bucket, which must exist.", validator=_bucket_name, identity=False, example="our-archive")
    prefix: str = option(
        "What all keys begin with, as a folder; nothing outside it is read or written.",
        default="",
        converter=to_prefix,
        identity=False,
        example="chats/",
    )
    region: str | None = option("The bucket's region.", default=None, identity=False, example="eu-central-1")
    endpoint_url: str | None = option(
        "The address of a store other than Amazon's.", default=None, identity=False, example="https://s3.example.org"
    )
    path_style: bool = option(
        "Put the bucket into the path, as most stores other than Amazon's want it.", default=False, identity=False
    )
    profile: str | None = option("A profile of ~/.aws/config.", default=None, identity=False)
    access_key_id: Secret | None = option(
        "With `secret_access_key`; without both, all that boto3 knows is tried: environment, profile, SSO, role.",
        default=None,
        identity=False,
        example="${secret:env:S3_ACCESS_KEY_ID}",
    )
    secret_access_key: Secret | None = option(
        "Belongs to `access_key_id`.", default=None, identity=False, example="${secret:env:S3_SECRET_ACCESS_KEY}"
    )
    session_token: Secret | None = option("Of temporary credentials.", default=None, identity=False)
    storage_class: str | None = option(
        "The class of storage of all objects but manifests.", default=None, identity=False, example="STANDARD_IA"
    )
    tags: Mapping[str, str] = option("Tags of every object.", factory=dict, identity=False, example={"team": "legal"})
    requester_pays: bool = option(
        "Agree to pay for requests, where the bucket's owner does not.", default=False, identity=False
    )
    server_side_encryption: Literal["none", "AES256", "aws:kms"] = option(
        "How the store encrypts; none leaves it to the bucket's default.", default="none", identity=False
    )
    kms_key_id: str | None = option(
        "The key for `aws:kms`; without it the account's own.", default=None, identity=False
    )
    customer_key: Secret | None = option(
        "A key that the store uses and forgets (SSE-C): 32 bytes in base64.", default=None, identity=False
    )
    object_lock: ObjectLock | None = option(
        "How long nobody can remove an object; the bucket's own default holds without it.",
        default=None,
        identity=False,
        example={"mode": "governance", "retain_days": 2555},
    )
    conditional_writes: Literal["require", "auto", "off"] = option(
        "require: refuse a store that does not honour `If-None-Match`; auto: write to it all the same, which"
        " is safe while one machine writes; off: as if it did not, without asking.",
        default="require",
        identity=False,
    )
    checksum: Literal["sha256", "crc32c", "crc64nvme"] = option(
        "What the store verifies every object with.", default="sha256", identity=False
    )
    part_bytes: int = option(
        "The size of a part of a large object; an object has 10,000 at most.",
        default=8 * 2**20,
        validator=[attrs.validators.ge(_MIN_PART_BYTES), attrs.validators.le(_MAX_PART_BYTES)],
        identity=False,
    )
    concurrency: int = option(
        "How many parts are in memory, one being filled while the others are sent.",
        default=4,
        validator=[attrs.validators.ge(1), attrs.validators.le(64)],
        identity=False,
    )
    max_attempts: int = option(
        "How often a call is made that the store or the network fails, for two minutes at most.",
        default=8,
        validator=attrs.validators.ge(1),
        identity=False,
    )
    abort_uploads_after_days: float = option(
        "The age at which an unfinished upload below `prefix` counts as abandoned and is aborted, whosever it is.",
        default=3.0,
        validator=attrs.validators.ge(0),
        identity=False,
    )
    ca_bundle: Path | None = option(
        "Certificate authorities to trust instead of the usual ones, a PEM file.", default=None, is_path=True
    )

    def check(self) -> Iterable[str]:
        yield from super().check()
        if (self.access_key_id is None) != (self.secret_access_key is None):
            yield "`access_key_id` and `secret_access_key` belong together"
        if self.session_token and not self.access_key_id:
            yield "`session_token` needs `access_key_id` and `secret_access_key`"
        if self.access_key_id and self.profile:
            yield "`profile` and `access_key_id` exclude each other"
        if self.kms_key_id and self.server_side_encryption != "aws:kms":
            yield "`kms_key_id` needs `server_side_encryption: aws:kms`"
        if self.customer_key and self.server_side_encryption != "none":
            yield "`customer_key` and `server_side_encryption` exclude each other"
        yield from self._check_endpoint()
        if self.object_lock:
            if problem := self.object_lock.problem():
                yield problem
            if self.layout.mode != "append":
                mode = self.layout.mode
                yield f"`object_lock` cannot go with `mode: {mode}`, which replaces objects; use `mode: append`"

    @property
    def guarantee(self) -> str:
        if self.conditional_writes == "require" or self.layout.mode == "snapshot":
            return "effectively once"
        if self.conditional_writes == "auto":
            return "effectively once; only while one machine writes, where the store ignores conditional writes"
        return "effectively once, only while one machine writes"

    # --- what the base asks -----------------------------------------------------------------

    @property
    def unit(self) -> UnitBounds:  # type: ignore[override]
        # The objects of a mirror wait in memory for their commit.
        return _MIRROR_UNIT if self.layout.mode == "mirror" else super().unit

    def storage(self) -> "S3Storage":
        from muniment_plugins.sinks.s3.checksums import checksum
        from muniment_plugins.sinks.s3.storage import S3Storage

        return S3Storage(
            self._bucket(),
            checksum(self.checksum),
            self._settings(),
            part_bytes=self.part_bytes,
            concurrency=self.concurrency,
            abort_after=timedelta(days=self.abort_uploads_after_days),
            locked=self.object_lock is not None,
        )

    def state_path(self, ctx: Context) -> Path:
        return remote_state_path(ctx, "s3", self.endpoint_url or "", self.bucket, self.prefix)

    def snapshot_name(self) -> str:
        return f"snapshot{self.make_format().suffix}{self.layout.ending}"

    def open_target(self, ctx: Context) -> Target:
        # Not `lock_path`: with a lock the base removes what dead runs left, and of the runs on other
        # machines nobody here knows which are dead.
        lock = lock_remote(self.state_path(ctx), f"s3://{self.bucket}/{self.prefix}")
        try:
            retention = self._check_lock()
            conditions = self._find_conditions(retention)
            target = super().open_target(ctx)
        except BaseException:
            lock.release()
            raise
        storage: S3Storage = target.storage  # type: ignore[attr-defined]
        storage.at_close(lock.release)
        storage.locked = storage.locked or bool(retention.default)
        storage.conditional_put = conditions.put is not False
        storage.conditional_complete = conditions.complete
        if conditions.put is None:
            storage.prove(self._prove)
        self._abort_abandoned(storage)
        return target

    # --- what a run finds out before it writes ----------------------------------------------

    def _check_lock(self) -> "LockFindings":
        """Return what the bucket locks by itself.

        Raises:
            ConfigError: that, or the option, does not go with what this sink would do.
        """
        from muniment_plugins.sinks.s3.probe import find_lock

        bucket, own = self._bucket(), self.object_lock
        now = datetime.now(UTC)
        if own and (own.until(now) or now) < now:
            raise ConfigError("`object_lock.retain_until` is over; choose a later time")
        found = find_lock(bucket)
        if own and found.enabled is False:
            raise ConfigError(
                f"{bucket.place} has no object lock; make a bucket with object lock enabled, or leave `object_lock` out"
            )
        if found.default and self.layout.mode != "append":
            raise ConfigError(
                f"{bucket.place} keeps every object for {found.default}, and `mode: {self.layout.mode}` replaces"
                " objects; use `mode: append` or another bucket"
            )
        return found

    def _find_conditions(self, retention: "LockFindings") -> "ConditionFindings":
        from muniment_plugins.sinks.s3.checksums import checksum
        from muniment_plugins.sinks.s3.probe import ConditionFindings, find_conditions

        if self.layout.mode == "snapshot":
            # Its one object replaces the one before without a condition.
            return ConditionFindings(put=True, complete=True)
        if self.conditional_writes == "off":
            return ConditionFindings(put=False, complete=False)
        found = find_conditions(self._bucket(), checksum(self.checksum), self._settings(), retention)
        if found.put is False:
            if self.conditional_writes == "require":
                raise ConfigError(self._ignores)
            _log.warning("%s; going on, since `conditional_writes` is auto", self._ignores)
        return found

    def _prove(self, name: str, data: bytes) -> None:
        from muniment_plugins.sinks.s3.checksums import checksum
        from muniment_plugins.sinks.s3.probe import honours

        if not honours(self._bucket(), checksum(self.checksum), self._settings(), name, data):
            if self.conditional_writes == "require":
                raise FatalError(self._ignores)
            _log.warning("%s; going on, since `conditional_writes` is auto", self._ignores)

    def _abort_abandoned(self, storage: "S3Storage") -> None:
        """Abort uploads that are too old to be somebody's.  A bucket's lifecycle rule may do it instead, so
        whoever lacks the grants for it is not stopped."""
        try:
            for upload in list(storage.staged()):
                storage.delete(upload.name)
        except (FatalError, TransientError) as error:
            _log.info("abandoned uploads stay: %s", error)

    @property
    def _ignores(self) -> str:
        return (
            f"{self._bucket().place} does not honour `If-None-Match: *`, without which two runs at once could lose"
            " what one of them stored; use a store that does, or, where only one machine writes, set"
            " `conditional_writes: auto`"
        )

    # --- what sessions are made of ----------------------------------------------------------

    def _connection(self) -> "Connection":
        from muniment_plugins.sinks.s3.client import Connection

        return Connection(
            region=self.region,
            endpoint_url=self.endpoint_url,
            path_style=self.path_style,
            profile=self.profile,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            session_token=self.session_token,
            ca_bundle=self.ca_bundle,
            concurrency=self.concurrency,
        )

    def _bucket(self) -> "Bucket":
        from muniment_plugins.sinks.s3.client import Bucket

        return Bucket(
            name=self.bucket,
            connection=self._connection(),
            prefix=self.prefix,
            requester_pays=self.requester_pays,
            max_attempts=self.max_attempts,
            customer_key=_key_bytes(self.customer_key) if self.customer_key else None,
        )

    def _settings(self) -> ObjectSettings:
        return ObjectSettings(
            storage_class=self.storage_class,
            tags=self.tags,
            encryption=self.server_side_encryption,
            kms_key_id=self.kms_key_id,
            lock=self.object_lock,
        )

    def _check_endpoint(self) -> Iterable[str]:
        if self.endpoint_url is None:
            return
        try:
            parts = urlsplit(self.endpoint_url)
            found = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            found = False
        if not found:
            yield "`endpoint_url` must look like `https://host:9000`"
        elif parts.username or parts.password:
            yield "`endpoint_url` must not hold credentials; use `access_key_id` and `secret_access_key`"


def _key_bytes(secret: Secret) -> bytes:
    try:
        key = base64.b64decode(reveal(secret), validate=True)
    except ValueError:
        key = b""
    if len(key) != _CUSTOMER_KEY_BYTES:
        place = f"{secret.option}: " if secret.option else ""
        raise ConfigError(f"{place}`customer_key` must be {_CUSTOMER_KEY_BYTES} bytes in base64")
    return key
