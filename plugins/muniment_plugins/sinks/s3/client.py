"""How is a bucket spoken to?  One client per process; every call is repeated, every error explained."""

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from attrs import field, frozen

from muniment.errors import ConfigError, PluginError, TransientError
from muniment.secrets import Secret, reveal
from muniment_plugins.sinks._quiet import quieten
from muniment_plugins.sinks.s3.errors import code_of, explain

MAX_TOTAL_SECONDS = 120.0
"""How long one call may be repeated."""
PROBE_ATTEMPTS = 3
"""How often the first calls of a run are repeated, so that a wrong address is told soon."""
WORKERS_PER_PART = 4
"""How many small objects are sent at once for each large part that may be."""

_MAX_WAIT_SECONDS = 20.0
_MAX_RETRY_AFTER_SECONDS = 60.0
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_NO_PAYER = frozenset(("get_object_lock_configuration",))


class RefusedError(Exception):
    """The store answered with a code that the caller expects."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@frozen(kw_only=True)
class Connection:
    """Everything that a client is made of."""

    region: str | None = None
    endpoint_url: str | None = None
    path_style: bool = False
    profile: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    ca_bundle: Path | None = None
    concurrency: int = 4

    def client(self) -> Any:
        """Return this process's client for it; making one takes half a second.  Thread-safe.

        Raises:
            ConfigError: a secret cannot be had.
            FatalError: boto3 cannot use the options.
            PluginError: boto3 is not installed.
        """
        secrets = [reveal(s) if s else "" for s in (self.access_key_id, self.secret_access_key, self.session_token)]
        # A secret that has changed needs another client; sockets are not shared with a forked process.
        mark = hashlib.sha256("\0".join(secrets).encode()).hexdigest()
        with _lock:
            key = (os.getpid(), self, mark)
            if key not in _clients:
                _clients[key] = self._make(*secrets)
            return _clients[key]

    def _make(self, access_key_id: str, secret_access_key: str, session_token: str) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError as error:
            raise PluginError(
                f"sink `s3` needs the module `{error.name}`, which is not installed: pip install 'muniment[s3]'"
            ) from error

        # Request headers hold session tokens and keys.
        quieten()
        config = Config(
            s3={"addressing_style": "path" if self.path_style else "auto"},
            max_pool_connections=WORKERS_PER_PART * self.concurrency + 2,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            tcp_keepalive=True,
            # `Bucket.call` repeats calls, and checksums are sent and checked here: both knowingly.
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="muniment",
        )
        try:
            session = boto3.Session(
                aws_access_key_id=access_key_id or None,
                aws_secret_access_key=secret_access_key or None,
                aws_session_token=session_token or None,
                profile_name=self.profile,
                region_name=self.region,
            )
            # Where a store of one's own is named, boto3 still wants a region to sign for.
            region = session.region_name or ("us-east-1" if self.endpoint_url else None)
            client = session.client(
                "s3",
                region_name=region,
                endpoint_url=self.endpoint_url,
                verify=str(self.ca_bundle) if self.ca_bundle else None,
                config=config,
            )
        except ValueError as error:
            raise ConfigError(
                "`endpoint_url` is no URL that boto3 can use; it looks like `https://host:9000`"
            ) from error
        except Exception as error:
            raise explain(error, self.endpoint_url or "S3", "client") from error
        # Not by the parameter: botocore would then check what it can, and fails on stores that answer
        # a range with the whole object's checksum.
        client.meta.events.register("before-call.s3.GetObject", _ask_for_checksum)
        return client


@frozen(kw_only=True)
class Bucket:
    """A bucket, the prefix of all keys in it, and the parameters that go with its objects."""

    name: str
    connection: Connection
    prefix: str = ""
    requester_pays: bool = False
    max_attempts: int = 8
    customer_key: bytes | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = time.sleep

    @property
    def place(self) -> str:
        """The bucket as messages name it."""
        endpoint = self.connection.endpoint_url
        return f"bucket `{self.name}`" + (f" at {endpoint}" if endpoint else "")

    @property
    def customer(self) -> dict[str, Any]:
        """What every call says that touches bytes under a key of the customer's."""
        if self.customer_key is None:
            return {}
        return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": self.customer_key}

    def call(self, operation: str, *, allow: tuple[str, ...] = (), attempts: int = 0, **parameters: Any) -> Any:
        """Return boto3's answer, trying again with back-off what may go well at another time.

        Raises:
            RefusedError: the answer's code is one of ``allow``.
            TransientError: all attempts failed.
            FatalError: another attempt would not help.
        """
        if self.requester_pays and operation not in _NO_PAYER:
            parameters["RequestPayer"] = "requester"
        method = getattr(self.connection.client(), operation)
        until = time.monotonic() + MAX_TOTAL_SECONDS
        for attempt in count(1):
            try:
                return method(Bucket=self.name, **parameters)
            except Exception as error:
                if (code := code_of(error)) in allow:
                    raise RefusedError(code) from error
                found = explain(error, self.place, operation)
                wait = self._wait(found, attempt, attempts or self.max_attempts, until)
                if wait is None:
                    raise found from error
            self.sleep(wait)
        raise AssertionError

    def pages(self, operation: str, **parameters: Any) -> Iterator[Any]:
        """Yield the pages of a listing."""
        following = {
            "list_objects_v2": (("NextContinuationToken", "ContinuationToken"),),
            "list_object_versions": (("NextKeyMarker", "KeyMarker"), ("NextVersionIdMarker", "VersionIdMarker")),
            "list_multipart_uploads": (("NextKeyMarker", "KeyMarker"), ("NextUploadIdMarker", "UploadIdMarker")),
        }[operation]
        while True:
            page = self.call(operation, **parameters)
            yield page
            if not page.get("IsTruncated"):
                return
            parameters |= {to: page[of] for of, to in following if page.get(of)}

    def pause(self, attempt: int) -> None:
        """Wait before the attempt after number ``attempt``: longer each time, and never as long as others do."""
        self.sleep(_back_off(attempt))

    def _wait(self, error: Exception, attempt: int, attempts: int, until: float) -> float | None:
        if not isinstance(error, TransientError) or attempt >= attempts or time.monotonic() > until:
            return None
        if error.retry_after_seconds is not None:
            return min(error.retry_after_seconds, _MAX_RETRY_AFTER_SECONDS)
        return _back_off(attempt)


_clients: dict[Any, Any] = {}
_lock = threading.Lock()


def _back_off(attempt: int) -> float:
    return random.uniform(0, min(_MAX_WAIT_SECONDS, 0.5 * 2.0 ** (attempt - 1)))  # noqa: S311


def _ask_for_checksum(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-checksum-mode"] = "ENABLED"
