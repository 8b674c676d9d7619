"""How do objects lie in a container of Azure Blob Storage, whole or not at all?"""

import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, BinaryIO, TypeVar
from weakref import WeakValueDictionary

from muniment import TransientError
from muniment.retry import retry
from muniment.storage import Capabilities, Staged, Storage, Stored, check_name
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked import ChangedError, write_once
from muniment_plugins.sinks._uploads import Uploads
from muniment_plugins.sinks.azure_blob.client import Api, BlobOptions
from muniment_plugins.sinks.azure_blob.read import Download
from muniment_plugins.sinks.azure_blob.staged import AzureStaged, block_id

T = TypeVar("T")

_READ_BUFFER = 2**20
_MAX_OPEN_BYTES = 32 * 2**20
"""What may fill up in objects that are staged at once, beside what is on its way."""


class AzureStorage(Storage):
    """Objects of a container whose names begin with ``prefix``.

    Publishing is one conditional request, so of two that publish one name with ``if_absent`` exactly
    one wins.  Two that stage one large name at one time share its blocks: when one is published, the
    other's are gone, and publishing that fails.  `delete` of a staged object forgets it; Azure removes its
    blocks after a week.
    """

    def __init__(
        self,
        api: Api,
        prefix: str = "",
        *,
        options: Callable[[], BlobOptions] = BlobOptions,
        part_bytes: int = 8 * 2**20,
        concurrency: int = 8,
        replaces: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.api = api
        self.options = options
        self.part_bytes = part_bytes
        self.sleep = sleep
        max_open = max(2, _MAX_OPEN_BYTES // part_bytes)
        self.capabilities = Capabilities(True, replaces, reads_staged=False, max_open=max_open)
        self._prefix = prefix
        self._uploads = Uploads(concurrency)
        self._at_close: list[Callable[[], object]] = []
        self._settling: list[AzureStaged] = []
        self._staged: WeakValueDictionary[str, AzureStaged] = WeakValueDictionary()
        self._forgotten: set[str] = set()

    # --- staging ----------------------------------------------------------------------------

    def stage(self, name: str) -> Staged:
        staged = AzureStaged(self, check_name(name))
        self._staged[staged.mark] = staged
        return staged

    def sync(self) -> None:
        settling, self._settling = self._settling, []
        for i, staged in enumerate(settling):
            try:
                staged.settle()
            except TransientError:
                self._settling = settling[i:]
                raise
        self._uploads.wait()

    def staged(self) -> Iterator[Stored]:
        """Yield what this session has staged, and names at which others have only blocks so far."""
        self._uploads.wait()
        own = set()
        for staged in list(self._staged.values()):
            own.add(json.loads(staged.token)["name"])
            yield Stored(staged.token, staged.size)
        there = {s.name for s in self._below("")}
        for stored in self._below("", uncommitted=True):
            if stored.name not in there and stored.name not in own and stored.name not in self._forgotten:
                yield Stored(json.dumps({"name": stored.name}), stored.size)

    def settling(self, staged: AzureStaged) -> None:
        """Hear that an object has ended; `sync` waits for it."""
        self._settling.append(staged)

    def forget(self, staged: AzureStaged) -> None:
        """Hear that an object is not wanted any more."""
        self._settling = [s for s in self._settling if s is not staged]
        self._drop(json.loads(staged.token))

    def begin(self, call: Callable[[], object]) -> "Future[object]":
        """Run a call beside this one."""
        return self._uploads.begin(call)

    # --- publishing -------------------------------------------------------------------------

    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        found = json.loads(token)
        if found["name"] != check_name(name):
            raise ValueError(f"`{found['name']}` cannot be published as `{name}`")
        self._staged.pop(found["mark"], None)
        if if_absent:
            self._write(found, name, if_absent=True)
        else:
            self._uploads.submit(lambda: self._write(found, name, if_absent=False))

    def _write(self, token: dict[str, Any], name: str, *, if_absent: bool) -> None:
        there, mark = self.full_name(name), token["mark"]

        def write(version: str | None) -> None:
            if "data" in token:
                self.api.upload(there, _inline.from_text(token["data"]), self.options(), mark, version)
            else:
                blocks = [block_id(mark, number) for number in range(token["blocks"])]
                self.api.commit(there, blocks, self.options(), mark, version)

        write_once(name, mark, find=lambda: self.api.find(there), write=write, if_absent=if_absent, sleep=self.sleep)

    # --- objects ----------------------------------------------------------------------------

    def open(self, name: str) -> BinaryIO:
        self._uploads.wait()
        download = Download(self.api, self.full_name(check_name(name)), self.sleep)
        return io.BufferedReader(download, _READ_BUFFER)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        self._uploads.wait()
        return self._below(prefix)

    def exists(self, name: str) -> bool:
        self._uploads.wait()
        return self._call(lambda: self.api.find(self.full_name(check_name(name)))) is not None

    def delete(self, name: str) -> None:
        if name.startswith("{"):
            self._drop(json.loads(name))
            return
        there = self.full_name(check_name(name))

        def delete() -> None:
            found = self.api.find(there)
            if found is not None:
                try:
                    self.api.delete(there, found.version)
                except ChangedError:
                    raise TransientError(f"`{self.api.place}`: object `{name}` is being written by another") from None

        self._call(delete)

    def close(self) -> None:
        try:
            self._uploads.close()
        finally:
            self.api.close()
            for call in self._at_close:
                call()

    def at_close(self, call: Callable[[], object]) -> None:
        """Have a call made when this session is closed."""
        self._at_close.append(call)

    def full_name(self, name: str) -> str:
        """Return the name of an object in its container."""
        return self._prefix + name

    def _below(self, prefix: str, *, uncommitted: bool = False) -> Iterator[Stored]:
        start = len(self._prefix)
        for stored in self.api.listing(self._prefix + prefix, uncommitted=uncommitted, sleep=self.sleep):
            yield Stored(stored.name[start:], stored.size)

    def _drop(self, token: dict[str, Any]) -> None:
        self._staged.pop(token.get("mark", ""), None)
        if "data" not in token:
            self._forgotten.add(token["name"])

    def _call(self, call: Callable[[], T]) -> T:
        return retry(call, sleep=self.sleep)
