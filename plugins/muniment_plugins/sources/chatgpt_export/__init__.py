"""ChatGPT's official data export: a zip, the folder it was extracted to, or its JSON."""

from collections.abc import Iterator
from typing import ClassVar

from attrs import evolve, frozen

from muniment import Chunk, Context, Origin, Partition, Reader, Record, Rejected, Replay, Source, option


@frozen(kw_only=True)
class ChatGPTExport(Source):
    """Read the conversations of ChatGPT's data exports, with all branches and assets."""

    replay: ClassVar[Replay] = Replay.EXACT

    path: tuple[str, ...] | str = option(
        "The export: zip, extracted folder or JSON file; a glob or a list names several.",
        is_path=True,
        example="./exports/*.zip",
    )
    chunk_bytes: int = option(
        "Bytes of conversations that are handled together; a larger conversation is handled alone.",
        default=1 << 20,
        identity=False,
    )
    max_conversation_bytes: int = option(
        "A larger conversation is quarantined: archiving it takes about four times its bytes in memory."
        "  One that holds a lone surrogate, which takes more, is from 16 MiB on, or an eighth of a larger number.",
        default=64 << 20,
        identity=False,
    )
    max_ratio: int = option(
        "How many times its packed size a file in the zip may have, beyond the first 10 MB.",
        default=200,
        identity=False,
    )
    max_total_bytes: int = option(
        "What all conversations of an export may inflate to.", default=256 << 30, identity=False
    )

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)

    def open(self, ctx: Context) -> Reader:
        from muniment_plugins.sources.chatgpt_export.read import ExportReader

        return ExportReader(self, ctx)

    def decode(self, chunk: Chunk) -> Iterator[Record | Rejected]:
        from muniment_plugins.sources.chatgpt_export.decode import decode_chunk

        yield from decode_chunk(chunk, self.max_conversation_bytes)

    def slices(self, chunk: Chunk) -> Iterator[tuple[Origin, bytes]]:
        partition = chunk.partition
        for start, end, data in chunk.data:
            yield Origin(partition.label, partition.id, start, end), data

    def restore(self, partition: Partition, origin: Origin, data: bytes) -> Chunk:
        from muniment_plugins.sources.chatgpt_export.decode import KEPT

        partition = evolve(partition, locator={**partition.locator, KEPT: True})
        return Chunk(partition, 0, origin.end, ((origin.start, origin.end, data),), len(data))
