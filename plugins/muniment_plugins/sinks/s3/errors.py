"""What does an error of an S3 store mean, and what is to be done about it?

Messages name the bucket, the action and the remedy.  They never repeat a key's name or what a store
says in free text, except the grant that is missing.
"""

import re
from typing import Any

from muniment.errors import FatalError, MunimentError, TransientError

ACTIONS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "get_object_lock_configuration": "s3:GetBucketObjectLockConfiguration",
    "head_object": "s3:GetObject (and s3:ListBucket, without which a missing object is refused, too)",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
}
"""The grant that each call needs."""

_AGAIN = frozenset((
    "500", "502", "503", "504", "429", "BadDigest", "ConditionalRequestConflict", "InternalError", "OperationAborted",
    "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
    "TooManyRequests", "TooManyRequestsException", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
))  # fmt: skip
"""What may go well at another time.  A digest that does not match is damage on the way."""

_KNOWN = {
    "AccountProblem": "the account has a problem (unpaid, perhaps); ask its owner",
    "EntityTooLarge": "an object is larger than the store takes; make units smaller (`unit: {max_bytes: ...}`)",
    "ExpiredToken": "the session token has expired; log in again, then run the same command again",
    "InvalidAccessKeyId": "it does not know the access key; check `access_key_id`, `profile` or the environment",
    "InvalidBucketState": "the bucket's versioning is suspended, which object lock does not allow; enable it",
    "InvalidObjectState": "the object is in a class of storage that must be restored first; restore it, then try again",
    "InvalidStorageClass": "it does not know this `storage_class`",
    "InvalidToken": "it does not take the session token; log in again, or correct `session_token`",
    "InvalidTag": "it does not take these `tags`",
    "KMS.DisabledException": "the KMS key is disabled; enable it or name another `kms_key_id`",
    "KMS.NotFoundException": "there is no such KMS key in this region; correct `kms_key_id`",
    "NoSuchBucket": "there is no such bucket; make it first, or correct `bucket`, `region` and `endpoint_url`",
    "NoSuchUpload": "an upload is gone, aborted by a lifecycle rule perhaps; run the same command again to resume",
    "NotImplemented": "it does not implement this call",
    "QuotaExceeded": "its quota is used up; free some space, then run the same command again to resume",
    "RequestTimeTooSkewed": "its clock and this machine's differ too much; set this machine's clock (NTP)",
    "SignatureDoesNotMatch": "the secret access key is wrong; check `secret_access_key`, `profile` or the environment",
    "TokenRefreshRequired": "the session token has expired; log in again, then run the same command again",
    "XMinioStorageFull": "it is full; free some space, then run the same command again to resume",
}

_ELSEWHERE = frozenset((
    "301", "307", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect",
))  # fmt: skip
_DENIED = frozenset(("401", "403", "AccessDenied", "AllAccessDisabled", "Forbidden", "Unauthorized"))
_GRANT = re.compile(r"not authorized to perform: ([A-Za-z0-9-]+:[A-Za-z0-9]+)")


def code_of(error: BaseException) -> str:
    """Return the code of what a store answered, the HTTP status where it gave none; empty if it gave no answer."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code") or "")
    if code in ("", "Unknown"):
        code = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or "")
    return code


def explain(error: Exception, place: str, operation: str) -> MunimentError:
    """Return what ``error``, raised by boto3's ``operation`` at ``place`` (bucket `b`), means.

    A `TransientError` is worth another attempt.
    """
    if getattr(error, "response", None):
        return _explain_answer(error, place, operation)
    return _explain_silence(error, place)


def _explain_answer(error: Exception, place: str, operation: str) -> MunimentError:
    response: dict[str, Any] = error.response  # type: ignore[attr-defined]
    code, said = code_of(error), str(response.get("Error", {}).get("Message") or "")
    metadata = response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    # Before the status: a store that is told to slow down may answer with any.
    if code in _AGAIN or (metadata.get("HTTPStatusCode", 0) >= 500 and code != "NotImplemented"):
        return TransientError(f"{place} is busy or failing for the moment ({code})", _seconds(headers))
    if code in _KNOWN:
        return FatalError(f"{place}: {_KNOWN[code]}")
    if code in _DENIED:
        found = _GRANT.search(said)
        action = found[1] if found else ACTIONS.get(operation, operation)
        hint = "; it may be the key's own policy: kms:GenerateDataKey and kms:Decrypt" if "kms" in said.lower() else ""
        return FatalError(f"{place} refuses {action}; grant it to these credentials{hint}")
    if code in _ELSEWHERE:
        region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
        of = f" `region: {region}`" if region else " the `region` of the bucket"
        return FatalError(f"{place} is in another region; set{of}")
    if code == "InvalidRequest" and "lock" in said.lower():
        return FatalError(f"{place} has no object lock; make a bucket with object lock enabled, or leave it out")
    if code == "400" and operation in ("get_object", "head_object"):
        return FatalError(
            f"{place} cannot give an object back with this `customer_key`; use the one it was stored with"
        )
    number = headers.get("x-amz-request-id", "")
    trace = f" (request {number})" if number else ""
    return FatalError(f"{place} refuses {operation} with `{code}`{trace}; check the options of the sink")


def _explain_silence(error: Exception, place: str) -> MunimentError:
    from botocore import exceptions as known

    if isinstance(error, known.SSLError):
        return FatalError(
            f"{place} cannot be trusted: TLS failed; name the store's certificate authority with `ca_bundle`, or"
            " correct `endpoint_url`"
        )
    if isinstance(error, known.ParamValidationError):
        # Its own text repeats the values, of which one may be a key.
        return FatalError(f"{place}: an option has a form that S3 does not know; check the options of the sink")
    if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError):
        return FatalError(
            f"{place}: there are no credentials; set `access_key_id` and `secret_access_key`, `profile`, or"
            " what boto3 looks for (environment, ~/.aws, the machine's role)"
        )
    if isinstance(error, known.ProfileNotFound):
        return FatalError(f"{place}: there is no such `profile` in ~/.aws/config")
    if isinstance(error, known.CredentialRetrievalError | known.TokenRetrievalError | known.SSOError):
        return FatalError(f"{place}: the credentials could not be fetched ({type(error).__name__}); log in again")
    if isinstance(error, known.HTTPClientError | known.ConnectionError | known.IncompleteReadError | OSError):
        return TransientError(
            f"{place} cannot be reached ({type(error).__name__}); check `endpoint_url` and the network, then run"
            " the same command again to resume"
        )
    return FatalError(f"{place} cannot be used ({type(error).__name__}); check the options of the sink")


def _seconds(headers: dict[str, str]) -> float | None:
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:
        return None
