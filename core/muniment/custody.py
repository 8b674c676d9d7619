"""Who looks after an archive that exists?  What it holds of each record, its holds, and its purges.

A sink that can gives a `Custody` by `Sink.open_custody`.  It keeps other runs away while it is open.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from muniment.components import Session
from muniment.errors import ConfigError, FatalError
from muniment.manifest import Manifest
from muniment.proof import TreeHead
from muniment.retention import Holding, moment
from muniment.verification import Entries, Inspection, check_log


@frozen
class Purged:
    """What a purge has done: ``tombstones`` as the chain has them, ``assets`` names of files that nothing needs now.

    ``kept_assets`` says that files may remain which only these records needed, ``locked_assets`` how many do because a
    lock keeps them.  Of ``shredded`` records the key was destroyed.
    """

    tombstones: tuple[Mapping[str, Any], ...]
    assets: int = 0
    kept_assets: bool = False
    shredded: int = 0
    locked_assets: int = 0


class Custody(Session):
    """An archive that was opened to look after it.  ``signs`` says that it was given a key to sign with."""

    signs: bool = False

    @abstractmethod
    def entries(self) -> Entries:
        """Return the manifests as they stand there."""

    @abstractmethod
    def times(self) -> Iterator[str]:
        """Yield the times that local state knows of, beside those of the manifests."""

    @abstractmethod
    def holdings(self) -> Iterator[Holding]:
        """Yield what is held of every record, as the chain says."""

    def noted(self, key: str) -> str:
        """Return what the chain calls the record with this key: a pseudonym where content is hidden."""
        return key

    def refusal(self) -> str:
        """Return why nothing can be purged here; empty where it can."""
        return ""

    @abstractmethod
    def note(self, event: Mapping[str, Any]) -> None:
        """Add a manifest of an event, durably, and sign the log anew."""

    @abstractmethod
    def purge(self, keys: Collection[str], event: Mapping[str, Any]) -> Purged:
        """Take records away, as `holdings` calls them, with every version and copy of them.

        It is one commit: killed before it, all is there; killed behind it, `finish` does the rest.
        ``event`` gets the tombstones.
        """

    @abstractmethod
    def finish(self) -> None:
        """Take away what a purge that was killed behind its commit has left."""

    # --- what follows from these ------------------------------------------------------------

    def manifests(self) -> Iterator[Manifest]:
        """Yield the manifests in order.

        Raises:
            FatalError: one of them is damaged, so that nobody knows what is held.
        """
        entries = self.entries()
        for number in entries.numbers:
            try:
                yield Manifest.from_json(entries.read(number))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FatalError(
                    f"`{entries.name(number)}` cannot be read ({type(error).__name__}), so nobody knows what is held;"
                    " restore it from a copy"
                ) from error

    def check(self, since: TreeHead | None = None) -> TreeHead | None:
        """Return the head of the log, all of whose manifests are what they were.

        Raises:
            FatalError: one is missing or changed, or the archive is no longer the one of ``since``.
        """
        inspection = Inspection(since=since)
        for finding in check_log(self.entries(), inspection):
            if finding.is_problem:
                raise FatalError(
                    f"the chain of manifests is not sound, so nobody knows what is held: {finding.where}:"
                    f" {finding.reason}; `muniment verify` tells more"
                )
        return inspection.head

    def check_signer(self) -> None:
        """Make sure that what is added is signed, as all before it is.

        Raises:
            ConfigError: the archive is signed, and there is no key to sign with.
        """
        entries = self.entries()
        if entries.numbers and not self.signs and Manifest.from_json(entries.read(entries.numbers[-1])).signer:
            raise ConfigError(
                "this archive is signed, and without the key its checkpoint would lose the signature; name the pipeline"
                " file whose sink has `proof`"
            )

    def last_seen(self) -> datetime | None:
        """Return the newest time that manifests and state know of."""
        times = [m.at for m in self.manifests()]
        return max(filter(None, map(moment, [*times, *self.times()])), default=None)
