"""How is a bucket spoken to?  Single requests; each either succeeds or raises one of this project's errors.

The client library brings credentials, the endpoint and the session.  The requests are those of the documented
JSON API: the library's own uploads send no holds and cannot wait with the end of an upload, and its other
calls ask for the bucket in a thread of their own, which outlives the session.
"""

import json
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from muniment import ConfigError, FatalError, PluginError
from muniment.model import JSON
from muniment.storage import Stored
from muniment_plugins.sinks._marked import ChangedError
from muniment_plugins.sinks._quiet import quieten
from muniment_plugins.sinks.gcs.errors import RefusedError, explain, refusal
from muniment_plugins.sinks.gcs.objects import Found, ObjectOptions

if TYPE_CHECKING:
    from google.cloud.storage import Client

    from muniment_plugins.sinks.gcs import GCS

T = TypeVar("T")

_CONNECT_SECONDS = 10.0
_GOOGLE_DOMAIN = "googleapis.com"


def connect(sink: "GCS") -> "Api":
    """Return a session with the bucket of a sink; nothing is sent yet.

    Raises:
        ConfigError: there are no credentials, or their file cannot be used.
        PluginError: the client library is not installed.
    """
    try:
        import google.auth.exceptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
        from google.oauth2 import service_account
        from requests.adapters import HTTPAdapter
    except ModuleNotFoundError as error:
        raise PluginError(
            f'sink `gcs` needs the module `{error.name}`, which is not installed: pip install "muniment[gcs]"'
        ) from error

    quieten()
    place = sink.place
    credentials: Any = None
    if sink.anonymous:
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    elif sink.credentials_file:
        path = sink.credentials_file.expanduser()
        try:
            credentials = service_account.Credentials.from_service_account_file(str(path))  # type: ignore[no-untyped-call]
        except (OSError, ValueError, google.auth.exceptions.GoogleAuthError) as error:
            raise ConfigError(
                f"`{place}`: `{path}` is not the key of a service account ({type(error).__name__})"
            ) from None
    options = {"api_endpoint": sink.endpoint_url} if sink.endpoint_url else None
    try:
        # Calls on objects need no project, and only some credentials know theirs.
        client = storage.Client(project=sink.project, credentials=credentials, client_options=options)
    except google.auth.exceptions.GoogleAuthError as error:
        raise explain(error, place) from error
    adapter = HTTPAdapter(pool_maxsize=sink.concurrency + 2)
    client._http.mount("https://", adapter)
    client._http.mount("http://", adapter)
    return Api(client, sink.bucket, place, sink.timeout_seconds)


class Api:
    """Requests about the objects of one bucket.  Thread-safe.

    Raises, from every method:
        UnclearError: it failed for the moment; whether it was carried out is not known.
        ChangedError: a precondition does not hold.
        FatalError: anything else.
    """

    def __init__(self, client: "Client", bucket: str, place: str, timeout_seconds: float) -> None:
        self.place = place
        self._client = client
        self._timeout = (_CONNECT_SECONDS, timeout_seconds)
        self._base = client.api_endpoint.rstrip("/")
        self._path = f"b/{quote(bucket, safe='')}/o"

    @property
    def is_google(self) -> bool:
        """Whether it is the service itself, which keeps to preconditions."""
        host = urlsplit(self._base).hostname or ""
        return host == _GOOGLE_DOMAIN or host.endswith(f".{_GOOGLE_DOMAIN}")

    def close(self) -> None:
        self._client.close()

    # --- objects ----------------------------------------------------------------------------

    def find(self, name: str) -> Found | None:
        """Return what is known of an object; None where there is none."""

        def call() -> Found | None:
            response = self._send("GET", f"{self._base}/storage/v1/{self._path}/{quote(name, safe='')}")
            if response.status_code == 404 and "bucket does not exist" not in refusal(response).message:
                return None
            return Found.of(_checked(response).json())

        return self._translated(call, name, "storage.objects.get")

    def listing(self, prefix: str, page: str = "") -> tuple[list[Stored], str]:
        """Return some of the objects below a prefix, and where the next page begins; empty at the end."""

        def call() -> tuple[list[Stored], str]:
            params = {"prefix": prefix, "fields": "items(name,size),nextPageToken"}
            if page:
                params["pageToken"] = page
            found = _checked(self._send("GET", f"{self._base}/storage/v1/{self._path}", params=params)).json()
            return [Stored(o["name"], int(o["size"])) for o in found.get("items", ())], found.get("nextPageToken", "")

        return self._translated(call, "", "storage.objects.list")

    def delete(self, name: str, version: str) -> None:
        """Remove one version of an object; harmless where it is gone."""

        def call() -> None:
            url = f"{self._base}/storage/v1/{self._path}/{quote(name, safe='')}"
            response = self._send("DELETE", url, params={"ifGenerationMatch": version})
            if response.status_code != 404:
                _checked(response)

        self._translated(call, name, "storage.objects.delete")

    def read(self, name: str, *, start: int = 0, version: str = "") -> Any:
        """Return a response whose ``raw`` gives the bytes from ``start`` on; None where there is no object."""

        def call() -> Any:
            # What the store holds compressed comes as it is held: anything else has another checksum.
            headers = {"Accept-Encoding": "gzip"} | ({"Range": f"bytes={start}-"} if start else {})
            params: dict[str, Any] = {"alt": "media"}
            if version:
                params["generation"] = version
            url = f"{self._base}/download/storage/v1/{self._path}/{quote(name, safe='')}"
            response = self._send("GET", url, params=params, headers=headers, stream=True)
            if response.status_code == 404:
                response.close()
                return None
            return _checked(response)

        return self._translated(call, name, "storage.objects.get")

    # --- uploads ----------------------------------------------------------------------------

    def insert(
        self, name: str, data: bytes, crc32c: str, options: ObjectOptions, mark: str, version: str | None
    ) -> Found:
        """Upload a small object in one request; ``version`` is what it replaces (`ABSENT`: nothing, None: anything)."""

        def call() -> Found:
            resource = {**options.resource(name, mark), "crc32c": crc32c}
            boundary = secrets.token_hex(16)
            body = b"".join(
                (
                    f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                    json.dumps(resource).encode(),
                    f"\r\n--{boundary}\r\nContent-Type: {resource['contentType']}\r\n\r\n".encode(),
                    data,
                    f"\r\n--{boundary}--\r\n".encode(),
                )
            )
            headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
            params = self._upload_params("multipart", options, version)
            url = f"{self._base}/upload/storage/v1/{self._path}"
            return Found.of(_checked(self._send("POST", url, params=params, headers=headers, data=body)).json())

        return self._translated(call, name, "storage.objects.create")

    def start(self, name: str, options: ObjectOptions, mark: str, version: str) -> str:
        """Begin a resumable upload and return the address of its session, good for a week."""

        def call() -> str:
            resource = options.resource(name, mark)
            # Some servers take the name from the address alone.
            params = {**self._upload_params("resumable", options, version), "name": name}
            headers = {"X-Upload-Content-Type": str(resource["contentType"])}
            url = f"{self._base}/upload/storage/v1/{self._path}"
            return str(
                _checked(self._send("POST", url, params=params, headers=headers, json=resource)).headers["Location"]
            )

        return self._translated(call, name, "storage.objects.create")

    def put(self, session: str, name: str, data: bytes, headers: dict[str, str]) -> Any:
        """Send to a session; return the response, of status 200 or 308 (go on)."""

        def call() -> Any:
            response = self._send("PUT", session, data=data, headers=headers)
            return response if response.status_code == 308 else _checked(response)

        return self._translated(call, name, "storage.objects.create", session_of=name)

    def cancel(self, session: str, name: str) -> None:
        """End an upload that is not wanted; harmless where it has ended."""

        def call() -> None:
            response = self._send("DELETE", session, headers={"Content-Length": "0"})
            if response.status_code in (429, 503):
                _checked(response)

        self._translated(call, name, "storage.objects.create")

    # --- requests ---------------------------------------------------------------------------

    def _upload_params(self, kind: str, options: ObjectOptions, version: str | None) -> dict[str, JSON]:
        params: dict[str, JSON] = {"uploadType": kind}
        if version is not None:
            params["ifGenerationMatch"] = version or "0"
        if options.kms_key_name:
            params["kmsKeyName"] = options.kms_key_name
        return params

    def _send(self, method: str, url: str, **options: Any) -> Any:
        return self._client._http.request(method, url, timeout=self._timeout, allow_redirects=False, **options)

    def _translated(self, call: Callable[[], T], name: str, permission: str, *, session_of: str = "") -> T:
        try:
            return call()
        except Exception as error:
            status = error.status if isinstance(error, RefusedError) else 0
            if status == 412:
                raise ChangedError(name) from None
            if session_of and status in (404, 410):
                raise SessionGoneError(
                    f"`{self.place}`: the upload of `{session_of}` is not known any more; run the same command"
                    " again to resume"
                ) from None
            translated = explain(error, self.place, name, permission)
            if translated is error:
                raise
            # The address in what the libraries raise is that of the session.
            raise translated from None


class SessionGoneError(FatalError):
    """A resumable upload has ended, with its object or without."""


def _checked(response: Any) -> Any:
    if response.status_code >= 300:
        raise refusal(response)
    return response
