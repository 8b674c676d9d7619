"""How are files stored?  In pieces, once for each digest, in the unit's transaction."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

import sqlalchemy as sa

from muniment import Asset, RecordError, Rejected
from muniment_plugins.sinks.sql.changes import Change
from muniment_plugins.sinks.sql.rows import PIECE_BYTES, Row
from muniment_plugins.sinks.sql.session import Session

_DIGESTS_PER_QUERY = 500


class Assets:
    """The table ``asset_chunks``; ``load`` inserts rows into a table of ours."""

    def __init__(
        self,
        session: Session,
        tables: Mapping[str, sa.Table],
        load: Callable[[str, Sequence[Row]], None],
        open_asset: Callable[[Asset], BinaryIO],
    ) -> None:
        self._session = session
        self._chunks = tables["asset_chunks"]
        self._load = load
        self._open_asset = open_asset

    def store(self, changes: list[Change], rejected: list[Rejected]) -> list[Change]:
        """Store the bytes that the archive lacks; return the changes whose assets are all there."""
        wanted = sorted({a.sha256 for c in changes for a in c.rows.assets if a.sha256})
        if not wanted:
            return changes
        chunks = self._chunks.c
        held: set[str] = set()
        for start in range(0, len(wanted), _DIGESTS_PER_QUERY):
            some = chunks.sha256.in_(wanted[start : start + _DIGESTS_PER_QUERY])
            statement = sa.select(chunks.sha256).where(chunks.position == 0, some)
            held.update(r[0] for r in self._session.execute(statement))
        kept: list[Change] = []
        for change in changes:
            try:
                for asset in change.rows.assets:
                    if asset.sha256 and asset.sha256 not in held:
                        self._store(asset, asset.sha256)
                        held.add(asset.sha256)
                kept.append(change)
            except RecordError as error:
                rejected.append(Rejected(change.rows.origin, "write", error.reason, change.rows.key))
        return kept

    def _store(self, asset: Asset, digest: str) -> None:
        actual = hashlib.sha256()
        try:
            with contextlib.closing(self._open_asset(asset)) as stream:
                for position, data in enumerate(_pieces(stream)):
                    actual.update(data)
                    self._load("asset_chunks", [(digest, position, data)])
        except FileNotFoundError:
            actual = hashlib.sha256(b"gone")
        if actual.hexdigest() != digest:
            self._session.execute(sa.delete(self._chunks).where(self._chunks.c.sha256 == digest))
            raise RecordError("an asset changed or vanished while it was read; run the import again")


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    first = True
    while (data := stream.read(PIECE_BYTES)) or first:
        first = False
        yield data
