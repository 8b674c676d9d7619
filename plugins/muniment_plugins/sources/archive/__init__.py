"""Read what muniment has archived: `archive.db`, its JSON and JSON Lines, a folder of them."""

from collections.abc import Iterator
from typing import ClassVar

from attrs import frozen

from muniment import Chunk, Context, Reader, Record, Rejected, Replay, Source, option


@frozen(kw_only=True)
class ArchiveSource(Source):
    """An archive, read whole: the records come back as they were stored, with their files."""

    replay: ClassVar[Replay] = Replay.EXACT

    path: str = option(
        "An `archive.db`, a `.jsonl` or `.json` file of ours (also `.gz`, `.zst`, `.xz`), or a folder of them.",
        is_path=True,
        example="archive.db",
    )

    def open(self, ctx: Context) -> Reader:
        """Return a reader of whatever stands at the path; its content says what it is, not its name.

        Raises:
            InputError: there is nothing that can be read back; the message says what it is instead.
        """
        from pathlib import Path

        from muniment_plugins.sources.archive.database import DatabaseReader
        from muniment_plugins.sources.archive.detect import Kind, kind_of
        from muniment_plugins.sources.archive.read import PartsReader

        path = Path(self.path).expanduser()
        kind = kind_of(path)
        return DatabaseReader(path) if kind is Kind.DATABASE else PartsReader(path, kind)

    def decode(self, chunk: Chunk) -> Iterator[Record | Rejected]:
        from muniment_plugins.sources.archive.decode import decode

        return decode(chunk)
