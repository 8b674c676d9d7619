"""How does what was stored come back, each conversation once, merged from its versions?"""

import hashlib
from collections.abc import Iterator, Mapping, Set
from contextlib import closing
from typing import TYPE_CHECKING, Any

from attrs import define, field

from muniment.components import Format
from muniment.errors import FatalError, RecordError, TransientError
from muniment.merge import merge_records
from muniment.model import Origin, Record
from muniment.sinks import _object_manifest as manifests
from muniment.sinks.cover import Cover, read_opened
from muniment.state import State
from muniment.storage import Storage

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink


def read_back(
    sink: "ObjectSink", storage: Storage, state: State, cover: Cover, skip: Set[str] = frozenset()
) -> Iterator[Record]:
    """Yield every stored record, but those of objects in ``skip``.

    Memory holds 8 bytes of each key's hash, and those conversations of which some versions were
    read and some were not.

    Raises:
        NotImplementedError: the format cannot be read.
        FatalError: an object is missing or damaged.
        WrongKeyError: no key opens an object.
    """
    if not sink.make_format().reads_back:
        raise NotImplementedError(f"format `{sink.layout.format}` cannot be read back")
    if sink.layout.mode == "mirror":
        return _read_mirror(sink, storage, state, cover, skip)
    return _read_parts(sink, storage, cover, skip)


def read_object(storage: Storage, form: Format, name: str, cover: Cover) -> Iterator[Record]:
    """Yield the records of one object.

    Raises:
        FatalError: it is missing or damaged.
        TransientError: the storage cannot be reached.
    """
    try:
        with storage.open(name) as raw, closing(read_opened(cover, raw, name)) as stream:
            yield from form.decode(stream, Origin(name, name))
    except FileNotFoundError as error:
        raise FatalError(f"`{name}` is missing; restore it from a copy") from error
    except (FatalError, TransientError):
        raise
    except Exception as error:
        reason = error.reason if isinstance(error, RecordError) else type(error).__name__
        raise FatalError(f"`{name}` is damaged ({reason}); restore it from a copy") from error


def merged_versions(records: Iterator[Record], versions: dict[int, int], cover: Cover) -> Iterator[Record]:
    """Yield records; those whose key `digest` is in ``versions`` when as many as it says have come.

    The key is what ``cover`` makes of it.
    """
    waiting: dict[int, Record] = {}
    for record in records:
        key = digest(cover.key(record.key)) if versions else 0
        count = versions.get(key, 1)
        if key in waiting:
            record = merge_records(waiting.pop(key), record)
        if count > 1:
            waiting[key] = record
            versions[key] = count - 1
        else:
            yield record


def digest(key: str) -> int:
    """Return 8 bytes of a key's hash, which take less room than the key."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")


@define
class _Versions:
    """Which versions of a key count: ``count`` of them, from those of manifest ``first`` on."""

    first: int = 0
    count: int = 1


@define
class _Index:
    seen: set[int] = field(factory=set)
    several: dict[int, _Versions] = field(factory=dict)


def _read_parts(sink: "ObjectSink", storage: Storage, cover: Cover, skip: Set[str]) -> Iterator[Record]:
    standing = manifests.Standing(storage)
    index = _index(standing, skip)
    counts = {key: v.count for key, v in index.several.items() if v.count > 1}

    def records() -> Iterator[Record]:
        for manifest, made in standing.objects():
            if not made["records"] or made["name"] in skip:
                continue
            by = manifest.made_by(made)
            form = sink.make_format(by.format, by.format_options)
            for record in read_object(storage, form, made["name"], cover):
                versions = index.several.get(digest(cover.key(record.key))) if index.several else None
                if versions is None or by.number >= versions.first:
                    yield record

    return merged_versions(records(), counts, cover)


def _index(standing: manifests.Standing, skip: Set[str]) -> _Index:
    index = _Index()
    for manifest, made in standing.objects():
        if made["name"] in skip:
            continue
        for key, _, _, _, supersedes in made["records"]:
            number = digest(key)
            if number not in index.seen:
                index.seen.add(number)
            elif supersedes:
                index.several[number] = _Versions(manifest.made_by(made).number)
            elif number in index.several:
                index.several[number].count += 1
            else:
                index.several[number] = _Versions(count=2)
    return index


def _read_mirror(sink: "ObjectSink", storage: Storage, state: State, cover: Cover, skip: Set[str]) -> Iterator[Record]:
    current = (sink.layout.format, dict(sink.format_options))
    others: dict[str, tuple[str, Mapping[str, Any]] | None] = {}
    for manifest in manifests.load_all(storage):
        for made in manifest.objects:
            by = manifest.made_by(made)
            made_with = by.format, by.format_options
            others[made["name"]] = made_with if made_with != current else None
    for stored in state.records():
        if stored.location and stored.location not in skip:
            yield from read_object(
                storage, sink.make_format(*(others.get(stored.location) or current)), stored.location, cover
            )
