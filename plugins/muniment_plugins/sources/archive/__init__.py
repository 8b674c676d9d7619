"""Read what muniment has archived: `archive.db`, its JSON and JSON Lines, a folder of them."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from attrs import frozen

from muniment import Chunk, Context, Reader, Record, Rejected, Replay, Source, option
from muniment.crypto import Encryption, open_keyring


@frozen(kw_only=True)
class ArchiveSource(Source):
    """An archive, read whole: the records come back as they were stored, with their files."""

    replay: ClassVar[Replay] = Replay.EXACT

    path: str = option(
        "An `archive.db`, a `.jsonl` or `.json` file of ours (also `.gz`, `.zst`, `.xz`), or a folder of them.",
        is_path=True,
        example="archive.db",
    )
    encryption: Encryption | None = option(
        "The keys that open it, where it is encrypted: as in the sink that wrote it.",
        default=None,
        identity=False,
        example={"key": "${secret:file:archive.key}"},
    )

    def check(self) -> Iterable[str]:
        return self.encryption.check() if self.encryption else ()

    def open(self, ctx: Context) -> Reader:
        """Return a reader of whatever stands at the path; its content says what it is, not its name.

        Raises:
            InputError: there is nothing that can be read back; the message says what it is instead.
            ConfigError: it is encrypted, and `encryption` is missing.
            WrongKeyError: no key opens it.
        """
        from pathlib import Path

        from muniment_plugins.sources.archive.database import DatabaseReader
        from muniment_plugins.sources.archive.detect import Kind, kind_of
        from muniment_plugins.sources.archive.read import PartsReader

        path = Path(self.path).expanduser()
        kind = kind_of(path)
        keyring = open_keyring(self.encryption, ctx) if self.encryption else None
        return DatabaseReader(path, keyring) if kind is Kind.DATABASE else PartsReader(path, kind, keyring)

    def decode(self, chunk: Chunk) -> Iterator[Record | Rejected]:
        from muniment_plugins.sources.archive.decode import decode

        return decode(chunk)
