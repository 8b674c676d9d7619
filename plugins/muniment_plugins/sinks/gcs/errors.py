"""What does a failed request to Google Cloud Storage mean, and what is to be done?"""

import re
from typing import Any

from muniment import ConfigError, FatalError
from muniment_plugins.sinks._marked import UnclearError

LATER = frozenset({408, 429, 500, 502, 503, 504})
_QUOTA = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"})
_KEPT = frozenset({"retentionPolicyNotMet", "objectUnderActiveHold"})
_PERMISSION = re.compile(r"\b(storage|cloudkms)\.[A-Za-z]+\.[A-Za-z]+\b")


class RefusedError(Exception):
    """An answer that is an error.  Holds nothing of the request: the URL of an upload is a secret."""

    def __init__(self, status: int, reason: str = "", message: str = "", retry_after_seconds: float | None = None):
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{status} {reason}: {message}")


def refusal(response: Any) -> RefusedError:
    """Return what a `requests` response says."""
    reason = message = ""
    try:
        said = response.json()["error"]
        message = str(said.get("message", ""))
        reason = str((said.get("errors") or [{}])[0].get("reason", ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        # An XML or plain answer: of a proxy, or of an emulator.
        found = re.search(r"<Message>(.*?)</Message>", response.text[:2000])
        message = found[1] if found else ""
    return RefusedError(response.status_code, reason, message, _seconds(response.headers.get("Retry-After")))


def explain(error: Exception, place: str, name: str = "", permission: str = "") -> Exception:
    """Return the error of this project for one of the client's libraries, or ``error`` itself if unknown.

    ``permission`` is what the request needs, where the answer does not say it.
    """
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth import exceptions as auth

    where = f"`{place}`" + (f": object `{name}`" if name else "")
    if isinstance(error, GoogleAPICallError) and error.response is not None:
        error = refusal(error.response)
    if isinstance(error, RefusedError):
        return _of_status(error, place, where, permission)
    if isinstance(error, auth.InvalidOperation):
        # Without credentials there is nothing to renew after a 401.
        return _of_status(RefusedError(401), place, where, permission)
    if isinstance(error, auth.DefaultCredentialsError):
        return ConfigError(
            f"{where}: there are no Google credentials: run `gcloud auth application-default login`, or set"
            " `credentials_file` to the key of a service account"
        )
    if isinstance(error, auth.RefreshError) and not error.retryable:
        return FatalError(
            f"{where}: Google refuses the credentials: they have expired or were revoked; run `gcloud auth"
            " application-default login`, or make a new key, then run the same command again"
        )
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY" in str(error):
        return FatalError(
            f"{where}: the certificate of the endpoint is not trusted; set REQUESTS_CA_BUNDLE to the"
            " certificate of its authority"
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return ConfigError(f"{where}: `endpoint_url` is no URL that can be reached; write `https://HOST[:PORT]`")
    network = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, auth.GoogleAuthError, OSError)
    if isinstance(error, network):
        return UnclearError(f"{where} cannot be reached for the moment ({type(error).__name__})")
    return error


def _of_status(error: RefusedError, place: str, where: str, permission: str) -> Exception:
    status, reason = error.status, error.reason
    if status in LATER or (status == 403 and reason in _QUOTA):
        cause = "it limits the rate of requests" if status in (429, 403) else f"it answers {status}"
        return UnclearError(f"{where} is not available for the moment: {cause}", error.retry_after_seconds)
    if status == 401:
        return FatalError(f"{where}: the credentials are not valid (401); renew them, then run the same command again")
    if status == 403 and (reason in _KEPT or "retention" in error.message.lower() or "hold" in error.message.lower()):
        return FatalError(
            f"{where} is kept by a retention policy or a hold, so that it can be neither replaced nor removed;"
            " use `mode: append`"
        )
    if status == 403:
        found = _PERMISSION.search(error.message)
        needed = found[0] if found else permission
        lacks = f"the permission `{needed}`" if needed else "a permission"
        return FatalError(f"{where}: the credentials lack {lacks} (403); grant it, then run the same command again")
    if status == 404:
        return FatalError(f"`{place}`: there is no such bucket, or it is not shown to these credentials; make it first")
    if status == 400 and ("crc32c" in error.message.lower() or "md5" in error.message.lower()):
        return FatalError(f"{where}: the bytes that arrived are not those that were sent; run the same command again")
    said = f": {_brief(error.message)}" if error.message else ""
    return FatalError(f"{where} was refused ({status}{said})")


def _brief(message: str) -> str:
    # Addresses are left out: an upload's address is all that it takes to write to it.
    return " ".join(re.sub(r"https?://\S+", "", message).split())[:200]


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
