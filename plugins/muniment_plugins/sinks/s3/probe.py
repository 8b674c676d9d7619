"""Does a store honour conditional writes, and does the bucket lock what is written?

Asked at the start of a run, since some stores ignore ``If-None-Match: *`` without a word (rclone, JuiceFS), some
refuse it (Swift) and some know it in one call only (Ceph).  Nothing is left behind.
"""

import secrets
from contextlib import suppress
from typing import Any

from attrs import frozen

from muniment.errors import FatalError
from muniment_plugins.sinks.s3.checksums import Checksum
from muniment_plugins.sinks.s3.client import PROBE_ATTEMPTS, Bucket, RefusedError
from muniment_plugins.sinks.s3.read import open_object
from muniment_plugins.sinks.s3.settings import OWN, ObjectSettings

_FIRST_MANIFEST = f"{OWN}manifests/00000001.json"
_NO_LOCK = ("ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound", "404")
_UNKNOWN_LOCK = ("501", "NotImplemented", "405", "MethodNotAllowed", "403", "AccessDenied", "InvalidRequest", "400")
_TAKEN = ("412", "PreconditionFailed")
_UNKNOWN = ("501", "NotImplemented")
_DENIED = ("403", "AccessDenied")


@frozen
class LockFindings:
    """Whether a bucket can lock objects (None: it does not say), and for how long it does by default."""

    enabled: bool | None
    default: str = ""


@frozen
class ConditionFindings:
    """Which calls honour ``If-None-Match: *``.  ``put`` is None where asking would leave something behind."""

    put: bool | None
    complete: bool


def find_lock(bucket: Bucket) -> LockFindings:
    """Return what the bucket says about object lock.  It is the first call of a run, and fails soon.

    Raises:
        TransientError, FatalError: the bucket cannot be used; the message says why.
    """
    allow = (*_NO_LOCK, *_UNKNOWN_LOCK)
    try:
        answer = bucket.call("get_object_lock_configuration", allow=allow, attempts=PROBE_ATTEMPTS)
    except RefusedError as refused:
        return LockFindings(False if refused.code in _NO_LOCK else None)
    found = answer.get("ObjectLockConfiguration") or {}
    rule = (found.get("Rule") or {}).get("DefaultRetention") or {}
    length = f"{rule['Days']} days" if rule.get("Days") else f"{rule['Years']} years" if rule.get("Years") else ""
    return LockFindings(found.get("ObjectLockEnabled") == "Enabled", length)


def find_conditions(
    bucket: Bucket, checksum: Checksum, settings: ObjectSettings, lock: LockFindings
) -> ConditionFindings:
    """Ask by writing over something that exists, with the very bytes that it holds.

    That is the first manifest, so that even a store which ignores the condition changes nothing; in a new
    place it is an object of the probe's own, removed at the end.  A bucket with a default retention
    would keep that one, so there the first manifest is asked about when it has been written.
    """
    probe = _Probe(bucket, checksum, settings)
    manifest = bucket.prefix + _FIRST_MANIFEST
    try:
        with open_object(bucket, manifest, _FIRST_MANIFEST) as stream:
            data = stream.read()
    except FileNotFoundError:
        if lock.default:
            return ConditionFindings(None, complete=False)
        return probe.on_own_object()
    try:
        put = probe.put(manifest, data)
        return ConditionFindings(put, put and probe.complete(manifest, data))
    except RefusedError:
        # Who may only read has nothing to fear from the condition: the first write says what is missing.
        return ConditionFindings(put=True, complete=True)


def honours(bucket: Bucket, checksum: Checksum, settings: ObjectSettings, name: str, data: bytes) -> bool:
    """Say whether the store refuses to write ``data`` over the object ``name``, which holds it."""
    return _Probe(bucket, checksum, settings).put(bucket.prefix + name, data)


class _Probe:
    def __init__(self, bucket: Bucket, checksum: Checksum, settings: ObjectSettings) -> None:
        self._bucket = bucket
        self._checksum = checksum
        self._parameters: dict[str, Any] = {**settings.of(_FIRST_MANIFEST, locked=False), **bucket.customer}
        self._version = ""

    def on_own_object(self) -> ConditionFindings:
        key, data = f"{self._bucket.prefix}{OWN}probe-{secrets.token_hex(8)}", b"A probe of conditional writes.\n"
        try:
            first = self._put(key, data)
            second = self._put(key, data) if first else None
            complete = self.complete(key, data) if second is False else False
        finally:
            self._remove(key)
        return ConditionFindings(second is False, complete)

    def put(self, key: str, data: bytes) -> bool:
        return self._put(key, data, keep=True) is False

    def complete(self, key: str, data: bytes) -> bool:
        """Say whether CompleteMultipartUpload refuses to replace the object at ``key``, which holds ``data``."""
        kind = self._checksum
        call = self._bucket.call
        upload = call(
            "create_multipart_upload",
            Key=key,
            **kind.begin,
            **self._parameters,
        )["UploadId"]
        try:
            checksum = kind.of(data)
            part = call(
                "upload_part",
                Key=key,
                UploadId=upload,
                PartNumber=1,
                Body=data,
                **kind.given(checksum),
                **self._bucket.customer,
            )
            call(
                "complete_multipart_upload",
                allow=(*_TAKEN, *_UNKNOWN),
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"], kind.field: checksum}]},
                IfNoneMatch="*",
                **kind.end(checksum),
            )
        except RefusedError as refused:
            return refused.code in _TAKEN
        finally:
            with suppress(RefusedError):
                call("abort_multipart_upload", allow=("NoSuchUpload", "404"), Key=key, UploadId=upload)
        return False

    def _put(self, key: str, data: bytes, *, keep: bool = False) -> bool | None:
        """Put under the condition; say whether the store wrote, None where it knows no conditions.

        Raises:
            RefusedError: an object that is there to ``keep`` may not be written.
        """
        try:
            answer = self._bucket.call(
                "put_object",
                allow=(*_TAKEN, *_UNKNOWN, *(_DENIED if keep else ())),
                Key=key,
                Body=data,
                IfNoneMatch="*",
                **self._checksum.given(self._checksum.of(data)),
                **self._parameters,
            )
        except RefusedError as refused:
            if refused.code in _DENIED:
                raise
            return False if refused.code in _TAKEN else None
        self._version = answer.get("VersionId", "")
        return True

    def _remove(self, key: str) -> None:
        # By its version, where there is one: else a versioned bucket would keep it behind a marker.
        version: dict[str, Any] = {"VersionId": self._version} if self._version not in ("", "null") else {}
        try:
            self._bucket.call("delete_object", Key=key, **version)
        except FatalError:
            if not version:
                raise
            self._bucket.call("delete_object", Key=key)
