"""Are the files in an archive what was stored, each one that a record names, and no others?"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping

from attrs import frozen

from muniment.errors import DamagedError
from muniment.verification import Finding, Inspection
from muniment_plugins.sinks.sqlite.assets import NO_CONVERSATION, chunks
from muniment_plugins.sinks.sqlite.cover import Cover, Encrypted

_CHUNKS = "SELECT data FROM asset_chunks WHERE sha256=? ORDER BY position"
_RECEIPTS = "SELECT key, stored_hash, gone FROM receipts WHERE conversation=? ORDER BY no"


def stored_digests(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the digests of what an encrypted archive has of files, by their names there."""
    stored: dict[str, str] = {}
    for name, digest, gone in connection.execute(_RECEIPTS, (NO_CONVERSATION,)):
        stored[name] = digest.hex() if isinstance(digest, bytes) else ""
        if gone:
            del stored[name]
    return stored


@frozen(eq=False)
class AssetsCheck:
    """Files, to be compared with their names and with what the records name.

    ``cover`` is None where an encrypted archive's keys are missing; of such an archive ``stored`` says
    what its ciphertext was.
    """

    connection: sqlite3.Connection
    inspection: Inspection
    cover: Cover | None
    stored: Mapping[str, str]
    named: set[str]

    def findings(self) -> Iterator[Finding]:
        found = [r[0] for r in self.connection.execute("SELECT DISTINCT sha256 FROM asset_chunks")]
        for name in self.inspection.choose(found):
            self.inspection.objects += 1
            self.inspection.seen()
            yield from self._file(name)
        for name in sorted((self.named | self.stored.keys()) - set(found)):
            yield Finding("missing", f"file {name}", "a record names it, and it is gone")
        if self.inspection.sample is None:
            # What only a changed record names is told with that record; its row still does.
            rows = {r[0] for r in self.connection.execute("SELECT sha256 FROM assets")}
            for name in sorted(set(map(str, found)) - self.named - rows - self.stored.keys()):
                yield Finding("extra", f"file {name}", "no record names it")

    def _file(self, name: str) -> Iterator[Finding]:
        actual = hashlib.sha256()
        for (data,) in self.connection.execute(_CHUNKS, (name,)):
            # A changed cell may be of another type.
            actual.update(data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogatepass"))
        is_plain = self.cover is not None and not self.cover.hides
        if actual.hexdigest() != (name if is_plain else self.stored.get(name)):
            yield Finding("changed", f"file {name}", "its bytes are not what was stored")
        elif isinstance(self.cover, Encrypted) and not self._opens(name, self.cover):
            yield Finding("unreadable", f"file {name}", "it cannot be decrypted, or is another file")

    def _opens(self, name: str, cover: Encrypted) -> bool:
        actual = hashlib.sha256()
        try:
            for data in chunks(self.connection, cover, name):
                actual.update(data)
        except DamagedError:
            return False
        return cover.asset_name(actual.hexdigest()) == name
