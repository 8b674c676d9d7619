"""How is an archive read back?  Records exact, in pages, bounded memory."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from muniment import Asset, InputError, Known, MunimentError, Record, TransientError
from muniment.model import Origin
from muniment.record_blob import DamagedBlobError, record_from_blob
from muniment.units import Damage
from muniment_plugins.sinks.sql.archive import Archive
from muniment_plugins.sinks.sql.layout import VERSION, dialect_of
from muniment_plugins.sinks.sql.rows import digest_of

_PAGE_RECORDS = 32


def open_existing(url: str, connect: Callable[[], Archive]) -> Archive:
    """Return an archive that ``connect`` opens.

    Raises:
        InputError: there is none.
    """
    file = Path(url.removeprefix("duckdb:///"))
    if dialect_of(url) == "duckdb" and not file.exists():
        raise InputError(f"there is no archive `{file}`")
    archive = connect()
    try:
        place, meta = archive.session.place, archive.layout.names["muniment_meta"]
        if meta not in archive.session.tables(archive.layout.schema):
            raise InputError(f"there is no archive in `{place.name}`: it has no table `{meta}` that this role can see")
        version = archive.session.execute(sa.select(archive.tables["muniment_meta"].c.version))
        if version and version[0][0] > VERSION:
            raise place.fatal(
                f"the archive in `{place.name}` was written by a newer muniment (schema version {version[0][0]});"
                " update muniment"
            )
    except BaseException:
        archive.close()
        raise
    return archive


def read_records(archive: Archive, damaged: Callable[[Damage], None]) -> Iterator[Record]:
    """Yield every record in the order of its number, and tell of those that cannot be read."""
    c = archive.tables["records"].c
    label = archive.session.place.name
    last = 0
    while True:
        rows = archive.session.execute(
            sa.select(c.no, c.chunks, c.data).where(c.no > last).order_by(c.no).limit(_PAGE_RECORDS)
        )
        if not rows:
            return
        for number, chunks, data in rows:
            blob = bytes(data) if chunks == 1 else archive.blob(number)
            try:
                yield record_from_blob(blob, Origin(label, "", number, number))
            except DamagedBlobError:
                damaged(Damage(f"{archive.layout.names['records']}/{number}", _keys(archive, number)))
        last = rows[-1][0]


def find_record(archive: Archive, key: str) -> Record | None:
    """Return the record that is stored under a key; none where that is damaged."""
    c, digest = archive.tables["records"].c, digest_of(key)
    rows = archive.session.execute(sa.select(c.no).where(c.key_digest == digest))
    try:
        return record_from_blob(archive.blob(rows[0][0]), Origin(archive.session.place.name, "")) if rows else None
    except DamagedBlobError:
        return None


def refuse_damage(damage: Damage) -> None:
    """Hear of damage where a record is needed.

    Raises:
        InputError: always.
    """
    raise InputError(f"`{damage.where}` is damaged; fill it from another copy with `muniment repair`")


def _keys(archive: Archive, number: int) -> tuple[str, ...]:
    """Return the key of a record whose own words cannot be read."""
    conversations = archive.tables.get("conversations")
    if conversations is None:
        return ()
    c = conversations.c
    rows = archive.session.execute(sa.select(c.source, c.id).where(c.no == number))
    return tuple(f"{source}:{identity}" for source, identity in rows)


def open_asset(archive: Archive, asset: Asset) -> BinaryIO:
    """Return the bytes of an asset, streamed.

    Raises:
        FileNotFoundError: the archive does not hold it.
    """
    chunks = archive.tables["asset_chunks"].c
    statement = sa.select(sa.func.count()).where(chunks.sha256 == asset.sha256)
    count = archive.session.execute(statement)[0][0] if asset.sha256 else 0
    if not count:
        raise FileNotFoundError(asset.id)
    return io.BufferedReader(_ChunkStream(archive, asset.sha256 or "", count))


class _ChunkStream(io.RawIOBase):
    def __init__(self, archive: Archive, sha256: str, count: int) -> None:
        self._archive = archive
        self._sha256 = sha256
        self._positions = iter(range(count))
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunks = self._archive.tables["asset_chunks"].c
        while not self._rest:
            position = next(self._positions, None)
            if position is None:
                return 0
            statement = sa.select(chunks.data).where(chunks.sha256 == self._sha256, chunks.position == position)
            self._rest = memoryview(bytes(self._archive.session.execute(statement)[0][0]))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class SQLKnown(Known):
    """What an archive holds, by key, for workers.  Without an answer it knows nothing: the writer asks again."""

    def __init__(self, connect: Callable[[], Archive]) -> None:
        self._connect = connect
        self._archive: Archive | None = None

    def is_empty(self) -> bool:
        """Say whether nothing is stored, as far as it can be asked."""
        try:
            return not self._opened().session.execute(sa.select(self._opened().tables["records"].c.no).limit(1))
        except TransientError:
            self.close()
            return False

    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        digests = {digest_of(k): k for k in keys}
        try:
            found = self._opened().existing(list(digests))
        except TransientError:
            self.close()
            return {}
        return {digests[d]: (s.source_hash, s.plan_hash) for d, s in found.items()}

    def _opened(self) -> Archive:
        if self._archive is None:
            self._archive = self._connect()
        return self._archive

    def close(self) -> None:
        archive, self._archive = self._archive, None
        if archive is not None:
            with contextlib.suppress(MunimentError):
                archive.close()
