"""How is an `archive.db` read: in its own order, packed, so that workers share the unpacking?"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from muniment import Asset, Chunk, Idle, InputError, Partition, Position, Reader
from muniment_plugins.sinks.sqlite import read
from muniment_plugins.sources.archive.decode import Row

_CHUNK_BYTES = 1 << 18
_PAGE_ROWS = 64


class DatabaseReader(Reader):
    """Reads an archive as one partition; positions are conversation numbers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        read.connect(path).close()

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
        size = 0
        for row in self._rows(last):
            rows.append(row)
            size += len(row.record)
            if size >= _CHUNK_BYTES:
                yield Chunk(partition, 0, row.number, tuple(rows), size)
                rows, size = [], 0
        if rows:
            yield Chunk(partition, 0, rows[-1].number, tuple(rows), size)

    def open_asset(self, asset: Asset) -> BinaryIO:
        if asset.sha256 is None:
            raise FileNotFoundError(asset.id)
        return read.open_asset(self._path, asset.sha256)

    def _rows(self, last: int) -> Iterator[Row]:
        select = "SELECT conversation, record FROM records WHERE conversation>? ORDER BY conversation LIMIT ?"
        try:
            with closing(read.connect(self._path)) as connection:
                # In pages: an open cursor would keep a WAL from being checkpointed while someone tops up.
                while page := connection.execute(select, (last, _PAGE_ROWS)).fetchall():
                    for number, record in page:
                        yield Row(number, self._path.name, record)
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
