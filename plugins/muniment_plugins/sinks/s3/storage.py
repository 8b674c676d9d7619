"""How do objects lie in a bucket: staged as uploads, published whole, with checksums all the way?"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from muniment.crypto.frames import KEYS
from muniment.errors import FatalError, TransientError
from muniment.storage import Capabilities, Staged, Storage, Stored, check_name
from muniment_plugins.sinks._background import Background
from muniment_plugins.sinks.s3.checksums import Checksum, verify
from muniment_plugins.sinks.s3.client import WORKERS_PER_PART, Bucket, RefusedError
from muniment_plugins.sinks.s3.read import open_object
from muniment_plugins.sinks.s3.settings import OWN, ObjectSettings
from muniment_plugins.sinks.s3.upload import HELD_BYTES, STAGED, S3Staged, Token, is_token

_MAX_HELD_BYTES = 32 * 2**20
_MAX_KEY_BYTES = 1024
_MISSING = ("404", "NoSuchKey", "NotFound")
_NO_VERSIONS = ("501", "NotImplemented", "405", "MethodNotAllowed", "403", "AccessDenied")
_TAKEN = ("412", "PreconditionFailed")


class S3Storage(Storage):
    """Objects of a bucket below its prefix.

    ``conditional_put`` and ``conditional_complete`` say whether the store honours ``If-None-Match: *``; where
    it does not, a name is looked up first, which is right while one run writes.  ``locked``: objects
    cannot be removed, so `delete` leaves them.  Uploads of other sessions count as left behind, and are
    listed by `staged`, when they are older than ``abort_after``.

    Of several publishers at once exactly one wins a name that is put whole, as manifests always are.  A
    large object is published by CompleteMultipartUpload, whose condition some stores check too early
    (SeaweedFS 4.48 lets all of eight win), so nothing relies on it: parts have names of their own.
    """

    capabilities = Capabilities(if_absent=True, replaces=True, reads_staged=False)

    def __init__(
        self,
        bucket: Bucket,
        checksum: Checksum,
        settings: ObjectSettings,
        *,
        part_bytes: int = 8 * 2**20,
        concurrency: int = 4,
        abort_after: timedelta = timedelta(days=3),
        locked: bool = False,
    ) -> None:
        self.bucket = bucket
        self.checksum = checksum
        self.settings = settings
        self.part_bytes = part_bytes
        self.locked = locked
        self.conditional_put = self.conditional_complete = True
        self.background = Background(WORKERS_PER_PART * concurrency, concurrency)
        self._abort_after = abort_after
        self._held = 0
        self._counting = threading.Lock()
        self._closing: list[Callable[[], None]] = []
        self._proof: Callable[[str, bytes], None] | None = None

    def stage(self, name: str) -> Staged:
        self.key(name)
        return S3Staged(self, name)

    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        self.key(name)
        if if_absent:
            self.background.settle(name)
            self._publish(token, name, if_absent=True)
        else:
            self.background.settle(name)
            self.background.submit(name, lambda: self._publish(token, name, if_absent=False))

    def sync(self) -> None:
        self.background.settle()
        self._held = 0

    def open(self, name: str) -> BinaryIO:
        self.background.settle(name)
        return open_object(self.bucket, self.key(name), name)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        self.background.settle()
        for page in self.bucket.pages("list_objects_v2", Prefix=self.bucket.prefix + prefix):
            for found in page.get("Contents", ()):
                name = found["Key"].removeprefix(self.bucket.prefix)
                # Consoles make objects that end in a slash to show folders.
                if name and not name.endswith("/"):
                    yield Stored(name, found["Size"])

    def staged(self) -> Iterator[Stored]:
        before = datetime.now(UTC) - self._abort_after
        for page in self.bucket.pages("list_multipart_uploads", Prefix=self.bucket.prefix):
            for found in page.get("Uploads", ()):
                if found["Initiated"] <= before:
                    name = found["Key"].removeprefix(self.bucket.prefix)
                    yield Stored(Token(name, "", upload=found["UploadId"]).text(), 0)

    def delete(self, name: str) -> None:
        if is_token(name):
            token = Token.parse(name)
            if token.upload:
                self.abort(token.key, token.upload)
        elif name.startswith(KEYS):
            key = self.key(name)
            self.background.settle(name)
            self.background.submit(name, lambda: self._erase(key, but_newest=False))
        elif not self.locked:
            key = self.key(name)
            self.background.settle(name)
            self.background.submit(name, lambda: self._delete(key))

    def keeps_deleted(self) -> str:
        return "object lock" if self.locked else ""

    def keeps_replaced(self) -> str:
        from muniment_plugins.sinks.s3.probe import find_lock

        if length := find_lock(self.bucket).default:
            return f"{self.bucket.place} keeps every object for {length}"
        try:
            self.bucket.call("list_object_versions", allow=_NO_VERSIONS, Prefix=self.key(KEYS + "0"), MaxKeys=1)
        except RefusedError as refused:
            return f"{self.bucket.place} does not list the versions of objects ({refused.code})"
        return ""

    def erase_replaced(self, name: str) -> None:
        self.background.settle(name)
        self._erase(self.key(name), but_newest=True)

    def exists(self, name: str) -> bool:
        self.background.settle(name)
        return self.look_up(name) is not None

    def close(self) -> None:
        try:
            self.background.close()
        finally:
            while self._closing:
                self._closing.pop()()

    # --- what the parts of a storage ask each other -----------------------------------------

    def at_close(self, call: Callable[[], None]) -> None:
        """Have ``call`` called when this session ends."""
        self._closing.append(call)

    def prove(self, proof: Callable[[str, bytes], None]) -> None:
        """Have ``proof`` called with the first object that is put under a condition, and its bytes."""
        self._proof = proof

    def key(self, name: str) -> str:
        """Return the key of an object.

        Raises:
            ValueError: the name leaves its storage.
            FatalError: it is too long.
        """
        key = self.bucket.prefix + check_name(name)
        if len(key.encode("utf-8", "surrogatepass")) > _MAX_KEY_BYTES:
            raise FatalError(f"a key would have more than {_MAX_KEY_BYTES} bytes; shorten `prefix` or `key`")
        return key

    def is_put_whole(self, name: str) -> bool:
        """Say whether an object is one conditional PutObject at any size: manifests are the fence between
        runs, and PutObject is where stores honour the condition best."""
        return name.startswith(OWN)

    def holds(self, size: int) -> bool:
        """Say whether another ``size`` bytes may wait in their token until the next `sync`."""
        with self._counting:
            fits = size <= HELD_BYTES and self._held + size <= _MAX_HELD_BYTES
            self._held += size if fits else 0
        return fits

    def look_up(self, name: str) -> dict[str, Any] | None:
        """Return the metadata of a published object; None if there is none."""
        try:
            answer = self.bucket.call("head_object", allow=_MISSING, Key=self.key(name), **self.bucket.customer)
        except RefusedError:
            return None
        return dict(answer.get("Metadata", {}))

    def abort(self, name: str, upload: str) -> None:
        """End an upload.  Where the store cannot be reached, it is left to be aborted when it is old."""
        with suppress(RefusedError, TransientError):
            self.bucket.call(
                "abort_multipart_upload", allow=("NoSuchUpload", "404"), attempts=2, Key=self.key(name), UploadId=upload
            )

    # --- publishing -------------------------------------------------------------------------

    def _publish(self, text: str, name: str, *, if_absent: bool) -> None:
        token = Token.parse(text)
        if token.key != name:
            raise ValueError(f"an object that was staged as `{token.key}` cannot become `{name}`")
        conditional = self.conditional_complete if token.data is None else self.conditional_put
        if if_absent and not conditional:
            found = self.look_up(name)
            if found is not None:
                if found.get(STAGED) != token.id:
                    raise FileExistsError(name)
                return
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent and conditional else {}
        try:
            if token.data is None:
                self._complete(token, condition)
            else:
                self._put(token, token.data, condition)
        except RefusedError as error:
            # The answer to an earlier attempt may have been lost: then the object is this one.
            if (self.look_up(name) or {}).get(STAGED) == token.id:
                return
            if error.code in _TAKEN:
                raise FileExistsError(name) from None
            raise FatalError(
                f"{self.bucket.place}: the upload of `{name}` is gone, aborted by a lifecycle rule perhaps; run the"
                " same command again to resume"
            ) from error

    def _put(self, token: Token, data: bytes, condition: dict[str, Any]) -> None:
        checksum = self.checksum.of(data)
        answer = self.bucket.call(
            "put_object",
            allow=_TAKEN if condition else (),
            Key=self.key(token.key),
            Body=data,
            Metadata={STAGED: token.id},
            **self.checksum.given(checksum),
            **condition,
            **self.settings.of(token.key),
            **self.bucket.customer,
        )
        verify(self.bucket.place, token.key, answer, self.checksum.field, checksum)
        if condition and self._proof:
            proof, self._proof = self._proof, None
            proof(token.key, data)

    def _complete(self, token: Token, condition: dict[str, Any]) -> None:
        kind = self.checksum
        # A store that computes none (Swift) does not understand them here.
        said = token.checked
        parts = [
            {"PartNumber": n, "ETag": e, **(kind.given(c) if said else {})} for n, (e, c) in enumerate(token.parts, 1)
        ]
        answer = self.bucket.call(
            "complete_multipart_upload",
            allow=("NoSuchUpload", "404", *_TAKEN),
            Key=self.key(token.key),
            UploadId=token.upload,
            MultipartUpload={"Parts": parts},
            **(kind.end(token.full) if said else {}),
            **condition,
        )
        expected = kind.of_parts([c for _, c in token.parts]) if kind.composite else token.full
        verify(self.bucket.place, token.key, answer, kind.field, expected)

    def _erase(self, key: str, *, but_newest: bool) -> None:
        """Delete the versions of an object, each by its id: nothing brings them back."""
        for page in self.bucket.pages("list_object_versions", Prefix=key):
            for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if found["Key"] == key and not (but_newest and found["IsLatest"]):
                    with suppress(RefusedError):
                        self.bucket.call(
                            "delete_object", allow=_MISSING, Key=key, VersionId=found.get("VersionId") or "null"
                        )

    def _delete(self, key: str) -> None:
        with suppress(RefusedError):
            self.bucket.call("delete_object", allow=_MISSING, Key=key)
