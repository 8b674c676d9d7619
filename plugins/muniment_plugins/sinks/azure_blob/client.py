"""How is a container spoken to?  Single requests; each either succeeds or raises one of this project's errors."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import field, frozen

from muniment import ConfigError, PluginError
from muniment.retry import retry
from muniment.secrets import reveal
from muniment.storage import Stored
from muniment_plugins.sinks._marked import MARK, ChangedError
from muniment_plugins.sinks._quiet import quieten
from muniment_plugins.sinks.azure_blob.errors import code_of, explain

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from muniment_plugins.sinks.azure_blob import AzureBlob

T = TypeVar("T")

_CONNECT_SECONDS = 10.0
_CHANGED = ("BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet")
_MISSING = ("BlobNotFound", "ResourceNotFound")


@frozen(kw_only=True)
class BlobOptions:
    """What every new object is given."""

    access_tier: str | None = None
    encryption_scope: str | None = None
    retention_mode: str = "Unlocked"
    retain_until: datetime | None = None
    legal_hold: bool = False
    metadata: Mapping[str, str] = field(factory=dict)

    def arguments(self, name: str, mark: str) -> dict[str, Any]:
        """Return the arguments of the client library."""
        from azure.storage.blob import ContentSettings, ImmutabilityPolicy, StandardBlobTier

        made: dict[str, Any] = {
            "metadata": {**self.metadata, MARK: mark},
            "content_settings": ContentSettings(content_type="application/octet-stream"),
        }
        # Manifests are read by every run: in a tier that must be restored first they would stop it.
        if self.access_tier and "/.muniment/" not in f"/{name}":
            made["standard_blob_tier"] = StandardBlobTier(self.access_tier)
        if self.encryption_scope:
            made["encryption_scope"] = self.encryption_scope
        if self.retain_until is not None:
            made["immutability_policy"] = ImmutabilityPolicy(
                expiry_time=self.retain_until, policy_mode=self.retention_mode
            )
        if self.legal_hold:
            made["legal_hold"] = True
        return made


@frozen
class Found:
    """An object that is in the container; ``version`` is its ETag."""

    version: str
    size: int
    mark: str


def connect(sink: "AzureBlob") -> "Api":
    """Return a session with the container of a sink; nothing is sent yet.

    Raises:
        ConfigError: there are no credentials, or they have no form that Azure knows.
        PluginError: the client library is not installed.
    """
    try:
        from azure.storage.blob import BlobServiceClient
    except ModuleNotFoundError as error:
        raise PluginError(
            f'sink `azure_blob` needs the module `{error.name}`, which is not installed: pip install "muniment[azure]"'
        ) from error
    quieten()
    place = sink.place
    options: dict[str, Any] = {
        # Repeating is this project's own: the library's waits 15 s, and repeats what is not safe to.
        "retry_total": 0,
        "connection_timeout": _CONNECT_SECONDS,
        "read_timeout": sink.timeout_seconds,
        "logging_enable": False,
    }
    try:
        if sink.connection_string is not None:
            service = BlobServiceClient.from_connection_string(reveal(sink.connection_string, place), **options)
        else:
            assert sink.account_url is not None
            service = BlobServiceClient(sink.account_url, credential=_credential(sink, place), **options)
    except (ValueError, TypeError, AttributeError):
        # Its own text may repeat the secret.
        raise ConfigError(f"`{place}`: the connection string, address or key has no form that Azure knows") from None
    return Api(service.get_container_client(sink.container), place)


def _credential(sink: "AzureBlob", place: str) -> Any:
    if sink.account_key is not None:
        return reveal(sink.account_key, place)
    if sink.sas_token is not None:
        from azure.core.credentials import AzureSasCredential

        return AzureSasCredential(reveal(sink.sas_token, place))
    try:
        from azure.identity import DefaultAzureCredential  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError:
        raise ConfigError(
            f"`{place}`: there are no credentials: set `connection_string`, `account_key` or `sas_token`, or install"
            " `azure-identity` to use those of the machine or of `az login`"
        ) from None
    return DefaultAzureCredential()


class Api:
    """Requests about the blobs of one container.  Thread-safe.

    Raises, from every method:
        UnclearError: it failed for the moment; whether it was carried out is not known.
        ChangedError: a precondition does not hold.
        FatalError: anything else.
    """

    def __init__(self, container: "ContainerClient", place: str) -> None:
        self.place = place
        self._container = container

    def close(self) -> None:
        self._container.close()

    def find(self, name: str) -> Found | None:
        """Return what is known of an object; None where there is none."""

        def call() -> Found:
            found = self._container.get_blob_client(name).get_blob_properties()
            return Found(str(found.etag), int(found.size), (found.metadata or {}).get(MARK, ""))

        return self._translated(call, name, "read", missing_is_none=True)

    def listing(
        self, prefix: str, *, uncommitted: bool = False, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Stored]:
        """Yield the objects, or also those of which only blocks are there."""
        include = ["uncommittedblobs"] if uncommitted else None
        pages = self._container.list_blobs(name_starts_with=prefix or None, include=include).by_page()

        def next_page() -> list[Stored] | None:
            page = next(pages, None)
            return None if page is None else [Stored(b.name, int(b.size or 0)) for b in page]

        # The iterator goes on where a page could not be had.
        while (page := retry(lambda: self._translated(next_page, "", "read"), sleep=sleep)) is not None:
            yield from page

    def read(self, name: str, start: int, length: int, version: str) -> tuple[bytes, int, str] | None:
        """Return a range of an object, its size and its version; None where there is no object."""

        def call() -> tuple[bytes, int, str]:
            from azure.core import MatchConditions

            bound: dict[str, Any] = {}
            if version:
                bound = {"etag": version, "match_condition": MatchConditions.IfNotModified}
            blob = self._container.get_blob_client(name)
            got = blob.download_blob(offset=start, length=length, validate_content=True, **bound)
            data = bytes(got.readall())
            # `size` is that of the range; the whole stands behind the slash.
            whole = (got.properties.content_range or "").rpartition("/")[2]
            return data, int(whole) if whole.isdigit() else len(data), str(got.properties.etag)

        try:
            return self._translated(call, name, "read", missing_is_none=True)
        except EmptyError:
            return b"", 0, version

    def delete(self, name: str, version: str) -> None:
        """Remove one version of an object; harmless where it is gone."""

        def call() -> None:
            from azure.core import MatchConditions

            blob = self._container.get_blob_client(name)
            blob.delete_blob(etag=version, match_condition=MatchConditions.IfNotModified)

        self._translated(call, name, "delete", missing_is_none=True)

    def upload(self, name: str, data: bytes, options: BlobOptions, mark: str, version: str | None) -> None:
        """Upload an object in one request; ``version`` is what it replaces (`ABSENT`: nothing, None: anything)."""

        def call() -> None:
            blob = self._container.get_blob_client(name)
            arguments = {**options.arguments(name, mark), **_bound_to(version)}
            blob.upload_blob(data, overwrite=True, validate_content=True, **arguments)

        self._translated(call, name, "write")

    def put_block(self, name: str, block: str, data: bytes, encryption_scope: str | None) -> None:
        """Send a block that nobody sees; the same one twice is one."""

        def call() -> None:
            scope: dict[str, Any] = {"encryption_scope": encryption_scope} if encryption_scope else {}
            blob = self._container.get_blob_client(name)
            blob.stage_block(block, data, length=len(data), validate_content=True, **scope)

        self._translated(call, name, "write")

    def commit(self, name: str, blocks: list[str], options: BlobOptions, mark: str, version: str | None) -> None:
        """Make an object of blocks; the other blocks at its name are gone then."""

        def call() -> None:
            from azure.storage.blob import BlobBlock

            blob = self._container.get_blob_client(name)
            arguments = {**options.arguments(name, mark), **_bound_to(version)}
            blob.commit_block_list([BlobBlock(b) for b in blocks], **arguments)

        self._translated(call, name, "write")

    def _translated(self, call: Callable[[], T], name: str, action: str, *, missing_is_none: bool = False) -> T:
        try:
            return call()
        except Exception as error:
            code = code_of(error)
            if missing_is_none and code in _MISSING:
                return None  # type: ignore[return-value]
            # A HEAD request has an answer without a body, so without a code.
            if missing_is_none and not code and getattr(error, "status_code", 0) == 404:
                return None  # type: ignore[return-value]
            if code == "InvalidRange":
                raise EmptyError(name) from None
            if code in _CHANGED:
                raise ChangedError(name) from None
            translated = explain(error, self.place, name, action)
            if translated is error:
                raise
            # The address in what the library raises may hold a signature.
            raise translated from None


class EmptyError(Exception):
    """There are no bytes in the range that was asked for."""


def _bound_to(version: str | None) -> dict[str, Any]:
    from azure.core import MatchConditions

    if version is None:
        return {}
    if not version:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": version, "match_condition": MatchConditions.IfNotModified}
