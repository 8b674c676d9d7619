"""What does a failed request to Azure Blob Storage mean, and what is to be done?

Messages never repeat what the client library says in full: its addresses may hold a signature.
"""

from typing import Any

from muniment import FatalError
from muniment_plugins.sinks._marked import UnclearError

_LATER = frozenset({408, 429, 500, 502, 503, 504})
_KEPT = frozenset({"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"})
_KNOWN = {
    "AccountIsDisabled": "the account is disabled; ask its owner",
    "AuthenticationFailed": "the credentials are not valid, or the clock of this machine is wrong; correct them",
    "ContainerBeingDeleted": "the container is being deleted; use another",
    "ContainerNotFound": "there is no such container; make it first, or correct `container`",
    "FeatureVersionMismatch": "the account does not know one of the options",
    "InvalidAuthenticationInfo": "the credentials have expired; renew them",
    "InvalidBlockList": "blocks of an object are gone: another run has written it, or a week has passed",
    "Md5Mismatch": "the bytes that arrived are not those that were sent",
    "OutOfRangeInput": "a name is too short or too long; correct `container` and `prefix`",
}
_ACTION = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"


def code_of(error: BaseException) -> str:
    """Return the code of what the store answered; empty if it gave none."""
    code: Any = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def explain(error: Exception, place: str, name: str = "", action: str = "") -> Exception:
    """Return the error of this project for one of the client library, or ``error`` itself if unknown.

    ``action`` is what the request needs: ``read``, ``write``, ``delete``.
    """
    from azure.core import exceptions as core

    where = f"`{place}`" + (f": object `{name}`" if name else "")
    code, status = code_of(error), getattr(error, "status_code", None)
    if isinstance(error, core.HttpResponseError) and status is not None:
        if status in _LATER or code in ("ServerBusy", "OperationTimedOut"):
            cause = (
                "it limits the rate of requests" if status == 429 or code == "ServerBusy" else f"it answers {status}"
            )
            return UnclearError(f"{where} is not available for the moment: {cause}", _seconds(error))
        if code in _KEPT:
            return FatalError(
                f"{where} is kept by an immutability policy or a legal hold, so that it can be neither replaced nor"
                " removed; use `mode: append`"
            )
        if code in _KNOWN:
            return FatalError(f"{where}: {_KNOWN[code]}, then run the same command again")
        if status in (401, 403):
            return FatalError(
                f"{where}: the credentials are refused ({code or status}); check them, and grant `{_ACTION}/{action}`,"
                " then run the same command again"
            )
        return FatalError(f"{where} was refused ({status} {code}); check the options of the sink".replace(" )", ")"))
    if isinstance(error, core.ClientAuthenticationError):
        return FatalError(
            f"{where}: no credentials could be had ({type(error).__name__}); run `az login`, or set a key"
        )
    if isinstance(error, core.AzureError) and "CERTIFICATE_VERIFY" in str(error):
        return FatalError(
            f"{where}: the certificate of the endpoint is not trusted; set REQUESTS_CA_BUNDLE to the certificate of"
            " its authority"
        )
    if isinstance(error, core.AzureError | OSError):
        return UnclearError(f"{where} cannot be reached for the moment ({type(error).__name__})")
    return error


def _seconds(error: Any) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
