"""Store conversations in files of this machine."""

from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from muniment import Context, option
from muniment.crypto import SUFFIX
from muniment.local_storage import LocalStorage
from muniment.objects import SUFFIXES, Compression
from muniment.sinks.objects import Layout, ObjectSink
from muniment.storage import Storage

_FORMATS = {
    ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".txt": "txt", ".md": "markdown", ".parquet": "parquet",
}  # fmt: skip
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".xz": "xz"}


@frozen(kw_only=True)
class Files(ObjectSink):
    """A folder of files, or one file.

    A path that ends like a file (``chats.jsonl.zst``) is one file, written whole; any other is a
    folder.  Its ending also says the format and the compression where the options do not.
    """

    path: Path = option(
        "A folder, or one file where `mode` is `snapshot`.", converter=Path, is_path=True, example="./chats"
    )

    def check(self) -> Iterable[str]:
        yield from super().check()
        if self.layout.mode == "snapshot" and self.layout.encrypted != self.path.name.endswith(SUFFIX):
            yield f"`path` must end in `{SUFFIX}` with `encryption`, and only then"
        said = _guess(self.path.name)[1]
        if self.layout.mode == "snapshot" and self.layout.compression != said:
            ending = SUFFIXES[self.layout.compression] or "none of `.gz`, `.zst` and `.xz`"
            yield f"`path` must end in {ending} with `compression: {self.layout.compression}`"

    @property
    def layout(self) -> Layout:
        guessed_format, guessed_compression = _guess(self.path.name)
        name = self.format or guessed_format or "jsonl"
        mode = self.mode or ("snapshot" if guessed_format else self.default_mode(name))
        compression = self.compression_by(self.key) if self.key else self.compression or guessed_compression
        assets = f"{self._stem}-assets/" if mode == "snapshot" else "assets/"
        key = "" if mode == "snapshot" else self.key_of(name)
        return Layout(name, mode, compression, assets, key, self.encryption is not None)

    def storage(self) -> Storage:
        path = self._absolute
        if self.layout.mode == "snapshot":
            return LocalStorage(path.parent, staging=f".{path.name[:60]}.")
        return LocalStorage(path)

    def state_path(self, ctx: Context) -> Path:
        return self._absolute / ".muniment" / "state.db"

    def lock_path(self, ctx: Context) -> Path:
        return self._absolute

    def snapshot_name(self) -> str:
        return self._absolute.name

    @property
    def _absolute(self) -> Path:
        # Not resolved: a symbolic link to the folder is the user's choice, and stays one.
        return self.path.expanduser().absolute()

    @property
    def _stem(self) -> str:
        name = self._absolute.name.removesuffix(SUFFIX)
        for endings in (SUFFIXES.values(), _FORMATS):
            name = next((name.removesuffix(e) for e in endings if e and name.endswith(e)), name)
        return name or "chats"


def _guess(name: str) -> tuple[str, Compression]:
    """Return the format (or nothing) and the compression that a file's name says."""
    path = Path(name.removesuffix(SUFFIX))
    compression = _COMPRESSIONS.get(path.suffix, "none")
    ending = Path(path.stem).suffix if compression != "none" else path.suffix
    return _FORMATS.get(ending, ""), compression
