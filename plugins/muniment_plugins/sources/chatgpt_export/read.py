"""How is an export read?  Members are partitions, and chunks are runs of whole conversations."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from attrs import asdict, define, field

from muniment import Asset, Chunk, Context, Idle, InputError, Origin, Partition, Position, Reader, Rejected
from muniment_plugins.sources.chatgpt_export import vendors
from muniment_plugins.sources.chatgpt_export.container import Limits
from muniment_plugins.sources.chatgpt_export.layout import Export, find_exports, open_export
from muniment_plugins.sources.chatgpt_export.split import (
    NotJSONError,
    Piece,
    Shape,
    find_start,
    is_conversation,
    split,
)

if TYPE_CHECKING:
    from muniment_plugins.sources.chatgpt_export import ChatGPTExport

_LOOKED_AT = 20
"""How many values must be something else before a file is refused as another vendor's."""

_MAX_PIECES = 2000  # in one chunk: what becomes of an empty value takes as much memory as of a short conversation
_SHORT_BYTES = 200  # no conversation in which something is said is shorter
_MAX_STRANGERS = 10_000


class ExportReader(Reader):
    """Reads all exports that a source names."""

    def __init__(self, source: "ChatGPTExport", ctx: Context) -> None:
        limits = Limits(max_ratio=source.max_ratio, max_total_bytes=source.max_total_bytes)
        self._chunk_bytes = source.chunk_bytes
        self._max_bytes = source.max_conversation_bytes
        # Only the paths are kept: a glob may name thousands of exports.
        self._exports: dict[str, str] = {}
        self._limits = limits
        for path in find_exports(source.paths, limits):
            export = open_export(path, limits, anew=True)
            self._exports.setdefault(export.fingerprint, path)

    def partitions(self) -> list[Partition]:
        """Return one partition for each file of conversations.

        Raises:
            InputError: an export is another vendor's, or holds no conversation.
        """
        return [p for path in self._exports.values() for p in self._partitions_of(self._open(path))]

    def read(self, partition: Partition, after: Position | None) -> Iterator[Chunk | Idle]:
        export = self._open(partition.locator["path"])
        member = partition.locator["member"]
        size = export.members[member].size
        if after is not None and after >= size:
            return
        shape, start = find_start(export.blocks(member))
        at = start if after is None else after
        pieces = split(export.blocks(member, at), shape, at, resumed=after is not None, max_bytes=self._max_bytes)
        yield from _Chunks(partition, self._chunk_bytes, at if after is not None else 0).cut(pieces)

    def open_asset(self, asset: Asset) -> BinaryIO:
        for path in self._exports.values():
            export = self._open(path)
            member = export.find_asset(asset.id)
            if member is not None:
                return export.open(member.name)
        raise FileNotFoundError(asset.id)

    def _open(self, path: str) -> Export:
        return open_export(path, self._limits)

    def _partitions_of(self, export: Export) -> Iterator[Partition]:
        whole = _look_at(export) is not Shape.SINGLE and not export.single_file and not export.missing_shards
        findings = tuple(f"missing_shard:{name}" for name in export.missing_shards)
        for name in export.conversation_members:
            yield Partition(
                id=f"chatgpt_export:{export.fingerprint[:16]}/{name}",
                fingerprint=export.fingerprint,
                label=export.label if export.single_file else f"{export.label}/{name}",
                size=export.members[name].size,
                complete=whole,
                findings=findings,
                locator={"path": export.path, "member": name, **asdict(export.limits)},
            )
            findings = ()


@define
class _Chunks:
    """Collects pieces into chunks."""

    partition: Partition
    max_bytes: int
    covered: int
    sequence: int = 0
    held: list[Piece] = field(factory=list)
    held_bytes: int = 0
    strangers: int = 0

    def cut(self, pieces: Iterator[Piece]) -> Iterator[Chunk]:
        try:
            for piece in pieces:
                size = piece.end - piece.start
                self._count_stranger(piece, size)
                full = self.held_bytes + size > self.max_bytes or len(self.held) >= _MAX_PIECES
                if self.held and full and self.held[-1].next is not None:
                    yield self._chunk()
                self.held.append(piece)
                self.held_bytes += size
        except InputError:
            if self.held and self.held[-1].next is not None:
                yield self._chunk()
            raise
        if self.held:
            yield self._chunk()

    def _count_stranger(self, piece: Piece, size: int) -> None:
        """Count what is surely no conversation.

        Raises:
            InputError: there is too much of it; each would become an entry in the quarantine.
        """
        if piece.data is None or (size < _SHORT_BYTES and not is_conversation(piece.data)):
            self.strangers += 1
            if self.strangers > _MAX_STRANGERS:
                raise InputError(f"`{self.partition.label}` holds more than {_MAX_STRANGERS} pieces that are no "
                                 "conversations: check where it comes from")  # fmt: skip

    def _chunk(self) -> Chunk:
        last = self.held[-1]
        end = last.end if last.next is None else last.next
        self.sequence += 1
        chunk = Chunk(
            partition=self.partition,
            sequence=self.sequence,
            end=end,
            data=tuple((p.start, p.end, p.data) for p in self.held if p.data is not None),
            size=end - self.covered,
            rejected=tuple(self._rejected(p) for p in self.held if p.data is None),
        )
        self.covered = end
        self.held = []
        self.held_bytes = 0
        return chunk

    def _rejected(self, piece: Piece) -> Rejected:
        origin = Origin(self.partition.label, self.partition.id, piece.start, piece.end, piece.digest)
        return Rejected(origin, "read", piece.reason)


def _look_at(export: Export) -> Shape:
    """Return the shape of the first file that holds something.

    Raises:
        InputError: these are no conversations of ChatGPT, or there are none.
    """
    found: list[str | None] = []
    shape = Shape.ARRAY
    for name in export.conversation_members:
        try:
            shape, start = find_start(export.blocks(name))
        except NotJSONError:
            raise InputError(f"`{name}` in `{export.label}` is not JSON: download the export again") from None
        for piece in islice(split(export.blocks(name, start), shape, start), _LOOKED_AT):
            if piece.data is None:
                return shape
            found.append(vendors.of_value(piece.data))
            if found[-1] == vendors.CHATGPT:
                return shape
        if found:
            break
    strangers = [f for f in found if f is not None]
    if strangers:
        raise InputError(f"`{export.label}` looks like {strangers[0]}, not like a ChatGPT export")
    if len(found) >= _LOOKED_AT:
        return shape
    if found:
        raise InputError(f"`{export.label}` holds no ChatGPT conversation: what is in it has none of their keys")
    raise InputError(f"`{export.label}` holds 0 conversations; if your account has some, request the export again")
