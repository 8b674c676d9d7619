"""Where do objects live, and how do they appear all at once?"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import BinaryIO

from attrs import frozen

from muniment.components import Session


@frozen
class Capabilities:
    """What a storage can promise.

    ``if_absent``: of two publishers of one name exactly one wins.  ``replaces``: a published name
    can be replaced, and a reader sees the old bytes or the new ones, never a mixture.
    ``reads_staged``: `Storage.open` takes the token of a closed staged object.  ``max_open`` is how many
    objects may be staged at once before their buffers take too much memory.
    """

    if_absent: bool = True
    replaces: bool = True
    reads_staged: bool = True
    max_open: int = 16


@frozen
class Stored:
    """An object of a storage; ``size`` is in bytes."""

    name: str
    size: int


class Staged(ABC):
    """An object that is being written and that nobody sees yet.

    ``token`` is text of any length (JSON, say): another process can publish or delete the object by
    it.  It is final once `close` and then `Storage.sync` have returned.
    """

    token: str

    @abstractmethod
    def write(self, data: bytes) -> object:
        """Add bytes.  What cannot be written for the moment is tried again in here: a caller cannot go back."""

    @abstractmethod
    def close(self) -> None:
        """End the object.  It is durable only after `Storage.sync`."""

    @abstractmethod
    def discard(self) -> None:
        """Remove the object instead; harmless after `close`, and when called twice."""


class Storage(Session, ABC):
    """A flat space of named objects.

    Names are relative paths with ``/``.  What is staged becomes visible by `publish`, whole or not
    at all.  The order that makes a commit safe is: stage, close, `sync`, `publish`, `sync`.

    A storage may work in the background: what `Staged.write`, `Staged.close`, `publish` without
    ``if_absent`` and `delete` begin is done when `sync` returns.  What went wrong there is raised by
    the next call, at the latest by `sync`; after a `TransientError` the next `sync` goes on with what is
    not done yet.  `publish` with ``if_absent`` answers before it returns.

    Raises:
        FatalError: whatever the place refuses (full, no permission); the message names the object
            and the remedy.
        TransientError: the same call may work later.
    """

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    def stage(self, name: str) -> Staged:
        """Begin an object that is to be published as ``name``, and under no other name."""

    @abstractmethod
    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        """Give a staged object its name: the one it was staged for.

        Raises:
            FileExistsError: ``if_absent``, and the name is taken; the staged object is still there.
        """

    @abstractmethod
    def sync(self) -> None:
        """Return when everything closed or published so far through this session is durable."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Return the bytes of an object; with ``reads_staged`` also of a closed staged one, by its token.

        Raises:
            FileNotFoundError: there is no such object.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield the published objects whose names begin with ``prefix``, in no particular order."""

    @abstractmethod
    def staged(self) -> Iterator[Stored]:
        """Yield what is staged, by token: by running writers, and by killed ones."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a published object by its name, or a staged one by its token; harmless where there is none.

        The token of an object that was published already removes nothing.
        """

    @abstractmethod
    def exists(self, name: str) -> bool: ...

    def keeps_deleted(self) -> str:
        """Return what keeps the bytes of deleted objects, such as a lock of the bucket; empty where they go."""
        return ""

    def keeps_replaced(self) -> str:
        """Return why the earlier bytes of a replaced object cannot be ended by `erase_replaced`; empty where they can.

        It is asked of objects below `muniment.crypto.frames.KEYS` only, which no lock may keep, and of which
        `delete` leaves no version either.
        """
        return "nothing is known of what it keeps of replaced objects"

    def erase_replaced(self, name: str) -> None:
        """Take away for good what is left of the earlier bytes of an object."""


def check_name(name: str) -> str:
    """Return ``name`` if it stays inside its storage.

    Raises:
        ValueError: it is empty or absolute, or has ``..``, empty segments, NUL or a backslash.
    """
    segments = name.split("/")
    if "\0" in name or "\\" in name or any(s in ("", ".", "..") for s in segments):
        raise ValueError(f"`{name!a}` is no name of an object")
    return name
