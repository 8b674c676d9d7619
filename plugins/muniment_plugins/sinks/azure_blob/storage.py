"""How do objects lie in a container of Azure Blob Storage, whole or not at all?"""

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from muniment.storage import Stored
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked import write_once
from muniment_plugins.sinks._marked_storage import ChunkedStaged, MarkedStorage
from muniment_plugins.sinks.azure_blob.client import Api, BlobOptions
from muniment_plugins.sinks.azure_blob.read import Download
from muniment_plugins.sinks.azure_blob.staged import AzureStaged, block_id


class AzureStorage(MarkedStorage):
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
        super().__init__(api, prefix, part_bytes=part_bytes, concurrency=concurrency, replaces=replaces, sleep=sleep)
        self.api = api
        self.options = options
        self._forgotten: set[str] = set()

    def staged(self) -> Iterator[Stored]:
        """Yield what this session has staged, and names at which others have only blocks so far."""
        self.background.settle()
        own = set()
        for staged in list(self._staged.values()):
            own.add(json.loads(staged.token)["name"])
            yield Stored(staged.token, staged.size)
        there = {s.name for s in self._listing("")}
        for stored in self._below("", uncommitted=True):
            if stored.name not in there and stored.name not in own and stored.name not in self._forgotten:
                yield Stored(json.dumps({"name": stored.name}), stored.size)

    def forget(self, staged: ChunkedStaged) -> None:
        super().forget(staged)
        self._drop(json.loads(staged.token))

    def _new(self, name: str) -> AzureStaged:
        return AzureStaged(self, name)

    def _drop(self, token: dict[str, Any]) -> None:
        if "data" not in token:
            self._forgotten.add(token["name"])

    def _download(self, name: str) -> io.RawIOBase:
        return Download(self.api, name, self.sleep)

    def _listing(self, prefix: str) -> Iterator[Stored]:
        return self._below(prefix)

    def _write(self, token: dict[str, Any], name: str, *, if_absent: bool) -> None:
        there, mark = self.full_name(name), token["mark"]

        def write(version: str | None) -> None:
            if "data" in token:
                self.api.upload(there, _inline.from_text(token["data"]), self.options(), mark, version)
            else:
                blocks = [block_id(mark, number) for number in range(token["blocks"])]
                self.api.commit(there, blocks, self.options(), mark, version)

        write_once(name, mark, find=lambda: self.api.find(there), write=write, if_absent=if_absent, sleep=self.sleep)

    def _below(self, prefix: str, *, uncommitted: bool = False) -> Iterator[Stored]:
        start = len(self._prefix)
        for stored in self.api.listing(self._prefix + prefix, uncommitted=uncommitted, sleep=self.sleep):
            yield Stored(stored.name[start:], stored.size)
