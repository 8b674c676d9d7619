"""Which files of an export hold conversations, and where is the rest?

Three generations: one ``conversations.json``; shards ``conversations-000.json`` ... with an
``export_manifest.json``; assets as ``<file id>.dat``.
"""

import bisect
import glob
import io
import re
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec
from attrs import evolve

from muniment import InputError
from muniment.canonical import loads
from muniment.model import JSON, as_mapping
from muniment_plugins.sources.chatgpt_export import vendors
from muniment_plugins.sources.chatgpt_export.container import (
    DEFAULT_LIMITS,
    Container,
    Folder,
    Limits,
    Member,
    SingleFile,
    name_problem,
    shown,
)
from muniment_plugins.sources.chatgpt_export.inflate import crc32
from muniment_plugins.sources.chatgpt_export.zips import Zip

__all__ = ["Export", "Member", "find_exports", "open_export"]

MANIFEST = "export_manifest.json"

_CONVERSATIONS = re.compile(r"conversations(?:-([0-9]{1,18}))?\.json")
_MOST_SHARDS = 10_000
_SIDECARS = frozenset({
    MANIFEST, "user.json", "user_settings.json", "message_feedback.json", "shared_conversations.json",
    "model_comparisons.json", "group_chats.json", "shopping.json", "sora.json", "codex.json", "ads.json",
    "conversation_asset_file_names.json", "library_files.json", "sectioned_conversations.json",
    "tool_messages.json",
})  # fmt: skip
_JUNK = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$)")
_MAX_SIDECAR_BYTES, _MAX_SIDECAR_VALUES = 24 << 20, 1_000_000  # what is made of them stays below 150 MB
_DO = "give the zip that OpenAI sent, the folder it was extracted to, or its conversations.json"
_CACHED_EXPORTS = 4


class Export:
    """One export.  Cheap to make: contents are read when they are asked for.

    ``label`` is what the user called it; ``fingerprint`` (64 hex digits) is of names, sizes and the CRCs
    of all JSON, so that a zip and the folder extracted from it have the same.  ``members`` are by their
    name below the top folder; ``conversation_members`` stand in the order of the shards.  ``single_file``:
    there is nothing beside the conversations, so nobody knows whether they are all.
    """

    def __init__(self, path: str, container: Container, root: str, limits: Limits) -> None:
        self.path = path
        self.label = container.label
        self.limits = limits
        self.single_file = isinstance(container, SingleFile)
        self._container = container
        self.members: Mapping[str, Member]
        self.members, self._duplicates = _below(container, root)
        if self.single_file:
            self.conversation_members: tuple[str, ...] = tuple(self.members)
            self.missing_shards: tuple[str, ...] = ()
        else:
            self.conversation_members, self.missing_shards = self._find_conversations()
        for name in self.conversation_members:
            self._get(name)
        total = sum(self.members[n].size for n in self.conversation_members)
        if total > limits.max_total_bytes:
            raise InputError(f"the conversations of `{self.label}` claim to be {total} bytes; if you trust the "
                             "file, raise `max_total_bytes`")  # fmt: skip

    def __reduce__(self) -> tuple[object, tuple[str, Limits]]:
        return open_export, (self.path, self.limits)

    @cached_property
    def fingerprint(self) -> str:
        lines = sorted(
            f"{m.name}\0{m.size}\0{self._crc(m) if m.name.endswith('.json') and '/' not in m.name else ''}"
            for m in self.members.values()
            if not m.problem
        )
        return sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def blocks(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Yield the content of a member from byte ``start`` on; its CRC is checked at the end.

        Raises:
            FileNotFoundError: there is no such member.
            InputError: it cannot be trusted or read.
        """
        return self._container.blocks(self._get(name), start)

    def open(self, name: str) -> BinaryIO:
        """Return a member's content as a stream.  Raises what `blocks` raises, also while it is read."""
        return io.BufferedReader(_BlockStream(self.blocks(name)))  # type: ignore[return-value,arg-type,unused-ignore]

    def read_json(self, name: str, max_bytes: int = _MAX_SIDECAR_BYTES) -> JSON | None:
        """Return what a JSON file beside the conversations holds; None if there is none.

        Raises:
            InputError: it is larger than ``max_bytes``, damaged, or no JSON.
        """
        if name not in self.members:
            return None
        large = InputError(f"`{name}` in `{self.label}` is larger than any export's; remove it from the export")
        if self.members[name].size > max_bytes:
            raise large
        data = b"".join(self.blocks(name)).removeprefix(b"\xef\xbb\xbf")
        # Three bytes of JSON can become a hundred of Python's.
        if sum(data.count(sign) for sign in (b",", b"[", b"{")) > _MAX_SIDECAR_VALUES:
            raise large
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:
            return loads(data)
        except msgspec.DecodeError as error:
            raise InputError(f"`{name}` in `{self.label}` is not JSON ({error}); download the export again") from None

    def find_asset(self, asset_id: str) -> Member | None:
        """Return the member that holds an asset: ``<id>.dat``, else one whose file name is the id, or
        begins with it and a hyphen or dot."""
        if not asset_id or self.single_file:
            return None
        exact = self.members.get(f"{asset_id}.dat")
        if exact is not None and not exact.problem:
            return exact
        at = bisect.bisect_left(self._by_file_name, (asset_id,))
        for file_name, name in self._by_file_name[at:]:
            if not file_name.startswith(asset_id):
                break
            if file_name[len(asset_id) : len(asset_id) + 1] in ("", "-", "."):
                return self.members[name]
        return None

    @cached_property
    def _by_file_name(self) -> Sequence[tuple[str, str]]:
        taken = {*self.conversation_members, *_SIDECARS}
        return sorted(
            (name.rpartition("/")[2], name) for name, m in self.members.items() if not m.problem and name not in taken
        )

    def _get(self, name: str) -> Member:
        member = self.members.get(name)
        if member is None:
            raise FileNotFoundError(name)
        if member.problem:
            raise InputError(f"`{shown(name)}` in `{self.label}` cannot be read: {member.problem}")
        if name in self._duplicates:
            raise InputError(f"`{self.label}` holds `{shown(name)}` twice, so nobody can say which counts: "
                             "download it again")  # fmt: skip
        return member

    def _crc(self, member: Member) -> int:
        if member.crc is not None:
            return member.crc
        crc = 0
        for block in self._container.blocks(member):
            crc = crc32(block, crc)
        return crc

    def _find_conversations(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = sorted((n for n in self.members if _CONVERSATIONS.fullmatch(n)), key=_shard_order)
        promised = self._promised()
        numbers = [int(m[1]) for n in found if (m := _CONVERSATIONS.fullmatch(n)) and m[1]]
        if numbers and max(numbers) >= _MOST_SHARDS:
            raise InputError(f"`{self.label}` holds `{found[-1]}`, but no export has so many files of conversations: "
                             "check where it comes from")  # fmt: skip
        if numbers and not promised:
            width = len(found[-1]) - len("conversations-.json")
            promised = [f"conversations-{i:0{width}}.json" for i in range(max(numbers) + 1)]
        ordered = [n for n in promised if n in self.members] + [n for n in found if n not in promised]
        return tuple(ordered), tuple(n for n in promised if n not in self.members)

    def _promised(self) -> list[str]:
        """Return the conversation files that the manifest names, in its order."""
        try:
            manifest = as_mapping(self.read_json(MANIFEST))
        except InputError:
            return []  # The shards' names tell their order, too.
        files = [f for entry in as_mapping(manifest.get("logical_files")).values() for f in _list(entry, "files")]
        files += [as_mapping(f).get("path") for f in _list(manifest, "export_files")]
        return list(dict.fromkeys(f for f in files if isinstance(f, str) and _CONVERSATIONS.fullmatch(f)))


_cache: OrderedDict[str, tuple[object, Export]] = OrderedDict()


def open_export(path: str, limits: Limits = DEFAULT_LIMITS, *, anew: bool = False) -> Export:
    """Return the export that stands at ``path``, one of `find_exports`; a process opens each one once
    unless told to open it ``anew``.

    Raises:
        InputError: there is no ChatGPT export, or it is damaged or not to be trusted.
    """
    stamp = _stamp(Path(path))
    kept = _cache.get(path)
    if not anew and kept is not None and kept[0] == stamp and kept[1].limits == limits:
        _cache.move_to_end(path)
        return kept[1]
    container = _container(Path(path), limits)
    export = Export(path, container, _roots(container)[0], limits)
    _cache[path] = (stamp, export)
    while len(_cache) > _CACHED_EXPORTS:
        _cache.popitem(last=False)
    return export


def find_exports(paths: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> Iterator[str]:
    """Yield for each export below ``paths`` (files, folders, globs) what `open_export` takes, in order.

    Raises:
        InputError: a path names nothing, or something that is no ChatGPT export.
    """
    for path in paths:
        for outer in _expand(path):
            container = _container(Path(outer), limits)
            for root in _roots(container):
                yield str(Path(outer, root)) if isinstance(container, Folder) else outer


def _expand(path: str) -> list[str]:
    plain = Path(path).expanduser()
    if plain.exists():
        return [str(plain)]
    found = sorted(glob.glob(str(plain), recursive=True))  # noqa: PTH207 - it takes absolute patterns
    if not found:
        raise InputError(f"there is no file `{path}`; {_DO}")
    return found


def _stamp(path: Path) -> object:
    """Return what changes when the file does.  (A folder is opened anew by each reader.)"""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"`{path.name}` cannot be read: {error.strerror}") from error
    return None if path.is_dir() else (status.st_size, status.st_mtime_ns, status.st_ino)


def _container(path: Path, limits: Limits) -> Container:
    label = shown(path.name or str(path))
    try:
        if path.is_dir():
            return Folder(path, label)
        with path.open("rb") as file:
            head = file.read(512)
        if head[:2] == b"PK":
            return Zip(path, label, limits)
        _check_text(head, path, label)
        return SingleFile(path, label)
    except OSError as error:
        raise InputError(f"`{label}` cannot be read: {error.strerror}") from error


_OTHER_FILES = (
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"%PDF", "a PDF"),
    (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
)


def _check_text(head: bytes, path: Path, label: str) -> None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"[", b"{"):
        return
    if not text and path.stat().st_size <= len(head):
        raise InputError(f"`{label}` is empty: download it again")
    if head.startswith(b"SQLite format 3\0"):
        raise InputError(f"`{label}` is a SQLite database; muniment's own are read by the source `archive`")
    for magic, what in _OTHER_FILES:
        if head.startswith(magic):
            raise InputError(f"`{label}` is {what}; {_DO}" if ";" not in what else f"`{label}` is {what}")
    if text[:1] == b"<":
        raise InputError(f"`{label}` is a web page, which does not hold everything; {_DO}")
    if path.suffix.lower() == ".zip":
        raise InputError(f"`{label}` is not a zip, whatever its name says: download it again")
    raise InputError(f"`{label}` is not a ChatGPT export; {_DO}")


def _roots(container: Container) -> list[str]:
    """Return the folders in ``container`` that hold conversations (``""`` or with a slash at the end), in order."""
    if isinstance(container, SingleFile):
        return [""]
    label = container.label
    names = [m.stored_name for m in container.members if not _JUNK.search(m.stored_name)]
    for member in container.members:
        if member.problem and _looks_needed(member.stored_name):
            raise InputError(f"`{shown(member.stored_name)}` in `{label}` cannot be read: {member.problem}")
    roots = sorted({n[: -len(f)] for n in names if _CONVERSATIONS.fullmatch(f := n.rpartition("/")[2])})
    if len(roots) > 1 and not isinstance(container, Folder):
        listed = ", ".join(f"`{shown(r) or '/'}`" for r in roots[:3])
        raise InputError(f"`{label}` holds {len(roots)} exports ({listed}): unpack it and give the folder")
    if roots:
        return roots
    raise InputError(_nothing_found(container, names))


def _looks_needed(name: str) -> bool:
    last = re.split(r"[/\\]", name.partition("\0")[0])[-1]
    return not _JUNK.search(name) and _CONVERSATIONS.fullmatch(last) is not None


def _nothing_found(container: Container, names: Sequence[str]) -> str:
    label = container.label
    if not names:
        return f"`{label}` is empty: download it again"
    if vendor := vendors.of_names(names):
        return f"`{label}` looks like {vendor}, not like a ChatGPT export"
    last = [n.rpartition("/")[2] for n in names]
    if any(n.lower().endswith(".zip") for n in last):
        return f"`{label}` holds zips, but no conversations.json; give the zips themselves (a glob such as `*.zip`)"
    if "chat.html" in last:
        return f"`{label}` holds chat.html, but no conversations.json; {_DO}"
    if any(n.endswith(".json") for n in last):
        return f"`{label}` holds no conversations.json; if another file holds the conversations, give that file"
    return f"`{label}` holds no conversations.json, so it is no ChatGPT export; {_DO}"


def _below(container: Container, root: str) -> tuple[dict[str, Member], frozenset[str]]:
    members: dict[str, Member] = {}
    names: Counter[str] = Counter()
    spellings: Counter[str] = Counter()
    for member in container.members:
        name = member.name
        if not name.startswith(root) or _JUNK.search(name) or name_problem(name):
            continue
        name = name[len(root) :]
        names[name] += 1
        spellings[_spelled(name)] += 1
        members[name] = evolve(member, name=name)
    # The ids in the names of assets differ by case alone; of what is named in words there must be one.
    twice = {n for n in members if spellings[_spelled(n)] > 1 and _is_ours(_spelled(n))}
    return members, frozenset(twice | {n for n, count in names.items() if count > 1})


def _spelled(name: str) -> str:
    """Return what a file system that ignores case and forms of Unicode takes ``name`` for."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _is_ours(name: str) -> bool:
    return name in _SIDECARS or _CONVERSATIONS.fullmatch(name) is not None


def _shard_order(name: str) -> tuple[int, str]:
    match = _CONVERSATIONS.fullmatch(name)
    return (int(match[1]) if match and match[1] else -1, name)


def _list(value: JSON, key: str) -> list[JSON]:
    items = as_mapping(value).get(key)
    return items if isinstance(items, list) else []


class _BlockStream(io.RawIOBase):
    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block = memoryview(block)
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        n = min(len(target), len(self._block))
        target[:n] = self._block[:n]
        self._block = self._block[n:]
        return n

    def close(self) -> None:
        if not self.closed:
            close = getattr(self._blocks, "close", None)
            if close is not None:
                close()
        super().close()
