"""How are the files of an archive read: each conversation once, with all its versions?"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from attrs import define, field

from muniment import (
    Asset,
    Chunk,
    Idle,
    InputError,
    MunimentError,
    Origin,
    Partition,
    Position,
    Reader,
    RecordError,
    Rejected,
)
from muniment.crypto import SUFFIX, Keyring, Vault
from muniment.crypto.folders import VAULT, archive_of
from muniment.crypto.frames import KeyObjects
from muniment.errors import ConfigError
from muniment.names import asset_name
from muniment.sinks.cover import Cover, Encrypted
from muniment.storage import check_name
from muniment_plugins.formats.cut import Piece, cut_array, cut_lines
from muniment_plugins.sources.archive.decode import Stored
from muniment_plugins.sources.archive.detect import Kind, inflated, is_array, is_encrypted_at
from muniment_plugins.sources.archive.parts import FilePart, Inventory, Versioned, digest, inventory

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


class _Key(msgspec.Struct):
    id: str
    source: str


_key_decoder = msgspec.json.Decoder(_Key)


class PartsReader(Reader):
    """Reads a file, or all files of a folder, as one partition.

    Positions count conversations: the same archive always gives them in the same order.
    """

    def __init__(self, path: Path, kind: Kind, keyring: Keyring | None = None) -> None:
        self._path = path
        self._kind = kind
        self._cover = _cover(path, kind, keyring)
        self._inventory = Inventory(())
        self._versioned = Versioned()

    def partitions(self) -> Iterator[Partition]:
        self._inventory, self._versioned = inventory(self._path, self._kind), Versioned()
        fingerprint = self._inventory.fingerprint or self._survey()
        if self._inventory.fingerprint:
            for part in self._inventory.parts:
                for key, supersedes in part.rows or ():
                    self._versioned.add(key, supersedes=supersedes)
        if not self._versioned.seen:
            raise InputError(f"`{self._path}` holds no conversations")
        yield Partition(
            id=f"archive:{fingerprint[:16]}",
            fingerprint=fingerprint,
            label=self._path.name,
            size=sum(p.path.stat().st_size for p in self._inventory.parts),
            findings=("missing_part",) * len(self._inventory.missing)
            + ("missing_readable_format",) * self._inventory.unreadable,
            locator={"path": str(self._path)},
        )

    def read(self, partition: Partition, after: Position | None) -> Iterator[Chunk | Idle]:
        done = 0 if after is None else int(after)
        progress, taken = _Progress(), _Taken()
        with tempfile.TemporaryFile() as spool:
            items = self._items(_Spool(spool, self._cover), partition.id, progress)
            for count, item in enumerate(items, 1):
                if count <= done:
                    continue
                taken.add(item)
                if taken.size >= _CHUNK_BYTES:
                    yield taken.chunk(partition, count, progress.since_last())
                done = count
            if taken.size:
                yield taken.chunk(partition, done, progress.since_last())

    def open_asset(self, asset: Asset) -> BinaryIO:
        if asset.sha256 is None or not _SHA256.fullmatch(asset.sha256):
            raise FileNotFoundError(asset.id)
        for folder in self._asset_folders():
            if self._cover.hides:
                sealed = folder / self._cover.asset_name(asset)
                if sealed.is_file():
                    return self._cover.opened(sealed.open("rb"))
                continue
            exact = folder / asset_name(asset.sha256, asset.name, asset.mime_type)
            if exact.is_file():
                return exact.open("rb")
            for found in sorted(exact.parent.glob(f"{asset.sha256}*")):
                return found.open("rb")
        raise FileNotFoundError(asset.id)

    def _asset_folders(self) -> list[Path]:
        if self._kind is Kind.FOLDER:
            return [self._path / "assets"]
        name, parent = self._path.name, self._path.parent
        for ending in (SUFFIX, ".gz", ".zst", ".xz", ".jsonl", ".json"):
            name = name.removesuffix(ending)
        return [parent / f"{name}-assets", parent / "assets"]

    # --- the first reading ------------------------------------------------------------------

    def _survey(self) -> str:
        """Note all keys of files that no manifest describes; return the fingerprint of their content."""
        content = hashlib.sha256()
        others = 0
        for part in self._inventory.parts:
            with part.path.open("rb") as raw:
                content.update(hashlib.file_digest(raw, "sha256").digest())
            try:
                for piece in _pieces(part, _Progress(), self._cover):
                    key = _key_of(piece)
                    if key is None:
                        others += 1
                    else:
                        self._versioned.add(key)
            except RecordError:
                others += 1
        if not self._versioned.seen and others:
            raise InputError(
                f"`{self._path}` holds no conversation that muniment wrote; a vendor's export is imported"
                " with `muniment import`"
            )
        return content.hexdigest()

    # --- the second one ---------------------------------------------------------------------

    def _items(self, spool: "_Spool", partition: str, progress: "_Progress") -> Iterator[Stored | Rejected]:
        several = self._versioned.several
        remaining = {key: v.count for key, v in several.items()}
        skipped = {key: v.skip for key, v in several.items() if v.skip}
        noted = self._cover.key if self._inventory.fingerprint else str
        for part in self._inventory.parts:
            try:
                for piece in _pieces(part, progress, self._cover):
                    # Most keys occur once; then there is nothing to look up.
                    key = _key_of(piece) if remaining else None
                    number = digest(noted(key)) if key is not None else 0
                    if number not in remaining:
                        yield Stored(((part.label, piece),))
                    elif skipped.get(number):
                        skipped[number] -= 1
                    elif remaining[number] > 1:
                        remaining[number] -= 1
                        spool.put(number, part.label, piece)
                    else:
                        yield Stored((*spool.take(number), (part.label, piece)))
            except RecordError as error:
                yield Rejected(Origin(part.label, partition), "read", error.reason)
        # Their last version could not be told from damage.
        for number in list(spool.places):
            yield Stored(tuple(spool.take(number)))


@define
class _Progress:
    """How many bytes of the files, as they lie on the disk, were read."""

    size: int = 0
    told: int = 0

    def since_last(self) -> int:
        more, self.told = self.size - self.told, self.size
        return more


@define
class _Taken:
    """What the next chunk will hold; ``size`` is in bytes, of which a rejection counts for one."""

    stored: list[Stored] = field(factory=list)
    rejected: list[Rejected] = field(factory=list)
    size: int = 0

    def add(self, item: Stored | Rejected) -> None:
        if isinstance(item, Rejected):
            self.rejected.append(item)
            self.size += 1
        else:
            self.stored.append(item)
            self.size += sum(len(piece.data) for _, piece in item.versions)

    def chunk(self, partition: Partition, end: int, size: int) -> Chunk:
        made = Chunk(partition, 0, end, tuple(self.stored), size, tuple(self.rejected))
        self.stored, self.rejected, self.size = [], [], 0
        return made


@define
class _Spool:
    """Earlier versions, kept on the disk until the last one comes."""

    file: BinaryIO
    cover: Cover
    places: dict[int, list[tuple[str, int, int, int, int]]] = field(factory=dict)

    def put(self, key: int, label: str, piece: Piece) -> None:
        at = self.file.seek(0, 2)
        size = self.file.write(self.cover.spooled(piece.data))
        self.places.setdefault(key, []).append((label, piece.start, piece.end, at, size))

    def take(self, key: int) -> Iterator[tuple[str, Piece]]:
        for label, start, end, at, size in self.places.pop(key, ()):
            self.file.seek(at)
            yield label, Piece(start, end, self.cover.unspooled(self.file.read(size)))


def _key_of(piece: Piece) -> str | None:
    try:
        key = _key_decoder.decode(piece.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _awkward_key(piece)
    return f"{key.source}:{key.id}"


def _awkward_key(piece: Piece) -> str | None:
    """Return the key of a record with lone surrogates, which the fast reader refuses."""
    try:
        value = json.loads(piece.data)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get("id"), str) and isinstance(value.get("source"), str):
        return f"{value['source']}:{value['id']}"
    return None


def _cover(path: Path, kind: Kind, keyring: Keyring | None) -> Cover:
    """Return what opens the files of an archive.

    Raises:
        ConfigError: it is encrypted, and there is no keyring.
        InputError: its vault is missing or damaged.
        WrongKeyError: no key opens it.
    """
    if kind is Kind.FOLDER:
        vault = path / VAULT
        sealed = vault.is_file()
    else:
        sealed = is_encrypted_at(path)
        name = path.name.removesuffix(SUFFIX)
        for ending in (".gz", ".zst", ".xz", ".jsonl", ".json"):
            name = name.removesuffix(ending)
        vault = path.parent / f"{name}-assets" / ".vault"
    if not sealed:
        return Cover()
    if keyring is None:
        raise ConfigError(f"`{path}` is encrypted; give its key with `encryption`, or `--key` on the command line")
    root = path if kind is Kind.FOLDER else archive_of(path) or path.parent
    keys = KeyObjects(lambda name: (root / check_name(name)).open("rb"), keyring)
    if not vault.is_file():
        # A file that has come alone; its assets have not.
        return Encrypted(keyring, Vault.new(keyring), keys)
    return Encrypted(keyring, Vault.open(vault.read_bytes(), keyring), keys)


def _pieces(part: FilePart, progress: _Progress, cover: Cover) -> Iterator[Piece]:
    """Yield what a file is cut into.

    Raises:
        RecordError: it ends in the middle of a record.
        InputError: it cannot be read, or is neither JSON Lines nor JSON.
    """
    with _readable(part), part.path.open("rb") as raw, inflated(raw, cover) as stream:
        before = 0
        array = is_array(stream)
        if array is None:
            raise InputError(
                f"`{part.label}` is neither an archive.db nor JSON of ours; formats csv, txt and markdown cannot"
                " be read back"
            )
        for piece in cut_array(stream) if array else cut_lines(stream):
            at = raw.tell()
            progress.size += at - before
            before = at
            yield piece
        progress.size += raw.tell() - before


@contextmanager
def _readable(part: FilePart) -> Iterator[None]:
    try:
        yield
    except MunimentError:
        raise
    except Exception as error:
        raise InputError(f"`{part.label}` is damaged ({type(error).__name__}); restore it from a copy") from error
