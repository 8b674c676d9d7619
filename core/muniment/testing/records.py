"""Records and a source of records, for tests."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
from attrs import field, frozen

from muniment.canonical import source_hash, to_json
from muniment.components import Context, Reader, Source
from muniment.model import Asset, Conversation, Message, Origin, Raw, Record, Rejected, TextPart
from muniment.units import Chunk, Idle, Partition, Position

TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def make_record(
    id: str = "c1",  # noqa: A002 - the name of the field
    texts: Sequence[str] = ("Hello", "Hi there"),
    *,
    title: str | None = "A talk",
    raw: bool = True,
    **fields: Any,
) -> Record:
    """Return a record whose messages hold ``texts`` in turn of user and assistant, a chain."""
    messages = tuple(
        Message(
            id=f"m{i}",
            role=("user", "assistant")[i % 2],
            parent_id=f"m{i - 1}" if i else None,
            parts=(TextPart(text),),
            created_at=TIME,
        )
        for i, text in enumerate(texts)
    )
    values: dict[str, Any] = {"title": title, "created_at": TIME, "updated_at": TIME, "messages": messages, **fields}
    return record_of(Conversation(id=id, source="test", **values), raw=raw)


def record_of(conversation: Conversation, *, raw: bool = True) -> Record:
    """Return a conversation as a record, with small raw JSON unless told otherwise."""
    nodes = tuple(to_json({"id": m.id}) for m in conversation.messages)
    return Record(
        conversation=conversation,
        origin=Origin("test", "test"),
        source_hash=source_hash(conversation),
        raw=Raw(to_json({"id": conversation.id}), nodes) if raw else None,
    )


def changed(record: Record, **fields: Any) -> Record:
    """Return a copy of a record as a source would give it whose conversation has these fields."""
    conversation = msgspec.structs.replace(record.conversation, **fields)
    return record_of(conversation, raw=record.raw is not None)


def make_asset(data: bytes, id: str = "file-1", **fields: Any) -> Asset:  # noqa: A002 - the name of the field
    """Return an asset whose bytes are ``data``; give them to a source by ``ListSource(assets=...)``."""
    return Asset(id=id, size=len(data), sha256=hashlib.sha256(data).hexdigest(), **fields)


@frozen(kw_only=True)
class ListSource(Source):
    """A source that gives ``records`` (or what stands for them), ``chunk_records`` at a time.

    One partition; its fingerprint is of the records.  ``assets`` are bytes by the SHA-256 that a
    record names them by.  ``fail_at`` raises an error before that record.
    """

    records: Sequence[Record | Rejected | Idle] = ()
    chunk_records: int = 1
    findings: tuple[str, ...] = ()
    assets: Mapping[str, bytes] = field(factory=dict)
    fail_at: int | None = None
    error: type[Exception] = field(default=RuntimeError)

    def open(self, ctx: Context) -> Reader:
        return _ListReader(self)


class _ListReader(Reader):
    def __init__(self, source: ListSource) -> None:
        self._source = source

    def partitions(self) -> Iterable[Partition]:
        keys = [getattr(r, "source_hash", "") or repr(r) for r in self._source.records]
        fingerprint = hashlib.sha256("\n".join(keys).encode()).hexdigest()
        size = len(self._source.records)
        yield Partition(f"list:{fingerprint[:16]}", fingerprint, "list", size, True, self._source.findings)

    def read(self, partition: Partition, after: Position | None) -> Iterator[Chunk | Idle]:
        source, step = self._source, self._source.chunk_records
        for start in range(after or 0, len(source.records), step):
            some = source.records[start : start + step]
            if source.fail_at is not None and start <= source.fail_at < start + step:
                raise source.error("the source failed")
            if len(some) == 1 and isinstance(some[0], Idle):
                yield some[0]
            else:
                yield Chunk(partition, 0, start + len(some), some, len(some))

    def open_asset(self, asset: Asset) -> BinaryIO:
        data = self._source.assets.get(asset.sha256 or "")
        if data is None:
            raise FileNotFoundError(asset.id)
        return io.BytesIO(data)
