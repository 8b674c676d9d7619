"""What files does an export consist of, and how are their bytes read?  A folder, or a single file.

The third kind, the zip, is in `zips`.
"""

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import field, frozen

from muniment import InputError
from muniment_plugins.sources.chatgpt_export.inflate import BLOCK_BYTES


@frozen
class Limits:
    """What is refused as an attempt to exhaust memory or disk.

    ``max_ratio``: inflated to packed bytes of a member, beyond the first 10 MB; ``max_total_bytes``:
    what all conversations inflate to.
    """

    max_ratio: int = 200
    max_total_bytes: int = 256 << 30
    max_members: int = 200_000


DEFAULT_LIMITS = Limits()


@frozen
class Member:
    """A file of an export.

    ``name`` is its path below the export's top folder, with slashes; ``size`` its inflated bytes;
    ``crc`` its CRC-32, where the container records one.  ``stored_name`` is the name in the
    container.  A ``problem`` says why it must not be read.
    """

    name: str
    size: int
    crc: int | None = None
    stored_name: str = ""
    problem: str = ""
    packed: int = field(default=0, repr=False)
    offset: int = field(default=0, repr=False)
    limit: int = field(default=0, repr=False)
    method: int = field(default=0, repr=False)
    raw_name: bytes = field(default=b"", repr=False)


class Container(ABC):
    """Where the members of an export lie.  ``label`` is what messages call it."""

    label: str
    members: Sequence[Member]

    @abstractmethod
    def blocks(self, member: Member, start: int = 0) -> Iterator[bytes]:
        """Yield the content of ``member`` from byte ``start`` on.

        Raises:
            InputError: it cannot be read (also after some blocks).
        """


class Folder(Container):
    """An extracted export."""

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.members = tuple(sorted(self._walk(), key=lambda m: m.name))

    def blocks(self, member: Member, start: int = 0) -> Iterator[bytes]:
        return file_blocks(self.path / member.stored_name, start, f"`{shown(member.stored_name)}` in `{self.label}`")

    def _walk(self) -> Iterator[Member]:
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                status = path.lstat()
                inner = path.relative_to(self.path).as_posix()
                problem = "" if stat.S_ISREG(status.st_mode) else "it is a link or a special file"
                yield Member(name=inner, size=status.st_size, stored_name=inner, problem=problem)


class SingleFile(Container):
    """One JSON file; inside it is always called ``conversations.json``, so that its name does not count."""

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.members = (Member(name="conversations.json", size=path.stat().st_size, stored_name=path.name),)

    def blocks(self, member: Member, start: int = 0) -> Iterator[bytes]:
        return file_blocks(self.path, start, f"`{self.label}`")


def file_blocks(path: Path, start: int, what: str) -> Iterator[bytes]:
    """Yield a file's content from byte ``start`` on."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}") from error


def shown(name: str) -> str:
    """Return ``name`` for a message: control and direction characters escaped, at most 200 characters."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
    return text if len(text) <= 200 else text[:200] + "..."


def name_problem(name: str) -> str:
    """Return why ``name`` must not be trusted, or nothing."""
    if "\0" in name or "\\" in name or name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        return "its name points out of the export"
    return ""
