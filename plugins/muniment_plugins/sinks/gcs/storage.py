"""How do objects lie in a bucket of Google Cloud Storage, whole or not at all?"""

import base64
import io
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from muniment import ConfigError, FatalError, TargetBusyError
from muniment.storage import Stored
from muniment_plugins.sinks import _inline
from muniment_plugins.sinks._marked import ABSENT, ChangedError, write_once
from muniment_plugins.sinks._marked_storage import MarkedStorage
from muniment_plugins.sinks.gcs.client import Api, SessionGoneError
from muniment_plugins.sinks.gcs.objects import Found, ObjectOptions
from muniment_plugins.sinks.gcs.read import Download
from muniment_plugins.sinks.gcs.staged import GCSStaged
from muniment_plugins.sinks.gcs.upload import Session, crc32c_of

PROBE = ".muniment/probe"
"""An empty object that shows whether the store keeps to preconditions; it stays."""

_log = logging.getLogger(__name__)


class GCSStorage(MarkedStorage):
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
        super().__init__(api, prefix, part_bytes=part_bytes, concurrency=concurrency, replaces=replaces, sleep=sleep)
        self.api = api
        self.options = options
        self._mode = conditional_writes
        self._conditional: bool | None = False if conditional_writes == "off" else (True if api.is_google else None)

    def staged(self) -> Iterator[Stored]:
        return (Stored(s.token, s.size) for s in list(self._staged.values()))

    def _new(self, name: str) -> GCSStaged:
        return GCSStaged(self, name)

    def _drop(self, token: dict[str, Any]) -> None:
        if "session" in token:
            self._call(lambda: self.api.cancel(token["session"], self.full_name(token["name"])))

    def _download(self, name: str) -> io.RawIOBase:
        return Download(self.api, name, self.sleep)

    def _listing(self, prefix: str) -> Iterator[Stored]:
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

    # --- publishing -------------------------------------------------------------------------

    def _write(self, token: dict[str, Any], name: str, *, if_absent: bool) -> None:
        if if_absent:
            self.check_conditions()
        (self._finish if "session" in token else self._insert)(token, name, if_absent=if_absent)

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
