"""What does an archive hold that is older than its manifests?"""

import hashlib
from collections.abc import Iterator

import sqlalchemy as sa

from muniment.model import Origin
from muniment.record_blob import DamagedBlobError, record_from_blob
from muniment.sinks.database_manifests import Stored
from muniment_plugins.sinks.sql.archive import Archive
from muniment_plugins.sinks.sql.rows import scrub

_AT_ONCE = 32


def adopt(archive: Archive) -> None:
    """Take what the archive holds into a first manifest, in the open transaction, if it has none."""
    if archive.stored.is_needed():
        archive.manifests.append_note(_adopted(archive), {}, count="adopted")


def _adopted(archive: Archive) -> Iterator[list[Stored]]:
    c, last = archive.tables["versions"].c, 0
    while numbers := archive.numbers(last, _AT_ONCE):
        earlier = archive.session.execute(
            sa.select(c.no, c.version).where(c.no.in_(numbers), c.position == 0).order_by(c.no, c.version)
        )
        blobs = [(int(n), archive.version_blob(n, v)) for n, v in earlier] + [(n, archive.blob(n)) for n in numbers]
        yield [Stored(n, _key_in(b, n), hashlib.sha256(b).digest()) for n, b in blobs]
        last = numbers[-1]


def _key_in(blob: bytes, number: int) -> str:
    try:
        return scrub(record_from_blob(blob, Origin("", "")).key)
    except DamagedBlobError:
        return f"number {number}"
