"""Which objects of a target are missing or damaged?"""

from collections.abc import Iterator

from muniment.crypto.frames import KEYS
from muniment.errors import FatalError
from muniment.objects import digest_of
from muniment.retention import purged_keys
from muniment.sinks import _object_manifest as manifests
from muniment.sinks._object_sealing import keys_of_part, keys_of_record
from muniment.storage import Storage
from muniment.units import Damage


def damages(storage: Storage) -> Iterator[Damage]:
    """Yield the objects with records that are not what the manifests say, with the keys that they held.

    Every object is read once.  Of a name that was given again the last manifest counts.
    """
    standing = list(manifests.Standing(storage).objects())
    keys = {made["name"]: made for _, made in standing if made["name"].startswith(KEYS)}
    purged = set(purged_keys(manifests.load_all(storage))) if keys else set()
    for _, made in standing:
        held = tuple(row[0] for row in made["records"] if row[0] not in purged)
        # Without its keys a record is as lost as without its object.
        of_keys = keys.get(keys_of_part(made["name"])) or (keys.get(keys_of_record(held[0])) if held else None)
        if held and not (is_sound(storage, made) and (of_keys is None or is_sound(storage, of_keys))):
            yield Damage(made["name"], held)


def is_sound(storage: Storage, made: dict[str, object]) -> bool:
    try:
        with storage.open(str(made["name"])) as stream:
            return digest_of(stream) == (made["size"], made["sha256"])
    except (FileNotFoundError, FatalError):
        return False
