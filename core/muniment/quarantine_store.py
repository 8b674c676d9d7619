"""Which content of what could not be archived is on this disk, and until when?"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field

from muniment.components import Context
from muniment.crypto.header import read as read_header
from muniment.errors import DamagedError, FatalError
from muniment.local_storage import LocalStorage
from muniment.model import Rejected
from muniment.quarantine import Content, Evidence, Keeper, Keeping
from muniment.units import Partition

_SUFFIX = ".enc"
_STAGING = ".staging/"


class Store:
    """A folder (0700) of encrypted files (0600), named by entry.  What `write` returns from is durable."""

    def __init__(self, path: Path, pipeline: str) -> None:
        self.path = path
        self._pipeline = pipeline
        self._storage = LocalStorage(path, staging=_STAGING)

    def write(self, sealed: Mapping[str, bytes]) -> None:
        """Write files; one that is there is replaced.

        Raises:
            FatalError: they cannot be written.
        """
        if not sealed:
            return
        try:
            for name, data in sealed.items():
                staged = self._storage.stage(name + _SUFFIX)
                try:
                    staged.write(data)
                    staged.close()
                    self._storage.publish(staged.token, name + _SUFFIX)
                except BaseException:
                    staged.discard()
                    raise
            self._storage.sync()
        except FatalError as error:
            raise FatalError(f"what could not be archived cannot be kept either: {error}") from error

    def read(self, id: str) -> bytes | None:  # noqa: A002 - the id of an entry
        """Return a file; None if there is none."""
        try:
            with self._storage.open(id + _SUFFIX) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def ids(self) -> set[str]:
        """Return the entries whose content is here."""
        if not self.path.is_dir():
            return set()
        return {s.name.removesuffix(_SUFFIX) for s in self._storage.list() if _is_ours(s.name)}

    def unfinished(self) -> Iterator[str]:
        """Yield the names of files that a killed run began."""
        if self.path.is_dir():
            yield from [s.name for s in self._storage.staged()]

    def orphans(self, owed: set[str]) -> list[str]:
        """Return the names of files that nothing owes: unfinished ones, and this pipeline's content of no entry.

        With an empty id in ``owed`` nobody knows whose content is owed.
        """
        found = [] if "" in owed else sorted(self.ids() - owed)
        return [*self.unfinished(), *(i + _SUFFIX for i in found if self._is_of_this_pipeline(i))]

    def delete(self, names: Iterable[str]) -> int:
        """Remove files; return how many."""
        count = 0
        for name in names:
            self._storage.delete(name)
            count += 1
        if count:
            self._storage.sync()
        return count

    def close(self) -> None:
        self._storage.close()

    def _is_of_this_pipeline(self, id: str) -> bool:  # noqa: A002 - the id of an entry
        """Say whether this pipeline wrote it: others may share the folder."""
        try:
            with self._storage.open(id + _SUFFIX) as stream:
                return read_header(stream).fixed.about.get("pipeline") == self._pipeline
        except (DamagedError, FileNotFoundError):
            return False


@define(eq=False)
class Custody:
    """The content that one run writes, and deletes once no sink owes it.

    ``held`` are the entries that were open when the run began.
    """

    store: Store
    keeper: Keeper
    held: set[str] = field(factory=set)
    source: tuple[str, str] = ("", "")

    @classmethod
    def open(cls, keeping: Keeping, ctx: Context) -> "Custody":
        """Return the custody of a run.

        Raises:
            ConfigError: a key cannot be had.
        """
        return cls(Store(keeping.path, keeping.pipeline), Keeper.of(keeping, ctx))

    def keep(self, partition: Partition, rejected: Sequence[Rejected], evidence: Evidence) -> tuple[Rejected, ...]:
        """Make the content of these durable; of one that has none, nothing is kept.

        Returns:
            The same with the digests of their bytes, where these are known.

        Raises:
            FatalError: it cannot be written.
        """
        sealed: dict[str, bytes] = {}
        for one in rejected:
            content = evidence.content(one, self.source, partition)
            if content is not None and content.id not in sealed:
                sealed[content.id] = self.keeper.seal(content)
        self.store.write(sealed)
        return tuple(evidence.described(r) for r in rejected)

    def load(self, id: str) -> Content | None:  # noqa: A002 - the id of an entry
        """Return what was kept of an entry; None if nothing was.

        Raises:
            WrongKeyError: it was encrypted for other keys.
            DamagedError: it is not what was written.
        """
        sealed = self.store.read(id)
        return None if sealed is None else self.keeper.open(id, sealed)

    def release(self, owed: Callable[[], set[str]]) -> int:
        """Delete the content of entries that were open when the run began, and are not any more."""
        here = self.held & self.store.ids()
        left = owed() if here else set()
        return self.store.delete(i + _SUFFIX for i in sorted(here - left) if "" not in left)

    def close(self) -> None:
        self.store.close()


def _is_ours(name: str) -> bool:
    return "/" not in name and name.endswith(_SUFFIX)
