"""What did a unit store?  One JSON object per commit, numbered, each naming the one before.

The manifests are the authority on what an object target holds: an object that none of them names is
not part of the archive.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
from attrs import field, frozen

from muniment.components import Checkpoint, Counts, Unit
from muniment.errors import FatalError
from muniment.model import JSON, Rejected
from muniment.state import StoredRecord
from muniment.storage import Storage

PREFIX = ".muniment/manifests/"
_VERSION = 1
_NAME = re.compile(re.escape(PREFIX) + r"([0-9]{8,})\.json")


@frozen(kw_only=True)
class Manifest:
    """What one commit stored.

    ``objects`` are ``{name, size, sha256, records}``; a record's row is ``[key, source_hash,
    updated_at, message digests (hex, 8 digits each), supersedes]``, where ``supersedes`` says that
    earlier versions of it no longer count.  ``removed`` are names, ``missing_assets`` digests.
    ``previous`` is the SHA-256 of the manifest before, empty for the first.
    """

    number: int
    unit: Unit
    plan_hash: str
    mode: str
    format: str
    pipeline: str = ""
    sink: str = ""
    format_options: Mapping[str, JSON] = field(factory=dict)
    objects: tuple[dict[str, Any], ...] = ()
    removed: tuple[str, ...] = ()
    missing_assets: tuple[str, ...] = ()
    previous: str = ""

    def to_json(self) -> bytes:
        """Return canonical JSON: sorted keys, no blanks, ASCII."""
        value = {
            **{a.name: getattr(self, a.name) for a in attrs.fields(Manifest)},
            "version": _VERSION,
            "unit": {
                **attrs.asdict(self.unit),
                "quarantined": msgspec.to_builtins(self.unit.quarantined),
            },
            "format_options": dict(self.format_options),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Return what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        value = json.loads(data)
        if value.pop("version") != _VERSION:
            raise ValueError("it was written by a newer version")
        unit = value.pop("unit")
        quarantined = msgspec.convert(unit.pop("quarantined"), tuple[Rejected, ...])
        checkpoint, counts = Checkpoint(**unit.pop("checkpoint")), Counts(**unit.pop("counts"))
        for name in ("objects", "removed", "missing_assets"):
            value[name] = tuple(value[name])
        return cls(unit=Unit(checkpoint=checkpoint, counts=counts, quarantined=quarantined, **unit), **value)

    def records(self) -> Iterator[StoredRecord]:
        """Yield what this commit stored, for the state."""
        for made in self.objects:
            for key, source_hash, updated_at, digits, _ in made["records"]:
                messages = frozenset(digits[i : i + 8] for i in range(0, len(digits), 8))
                yield StoredRecord(key, source_hash, self.plan_hash, updated_at, made["name"], messages, self.unit.run)


def row(record: StoredRecord, *, supersedes: bool) -> list[JSON]:
    """Return a record's row in a manifest."""
    messages = "".join(sorted(record.messages))
    return [record.key, record.source_hash, record.updated_at, messages, supersedes]


def part_id(run: str, unit: int, part: int) -> str:
    """Return what stands for ``{part}`` in a name: no two parts of a target share it."""
    return f"part-{unit:08}-{run}" + (f"-{part}" if part > 1 else "")


def unit_of_part(name: str, run: str) -> int:
    """Return the number of the unit of ``run`` that an object is a part of; 0 if it is none."""
    found = re.search(rf"(?:^|[^0-9A-Za-z])part-([0-9]{{8,}})-{re.escape(run)}(?![0-9A-Za-z])", name)
    return int(found[1]) if found else 0


def name_of(number: int) -> str:
    return f"{PREFIX}{number:08}.json"


def numbers(storage: Storage) -> list[int]:
    """Return the numbers of the manifests that a storage holds, in order."""
    matches = (_NAME.fullmatch(s.name) for s in storage.list(PREFIX))
    return sorted(int(m[1]) for m in matches if m)


def load(storage: Storage, number: int) -> tuple[Manifest, str]:
    """Return a manifest and the SHA-256 of its bytes.

    Raises:
        FatalError: it is missing or damaged.
    """
    name = name_of(number)
    try:
        with storage.open(name) as stream:
            data = stream.read()
        return Manifest.from_json(data), hashlib.sha256(data).hexdigest()
    except (ValueError, KeyError, TypeError, FileNotFoundError, msgspec.ValidationError) as error:
        raise FatalError(
            f"manifest `{name}` cannot be read ({type(error).__name__}); restore it from a copy, or write to"
            " a new place"
        ) from error


def load_all(storage: Storage) -> Iterator[Manifest]:
    """Yield the manifests of a storage, in order."""
    for number in numbers(storage):
        yield load(storage, number)[0]
