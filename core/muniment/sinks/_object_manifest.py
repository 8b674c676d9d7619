"""Where do the manifests of an object target lie?  One JSON object per commit, numbered.

They are the authority on what an object target holds: an object that none of them names is not part
of the archive.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from typing import Any

from attrs import define, field

from muniment.errors import FatalError
from muniment.manifest import Log, Manifest
from muniment.model import JSON
from muniment.proof import MAX_BYTES, SignedHead
from muniment.state import StoredRecord
from muniment.storage import Storage

__all__ = ["Manifest"]

PREFIX = ".muniment/manifests/"
HEAD = ".muniment/checkpoint"
"""The signed head of the log, where the storage can replace it."""
HEADS = ".muniment/checkpoints/"
"""The signed heads, one object each, where it cannot."""

_NAME = re.compile(re.escape(PREFIX) + r"([0-9]{8,})\.json")


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


def is_manifest(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def numbers(storage: Storage) -> list[int]:
    """Return the numbers of the manifests that a storage holds, in order."""
    matches = (_NAME.fullmatch(s.name) for s in storage.list(PREFIX))
    return sorted(int(m[1]) for m in matches if m)


def load(storage: Storage, number: int) -> tuple[Manifest, bytes]:
    """Return a manifest and its bytes.

    Raises:
        FatalError: it is missing or damaged.
    """
    name = name_of(number)
    try:
        with storage.open(name) as stream:
            data = stream.read()
        return Manifest.from_json(data), data
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as error:
        raise FatalError(
            f"manifest `{name}` cannot be read ({type(error).__name__}); restore it from a copy, or write to"
            " a new place"
        ) from error


def load_all(storage: Storage) -> Iterator[Manifest]:
    """Yield the manifests of a storage, in order."""
    for number in numbers(storage):
        yield load(storage, number)[0]


@define(eq=False)
class Standing:
    """The objects of a storage that count: named by a manifest, and by none that came after removed.

    Of a name that came again the last one counts.
    """

    storage: Storage
    _last: dict[str, tuple[int, int]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for manifest in load_all(self.storage):
            for made in manifest.objects:
                self._last[made["name"]] = manifest.made_by(made).number, manifest.number
            for name in manifest.removed:
                self._last.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._last

    def objects(self) -> Iterator[tuple[Manifest, dict[str, Any]]]:
        """Yield them with the manifest that names them, in the order in which their records were stored."""
        manifest: Manifest | None = None
        for place in sorted(set(self._last.values())):
            if manifest is None or manifest.number != place[1]:
                manifest = load(self.storage, place[1])[0]
            for made in manifest.objects:
                if self._last.get(made["name"]) == place and manifest.made_by(made).number == place[0]:
                    yield manifest, made


def log_of(storage: Storage, last: Manifest, data: bytes) -> Log:
    """Return the log that ends with the manifest ``last``, whose bytes are ``data``.

    Raises:
        FatalError: an earlier manifest is needed, and is missing or damaged.
    """
    try:
        log = Log.behind(last, data)
    except ValueError as error:
        raise FatalError(
            f"manifest `{name_of(last.number)}` does not fit its number; restore it from a copy"
        ) from error
    if log is not None:
        return log
    # Versions before the log: what it would have been is in the manifests themselves.
    log = Log()
    for number in range(1, last.number + 1):
        log.append(load(storage, number)[1])
    return log


# --- the head of the log --------------------------------------------------------------------


def head_name(storage: Storage, size: int) -> str:
    """Return the name of the object that holds the head of a log of this size."""
    return HEAD if storage.capabilities.replaces else f"{HEADS}{size:08}"


def load_head(storage: Storage) -> tuple[str, bytes]:
    """Return the name and bytes of the newest head; empty where there is none."""
    found: list[tuple[float, str, bytes]] = []
    for name in (*heads(storage)[-1:], HEAD):
        with suppress(FileNotFoundError), storage.open(name) as stream:
            note = stream.read(MAX_BYTES + 1)
            found.append((_size_of(note), name, note))
    return max(found)[1:] if found else ("", b"")


def heads(storage: Storage) -> list[str]:
    """Return the names of the heads that were never replaced, oldest first."""
    return sorted(s.name for s in storage.list(HEADS))


def _size_of(note: bytes) -> float:
    try:
        return SignedHead.parse(note).head.size
    except ValueError:
        # A damaged one is not passed over.
        return inf


def proof_files(storage: Storage) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests and the newest head as files."""
    for number in numbers(storage):
        yield f"manifests/{number:08}.json", load(storage, number)[1]
    _, note = load_head(storage)
    if note:
        yield "checkpoint", note


def store_head(storage: Storage, log: Log, note: bytes) -> None:
    """Replace the head; what was committed is durable before."""
    name = head_name(storage, log.number)
    staged = storage.stage(name)
    try:
        staged.write(note)
        staged.close()
        storage.sync()
        try:
            storage.publish(staged.token, name, if_absent=not storage.capabilities.replaces)
        except FileExistsError:
            # The same head, from an attempt whose answer was lost: it is the only one of this size.
            storage.delete(staged.token)
        storage.sync()
    except BaseException:
        staged.discard()
        raise
