"""How are the keys of records destroyed, so that what they opened is lost for good wherever it lies?

An object of keys is written anew without them.  The new one waits beside, then the manifest says what it
is, then it takes the place of the old one: killed in between, `finish` does the rest.
"""

import hashlib
from collections.abc import Collection, Iterator
from typing import Any

from attrs import define, field

from muniment.crypto.frames import KEYS
from muniment.crypto.keys import key_id
from muniment.errors import DamagedError, FatalError
from muniment.objects import ObjectStream
from muniment.sinks import _object_manifest as manifests
from muniment.sinks._object_sealing import keys_of_part, keys_of_record, write_keys
from muniment.sinks.cover import Cover, Encrypted
from muniment.storage import Storage

WAITING = f"{KEYS}.next/"
"""Where objects of keys wait that are to take the place of others."""


@define(eq=False)
class Shred:
    """The keys to be destroyed in one purge.

    ``announced`` is what the manifest is to say of the objects of keys.
    """

    storage: Storage
    cover: Cover
    standing: dict[str, dict[str, Any]]
    """The objects of keys that count."""
    announced: list[dict[str, Any]] = field(factory=list)
    _left: dict[str, dict[str, bytes]] = field(factory=dict)
    _streams: list[tuple[str, ObjectStream]] = field(factory=list)

    def keys_name(self, made: dict[str, Any]) -> str:
        """Return where the keys of an object's records lie; empty where they have none of their own."""
        names = [keys_of_part(made["name"]), *(keys_of_record(row[0]) for row in made["records"][:1])]
        return next((n for n in names if n in self.standing), "")

    def take(self, name: str, records: Collection[str]) -> dict[str, str]:
        """Leave out the keys of these records; return what tombstones call them, by record.

        Raises:
            FatalError: the object of keys is missing or damaged.
        """
        assert isinstance(self.cover, Encrypted) and self.cover.keys
        if name not in self._left:
            try:
                self._left[name] = dict(self.cover.keys.read(name))
            except DamagedError as error:
                raise FatalError(f"{error}; nothing was purged") from error
        left = self._left[name]
        return {record: key_id(left.pop(record)) for record in records if record in left}

    def stage(self) -> None:
        """Write the objects without these keys; they are for nobody before `publish`."""
        for name, left in self._left.items():
            # Earlier versions of it hold nothing that this one does not; who may not end them is told so now.
            self.storage.erase_replaced(name)
            stream, made = write_keys(self.storage.stage(WAITING + name), name, left, self.cover)
            self._streams.append((name, stream))
            self.announced.append(made)

    def publish(self) -> None:
        """Let the new objects wait where `finish` looks for them; they are durable then."""
        for name, stream in self._streams:
            self.storage.publish(stream.token, WAITING + name)
        self._streams.clear()
        self.storage.sync()

    def discard(self) -> None:
        for _, stream in self._streams:
            stream.discard()


def key_objects(standing: manifests.Standing) -> Iterator[dict[str, Any]]:
    """Yield what counts of the objects of keys."""
    for _, made in standing.objects():
        if made["name"].startswith(KEYS):
            yield made


def finish(storage: Storage) -> None:
    """Put waiting objects of keys where a manifest says that they are, and take those away that none names."""
    waiting = [stored.name for stored in storage.list(WAITING)]
    if not waiting:
        return
    standing = {made["name"]: made for made in key_objects(manifests.Standing(storage))}
    for place in waiting:
        name = place.removeprefix(WAITING)
        made = standing.get(name)
        with storage.open(place) as stream:
            data = stream.read()
        if made is not None and hashlib.sha256(data).hexdigest() == made["sha256"]:
            _replace(storage, name, data)
        storage.delete(place)
    storage.sync()


def _replace(storage: Storage, name: str, data: bytes) -> None:
    staged = storage.stage(name)
    try:
        staged.write(data)
        staged.close()
        storage.sync()
        storage.publish(staged.token, name)
    except BaseException:
        staged.discard()
        raise
    storage.sync()
    storage.erase_replaced(name)
