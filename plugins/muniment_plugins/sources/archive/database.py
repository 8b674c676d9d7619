"""How is an `archive.db` read: in its own order, packed, so that workers share the unpacking?"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from muniment import Asset, Chunk, Idle, InputError, Origin, Partition, Position, Reader, Rejected
from muniment.crypto import Keyring
from muniment.errors import DamagedError
from muniment_plugins.sinks.sqlite import read
from muniment_plugins.sources.archive.decode import Row

_CHUNK_BYTES = 1 << 18


class DatabaseReader(Reader):
    """Reads an archive as one partition; positions are conversation numbers."""

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        self._path = path
        self._cover = read.cover_of(path, keyring)

    def partitions(self) -> Iterator[Partition]:
        with closing(read.connect(self._path)) as connection:
            fingerprint, count, size = _fingerprint(connection)
        if not count:
            raise InputError(f"`{self._path}` holds no conversations")
        yield Partition(
            id=f"archive:{fingerprint[:16]}",
            fingerprint=fingerprint,
            label=self._path.name,
            size=size,
            locator={"path": str(self._path)},
        )

    def read(self, partition: Partition, after: Position | None) -> Iterator[Chunk | Idle]:
        last = 0 if after is None else int(after)
        rows: list[Row] = []
        rejected: list[Rejected] = []
        size = 0
        for number, identity, record in self._stored(last):
            try:
                # Decrypted here, since workers have no keys.
                rows.append(Row(number, self._path.name, self._cover.record(record, identity)))
            except DamagedError:
                origin = Origin(self._path.name, partition.id, number, number)
                rejected.append(Rejected(origin, "read", "the stored record is damaged, or stands in the wrong place"))
            size += len(record)
            last = number
            if size >= _CHUNK_BYTES:
                yield Chunk(partition, 0, last, tuple(rows), size, tuple(rejected))
                rows, rejected, size = [], [], 0
        if rows or rejected:
            yield Chunk(partition, 0, last, tuple(rows), size, tuple(rejected))

    def open_asset(self, asset: Asset) -> BinaryIO:
        if asset.sha256 is None:
            raise FileNotFoundError(asset.id)
        return read.open_asset(self._path, asset.sha256, self._cover)

    def _stored(self, last: int) -> Iterator[tuple[int, str, bytes]]:
        try:
            with closing(read.connect(self._path)) as connection:
                # In pages: an open cursor would keep a WAL from being checkpointed while someone tops up.
                while page := read.stored_records(connection, last):
                    yield from page
                    last = page[-1][0]
        except sqlite3.DatabaseError as error:
            raise InputError(f"`{self._path}` is damaged ({error}); restore it from a copy") from error


def _fingerprint(connection: sqlite3.Connection) -> tuple[str, int, int]:
    """Return a digest of what is stored, the number of conversations and the bytes of their records."""
    content = hashlib.sha256()
    count = 0
    for row in connection.execute("SELECT source, id, source_hash, plan_hash FROM conversations ORDER BY no"):
        content.update(repr(row).encode("utf-8", "surrogatepass"))
        count += 1
    assets = connection.execute("SELECT max(no), count(*) FROM asset_chunks").fetchone()
    content.update(repr(assets).encode())
    size = connection.execute("SELECT total(length(record)) FROM records").fetchone()[0]
    return content.hexdigest(), count, int(size)
