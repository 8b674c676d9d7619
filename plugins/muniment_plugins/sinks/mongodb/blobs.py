"""How are large bytes kept?  In the layout of GridFS, named by their SHA-256, whole or not at all.

What makes bytes findable is their entry in ``<name>.files``, written last; an upload is noted before
its first chunk, so that what a killed run left is found and removed by the next.
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from muniment import RecordError
from muniment_plugins.sinks.mongodb.connection import Connection

_CHUNK_BYTES = 2**20
_CHUNKS_AT_ONCE = 4


class Bucket:
    """The bytes of one role: ``assets`` or ``records``."""

    def __init__(self, connection: Connection, role: str) -> None:
        from pymongo.write_concern import WriteConcern

        self._connection = connection
        name = connection.names.of(role)
        # Whatever else is wished: chunks that a fail-over takes back would leave an entry without its bytes.
        database = connection.database.with_options(write_concern=WriteConcern("majority"))
        self.files = database[f"{name}.files"]
        self.chunks = database[f"{name}.chunks"]
        self._role = role

    def missing(self, digests: Sequence[str]) -> set[str]:
        """Return those of ``digests`` whose bytes are not here, whole and durable."""
        with self._connection.translated():
            held = self.files.find({"filename": {"$in": list(digests)}}, {"filename": 1})
            return set(digests).difference(f["filename"] for f in held)

    def put(self, digest: str, stream: BinaryIO, **metadata: Any) -> None:
        """Store bytes; they are durable when this returns.

        Raises:
            RecordError: they have another digest; nothing of them is left.
            TransientError: the same call may work later.
        """
        from bson import ObjectId

        identity = ObjectId()
        uploads = self._connection.collection("uploads")
        with self._connection.translated():
            uploads.insert_one({"_id": identity, "role": self._role, "at": datetime.now(UTC)})
            actual, length = self._put_chunks(identity, stream)
            if actual != digest:
                self.chunks.delete_many({"files_id": identity})
                uploads.delete_one({"_id": identity})
                raise RecordError("an asset changed or vanished while it was read; run the import again")
            self.files.insert_one({
                "_id": identity,
                "filename": digest,
                "length": length,
                "chunkSize": _CHUNK_BYTES,
                "uploadDate": datetime.now(UTC),
                "metadata": metadata,
            })  # fmt: skip
            uploads.delete_one({"_id": identity})

    def open(self, digest: str) -> BinaryIO:
        """Return the bytes, streamed.

        Raises:
            FileNotFoundError: they are not here.
        """
        with self._connection.translated():
            found = self.files.find_one({"filename": digest})
        if found is None:
            raise FileNotFoundError(digest)
        return io.BufferedReader(_ChunkStream(self._connection, self.chunks, found), _CHUNK_BYTES)

    def delete(self, digests: Sequence[str], session: Any) -> None:
        """Remove bytes; harmless where there are none."""
        some = [f["_id"] for f in self.files.find({"filename": {"$in": list(digests)}}, {"_id": 1}, session=session)]
        if some:
            self.files.delete_many({"_id": {"$in": some}}, session=session)
            self.chunks.delete_many({"files_id": {"$in": some}}, session=session)

    def _put_chunks(self, identity: Any, stream: BinaryIO) -> tuple[str, int]:
        digest = hashlib.sha256()
        length = 0
        waiting: list[dict[str, Any]] = []
        for number, data in enumerate(_pieces(stream)):
            digest.update(data)
            length += len(data)
            waiting.append({"files_id": identity, "n": number, "data": data})
            if len(waiting) == _CHUNKS_AT_ONCE:
                self.chunks.insert_many(waiting)
                waiting = []
        if waiting:
            self.chunks.insert_many(waiting)
        return digest.hexdigest(), length


def unfinished(connection: Connection) -> Iterator[Mapping[str, Any]]:
    """Yield the uploads that a killed run began."""
    with connection.translated():
        yield from connection.collection("uploads").find()


def discard_unfinished(connection: Connection) -> None:
    """Remove what killed runs left; only for who holds the lease."""
    for upload in unfinished(connection):
        bucket = Bucket(connection, upload["role"])
        with connection.translated():
            if bucket.files.find_one({"_id": upload["_id"]}) is None:
                bucket.chunks.delete_many({"files_id": upload["_id"]})
            connection.collection("uploads").delete_one({"_id": upload["_id"]})


class _ChunkStream(io.RawIOBase):
    def __init__(self, connection: Connection, chunks: Any, file: Mapping[str, Any]) -> None:
        self._connection = connection
        self._chunks = chunks
        self._file = file
        self._next = 0
        self._left = file["length"]
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            if not self._left:
                return 0
            # One find for each: it can be repeated, which the rest of a cursor cannot.
            with self._connection.translated():
                chunk = self._chunks.find_one({"files_id": self._file["_id"], "n": self._next})
            if chunk is None:
                raise OSError(f"the bytes of `{self._file['filename']}` are not whole")
            self._rest = memoryview(chunk["data"])
            self._next += 1
            self._left -= len(self._rest)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with contextlib.closing(stream):
        while data := stream.read(_CHUNK_BYTES):
            yield data
