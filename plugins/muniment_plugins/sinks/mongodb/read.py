"""How is an archive read back?  In order of the keys, records exact, bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from muniment import InputError, Known, Record
from muniment.model import Origin
from muniment.record_blob import DamagedBlobError, record_from_blob
from muniment.retry import retry
from muniment.units import Damage
from muniment_plugins.sinks.mongodb.blobs import Bucket
from muniment_plugins.sinks.mongodb.connection import Connection
from muniment_plugins.sinks.mongodb.keys import document_id, is_digest
from muniment_plugins.sinks.mongodb.names import KNOWN_INDEX

_PAGE = 32


def read_records(connection: Connection, damaged: Callable[[Damage], None]) -> Iterator[Record]:
    """Yield every record, and tell of those that cannot be read.

    What is stored meanwhile may or may not be among them.
    """
    records = Bucket(connection, "records")
    number = 0
    last = ""
    # In pages: one can be asked for again after a fail-over, a cursor cannot.
    while page := retry(lambda: _page(connection, last)):  # noqa: B023 - called before the name changes
        for found in page:
            number += 1
            try:
                yield record_from_blob(blob_in(found, records), Origin(connection.place, "", number, number))
            except (DamagedBlobError, FileNotFoundError):
                key = _key(found) if is_digest(found["_id"]) else found["_id"]
                damaged(Damage(f"{connection.names.of('conversations')}/{found['_id']}", (key,)))
        last = page[-1]["_id"]


def find_record(connection: Connection, key: str) -> Record | None:
    """Return the record that is stored under a key; none where that is damaged."""
    with connection.translated():
        fields = {"record": 1, "record_sha256": 1}
        found = connection.collection("conversations").find_one({"_id": document_id(key)}, fields)
        try:
            blob = blob_in(found, Bucket(connection, "records")) if found else None
            return None if blob is None else record_from_blob(blob, Origin(connection.place, ""))
        except (DamagedBlobError, FileNotFoundError):
            return None


def refuse_damage(damage: Damage) -> None:
    """Hear of damage where a record is needed.

    Raises:
        InputError: always.
    """
    raise InputError(f"`{damage.where!a}` is damaged; fill it from another copy with `muniment repair`")


class MongoKnown(Known):
    """What an archive holds, by key, for workers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._conversations = connection.collection("conversations")

    def is_empty(self) -> bool:
        return retry(self._first) is None

    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        ids = {document_id(k): k for k in keys}
        return {ids[f["_id"]]: (f["source_hash"], f["plan_hash"]) for f in retry(lambda: self._find(list(ids)))}

    def close(self) -> None:
        self._connection.close()

    def _first(self) -> Any:
        with self._connection.translated():
            return self._conversations.find_one({}, {"_id": 1})

    def _find(self, ids: list[str]) -> list[Mapping[str, Any]]:
        fields = {"source_hash": 1, "plan_hash": 1}
        with self._connection.translated():
            return list(self._conversations.find({"_id": {"$in": ids}}, fields, hint=KNOWN_INDEX))


def blob_in(found: Mapping[str, Any], records: Bucket) -> bytes:
    """Return the bytes of the record that a document holds or names.

    Raises:
        FileNotFoundError: they are gone.
        OSError: they are not whole.
    """
    if "record" in found:
        return bytes(found["record"])
    with records.open(found.get("record_sha256", "")) as stream:
        return stream.read()


def _key(found: Mapping[str, Any]) -> str:
    return f"{found['source']}:{found['id']}"


def _page(connection: Connection, last: str) -> list[Mapping[str, Any]]:
    with connection.translated():
        # Every `_id` is text, and no key is empty.
        fields = {"record": 1, "record_sha256": 1, "source": 1, "id": 1}
        found = connection.collection("conversations").find({"_id": {"$gt": last}}, fields)
        return list(found.sort("_id", 1).limit(_PAGE))
