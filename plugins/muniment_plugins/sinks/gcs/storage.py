"""How do objects lie in a bucket of Google Cloud Storage, whole or not at all?"""

import base64
import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, BinaryIO, TypeVar
from weakref import WeakValueDictionary

from muniment import ConfigError, FatalError, TargetBusyError, TransientError
from muniment.retry import retry
from muniment.storage import Capabilities, Staged, Storage, Stored, check_name
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked import ABSENT, ChangedError, write_once
from muniment_plugins.sinks._uploads import Uploads
from muniment_plugins.sinks.gcs.client import Api, SessionGoneError
from muniment_plugins.sinks.gcs.objects import Found, ObjectOptions
from muniment_plugins.sinks.gcs.read import Download
from muniment_plugins.sinks.gcs.staged import GCSStaged
from muniment_plugins.sinks.gcs.upload import Session, crc32c_of

T = TypeVar("T")

PROBE = ".muniment/probe"
"""An empty object that shows whether the store keeps to preconditions; it stays."""

_READ_BUFFER = 2**20
_MAX_OPEN_BYTES = 32 * 2**20
"""What may fill up in objects that are staged at once, beside what is on its way."""

_log = logging.getLogger(__name__)


class GCSStorage(Storage):
    """Objects of a bucket whose names begin with ``prefix``.

    Publishing is one conditional request, so of two that publish one name with ``if_absent`` exactly
    one wins.  An upload whose answer was lost knows its own object again by a mark in its metadata:
    publishing twice is publishing once.  What killed runs left is in no listing and goes away by itself
    after a week, so `staged` knows only what this session has staged.
    """

    def __init__(
        self,
        api: Api,
        prefix: str = "",
        *,
        options: Callable[[], ObjectOptions] = ObjectOptions,
        part_bytes: int = 8 * 2**20,
        concurrency: int = 8,
        conditional_writes: str = "require",
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
        self._mode = conditional_writes
        self._conditional: bool | None = False if conditional_writes == "off" else (True if api.is_google else None)
        self._uploads = Uploads(concurrency)
        self._at_close: list[Callable[[], object]] = []
        self._settling: list[GCSStaged] = []
        self._staged: WeakValueDictionary[str, GCSStaged] = WeakValueDictionary()

    # --- staging ----------------------------------------------------------------------------

    def stage(self, name: str) -> Staged:
        staged = GCSStaged(self, check_name(name))
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
        return (Stored(s.token, s.size) for s in list(self._staged.values()))

    def settling(self, staged: GCSStaged) -> None:
        """Hear that an object has ended; `sync` waits for it."""
        self._settling.append(staged)

    def forget(self, staged: GCSStaged) -> None:
        """Hear that an object is not wanted any more."""
        self._staged.pop(staged.mark, None)
        self._settling = [s for s in self._settling if s is not staged]

    def begin(self, call: Callable[[], object]) -> "Future[object]":
        """Run a call beside this one."""
        return self._uploads.begin(call)

    # --- publishing -------------------------------------------------------------------------

    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        found = json.loads(token)
        if found["name"] != check_name(name):
            raise ValueError(f"`{found['name']}` cannot be published as `{name}`")
        self._staged.pop(found["mark"], None)
        call = self._finish if "session" in found else self._insert
        if if_absent:
            self.check_conditions()
            call(found, name, if_absent=True)
        else:
            self._uploads.submit(lambda: call(found, name, if_absent=False))

    def _insert(self, token: dict[str, Any], name: str, *, if_absent: bool) -> None:
        """Upload a small object."""
        there, mark, crc32c = self.full_name(name), token["mark"], token["crc32c"]
        data = _inline.from_text(token["data"])
        write_once(
            name,
            mark,
            find=lambda: self.api.find(there),
            write=lambda version: self._check_sum(
                self.api.insert(there, data, crc32c, self.options(), mark, version), crc32c, name
            ),
            if_absent=if_absent,
            looks=not self._conditional,
            sleep=self.sleep,
        )

    def _finish(self, token: dict[str, Any], name: str, *, if_absent: bool) -> None:
        """Complete the session of a large object."""
        there, wanted = self.full_name(name), (token["size"], token["crc32c"])
        if if_absent and (token["version"] or not self._conditional):
            found = self._call(lambda: self.api.find(there))
            if found and found.mark != token["mark"]:
                raise FileExistsError(name)
        session = Session(self.api, there, token["session"], self.sleep)
        try:
            made = session.finish(base64.b64decode(token["data"]), token["offset"], token["crc32c"])
        except (ChangedError, SessionGoneError) as error:
            # It may be one's own earlier success, or the same bytes of another run.
            found = self._call(lambda: self.api.find(there))
            if found and (found.mark == token["mark"] or not if_absent) and (found.size, found.crc32c) == wanted:
                return
            if found and found.mark != token["mark"] and if_absent:
                raise FileExistsError(name) from None
            if isinstance(error, SessionGoneError):
                raise
            raise TargetBusyError(
                f"`{self.api.place}`: object `{name}` was written by another run meanwhile; run the same command again"
            ) from None
        self._check_sum(made, token["crc32c"], name)

    def _check_sum(self, made: Found, crc32c: str, name: str) -> None:
        if made.crc32c and made.crc32c != crc32c:
            self.delete(name)
            raise FatalError(
                f"`{self.api.place}`: object `{name}` did not arrive as it was sent, and was removed; run the same"
                " command again"
            )

    # --- objects ----------------------------------------------------------------------------

    def open(self, name: str) -> BinaryIO:
        self._uploads.wait()
        download = Download(self.api, self.full_name(check_name(name)), self.sleep)
        return io.BufferedReader(download, _READ_BUFFER)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        self._uploads.wait()
        page = ""
        while True:
            found, page = self._call(partial(self.api.listing, self._prefix + prefix, page))
            for stored in found:
                name = stored.name[len(self._prefix) :]
                # A name that ends like a folder is one that the console has made.
                if name != PROBE and not name.endswith("/"):
                    yield Stored(name, stored.size)
            if not page:
                return

    def exists(self, name: str) -> bool:
        self._uploads.wait()
        return self._call(lambda: self.api.find(self.full_name(check_name(name)))) is not None

    def delete(self, name: str) -> None:
        if name.startswith("{"):
            token = json.loads(name)
            self._staged.pop(token["mark"], None)
            if "session" in token:
                self._call(lambda: self.api.cancel(token["session"], self.full_name(token["name"])))
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
        """Return the name of an object in its bucket."""
        return self._prefix + name

    def _call(self, call: Callable[[], T]) -> T:
        return retry(call, sleep=self.sleep)

    # --- preconditions ----------------------------------------------------------------------

    def check_conditions(self) -> None:
        """Learn, once, whether the store keeps to preconditions: the second of two writers must lose.

        Raises:
            ConfigError: it does not, and the options require it.
        """
        if self._conditional is not None:
            return
        there, data, lost = self.full_name(PROBE), b"", 0
        for _ in range(2):
            try:
                self._call(lambda: self.api.insert(there, data, crc32c_of(data), ObjectOptions(), "probe", ABSENT))
            except ChangedError:
                lost += 1
        self._conditional = lost > 0
        if self._conditional:
            return
        if self._mode == "require":
            raise ConfigError(
                f"`{self.api.place}`: the store does not honour `ifGenerationMatch`, without which two runs at once"
                " could lose what one of them stored; use a store that does, or, where only one machine writes, set"
                " `conditional_writes: auto`"
            )
        _log.warning(
            "`%s`: the store does not honour `ifGenerationMatch`; going on, since `conditional_writes` is auto",
            self.api.place,
        )
