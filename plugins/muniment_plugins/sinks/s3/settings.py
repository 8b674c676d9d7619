"""Which parameters go with every object: encryption, class of storage, tags, object lock."""

import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from attrs import field, frozen

from muniment.crypto.frames import KEYS
from muniment.options import option

OWN = ".muniment/"
"""Where manifests stand."""


@frozen(kw_only=True)
class ObjectLock:
    """How long nobody can remove or change an object."""

    mode: Literal["governance", "compliance"] | None = option(
        "governance: who has the grant s3:BypassGovernanceRetention can shorten it; compliance: nobody can.",
        default=None,
    )
    retain_days: int | None = option("How many days an object is kept, from when it is written.", default=None)
    retain_until: datetime | None = option("Until when every object is kept, instead.", default=None)
    legal_hold: bool = option("Keep objects until the hold is taken away, whatever the retention.", default=False)

    def problem(self) -> str:
        """Return what is wrong with the options together, or nothing."""
        said = (self.retain_days is not None) + (self.retain_until is not None)
        if self.mode and said != 1:
            return "`object_lock.mode` needs either `retain_days` or `retain_until`"
        if said and not self.mode:
            return "`object_lock` needs a `mode`: governance or compliance"
        if self.retain_days is not None and self.retain_days < 1:
            return "`object_lock.retain_days` must be at least 1"
        if not self.mode and not self.legal_hold:
            return "`object_lock` needs a `mode` or `legal_hold: true`"
        return ""

    def until(self, now: datetime) -> datetime | None:
        """Return when the retention of an object ends that is written now."""
        if self.retain_days is not None:
            return now + timedelta(days=self.retain_days)
        until = self.retain_until
        return until if until is None or until.tzinfo else until.replace(tzinfo=UTC)


@frozen(kw_only=True)
class ObjectSettings:
    """The parameters of PutObject and CreateMultipartUpload, but for a key of the customer's."""

    storage_class: str | None = None
    tags: Mapping[str, str] = field(factory=dict)
    encryption: str = "none"
    kms_key_id: str | None = None
    lock: ObjectLock | None = None

    def of(self, name: str, *, locked: bool = True) -> dict[str, Any]:
        """Return the parameters of the object ``name``; not ``locked`` for one that is to be removed again."""
        kind, packed = mimetypes.guess_type(name)
        made: dict[str, Any] = {"ContentType": "application/octet-stream" if packed or not kind else kind}
        # Manifests are read by every run: in a class that must be restored first they would stop it.
        if self.storage_class and not name.startswith(OWN):
            made["StorageClass"] = self.storage_class
        if self.tags:
            made["Tagging"] = urlencode(self.tags)
        if self.encryption != "none":
            made["ServerSideEncryption"] = self.encryption
        if self.kms_key_id:
            made["SSEKMSKeyId"] = self.kms_key_id
        # A key that is to be destroyed is never locked.
        return made | (self._lock() if locked and not name.startswith(KEYS) else {})

    def _lock(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self.lock and self.lock.mode:
            made |= {
                "ObjectLockMode": self.lock.mode.upper(),
                "ObjectLockRetainUntilDate": self.lock.until(datetime.now(UTC)),
            }
        if self.lock and self.lock.legal_hold:
            made["ObjectLockLegalHoldStatus"] = "ON"
        return made
