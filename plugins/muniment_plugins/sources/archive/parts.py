"""Which files make up an archive, in which order, and which versions of a conversation count?"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field, frozen

from muniment import InputError
from muniment.crypto import SUFFIX
from muniment.manifest import parse
from muniment.names import stem
from muniment_plugins.sources.archive.detect import Kind

MANIFESTS = ".muniment/manifests"
_READABLE = ("jsonl", "json")
_ENDINGS = tuple(
    f".{name}{packed}{sealed}" for name in _READABLE for packed in ("", ".gz", ".zst", ".xz") for sealed in ("", SUFFIX)
)
_EARLIER = ".earlier-"


@frozen
class FilePart:
    """A file.  ``rows`` are (key, supersedes) of its records in order, None where nothing is noted."""

    path: Path
    label: str
    rows: tuple[tuple[str, bool], ...] | None = None


@define
class Versions:
    """How many versions of a conversation count, and from which occurrence on."""

    count: int = 1
    skip: int = 0


@define
class Versioned:
    """Which keys occur more than once.  Holds 8 bytes of each key's hash, not the key."""

    seen: set[int] = field(factory=set)
    several: dict[int, Versions] = field(factory=dict)

    def add(self, key: str, *, supersedes: bool = False) -> None:
        """Note one more occurrence; one that supersedes makes those before it no longer count."""
        number = digest(key)
        if number not in self.seen:
            self.seen.add(number)
            return
        versions = self.several.setdefault(number, Versions())
        if supersedes:
            versions.skip += versions.count
            versions.count = 1
        else:
            versions.count += 1


@frozen
class Inventory:
    """What an archive of files consists of.

    ``missing`` are labels of files that are gone; ``unreadable`` counts those of other formats.
    """

    parts: tuple[FilePart, ...]
    fingerprint: str = ""
    missing: tuple[str, ...] = ()
    unreadable: int = 0


class _MadeBy(msgspec.Struct):
    number: int
    format: str


class _Object(msgspec.Struct):
    name: str
    records: list[list[Any]] = []
    of: _MadeBy | None = None


class _Manifest(msgspec.Struct):
    number: int
    format: str = ""
    objects: list[_Object] = []
    removed: list[str] = []


def digest(key: str) -> int:
    """Return 8 bytes of a key's hash."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def inventory(path: Path, kind: Kind) -> Inventory:
    """Return the parts of an archive, oldest first.

    Raises:
        InputError: there are none, or only such as cannot be read back.
    """
    if kind is Kind.FILE:
        return Inventory((FilePart(path, path.name),))
    manifests = sorted((path / MANIFESTS).glob("*.json"), key=lambda p: int(p.stem) if p.stem.isdigit() else 0)
    return _from_manifests(path, manifests) if manifests else _from_names(path)


def _from_manifests(root: Path, files: Iterable[Path]) -> Inventory:
    content = hashlib.sha256()
    found: dict[str, tuple[str, FilePart, int]] = {}
    for file in files:
        data = _bytes_of(file)
        content.update(data)
        manifest = _manifest(file, data)
        for name in manifest.removed:
            found.pop(name, None)
        for made in manifest.objects:
            # A mirror keeps such a copy where it could not merge; the object itself holds the newest.
            if not made.records or made.name.startswith(stem(made.name) + _EARLIER):
                continue
            rows = tuple((str(r[0]), bool(r[-1])) for r in made.records)
            found.pop(made.name, None)
            by = made.of or manifest
            found[made.name] = by.format, FilePart(_inside(root, made.name), made.name, rows), by.number
    # What was written anew counts as when it was first stored: versions have an order.
    parts = [part for form, part, _ in sorted(found.values(), key=lambda f: f[2]) if form in _READABLE]
    others = sorted({form for form, _, _ in found.values() if form not in _READABLE})
    if others and not parts:
        names = ", ".join(f"`{name}`" for name in others)
        raise InputError(f"`{root}` holds format {names}, which cannot be read back; only jsonl and json can")
    return Inventory(
        parts=tuple(p for p in parts if p.path.is_file()),
        fingerprint=content.hexdigest(),
        missing=tuple(p.label for p in parts if not p.path.is_file()),
        unreadable=len(found) - len(parts),
    )


def _from_names(root: Path) -> Inventory:
    """Return the files of a folder whose manifests did not come along."""
    files = sorted(p for p in root.rglob("*") if p.name.endswith(_ENDINGS) and _is_part(p, root))
    if not files:
        raise InputError(f"`{root}` is not an archive: it holds no .jsonl or .json files; check the path")
    return Inventory(tuple(FilePart(p, p.relative_to(root).as_posix()) for p in files))


def _is_part(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    hidden = any(name.startswith(".") or name == "assets" or name.endswith("-assets") for name in folders)
    return path.is_file() and not hidden and _EARLIER not in path.name


def _inside(root: Path, name: str) -> Path:
    path = root / name
    if name.startswith("/") or ".." in Path(name).parts:
        raise InputError(f"`{root}`: a manifest names `{name}`, which is outside the archive")
    return path


def _manifest(file: Path, data: bytes) -> _Manifest:
    try:
        return msgspec.convert(parse(data), _Manifest)
    except (ValueError, msgspec.ValidationError) as error:
        raise InputError(f"manifest `{file}` is damaged; restore it from a copy") from error


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"`{file}` cannot be read: {error.strerror}") from error
