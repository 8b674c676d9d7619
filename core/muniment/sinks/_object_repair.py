"""Which objects of a target are missing or damaged?"""

from collections.abc import Iterator

from muniment.components import Damage
from muniment.errors import FatalError
from muniment.objects import digest_of
from muniment.sinks import _object_manifest as manifests
from muniment.storage import Storage


def damages(storage: Storage) -> Iterator[Damage]:
    """Yield the objects with records that are not what the manifests say, with the keys that they held.

    Every object is read once.  Of a name that was given again the last manifest counts.
    """
    for _, made in manifests.Standing(storage).objects():
        if made["records"] and not is_sound(storage, made):
            yield Damage(made["name"], tuple(row[0] for row in made["records"]))


def is_sound(storage: Storage, made: dict[str, object]) -> bool:
    try:
        with storage.open(str(made["name"])) as stream:
            return digest_of(stream) == (made["size"], made["sha256"])
    except (FileNotFoundError, FatalError):
        return False
