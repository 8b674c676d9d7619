"""Which file is its owner's alone, and how is one made?

What is read, and its folder, are judged by what is open, so that nothing can be put in their place between
the question and the reading.  Of a symbolic link, what it leads to is judged; none is written through.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from muniment.errors import FatalError

# Who may not list a folder may still open a file of it.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe of that name would otherwise stop the program until somebody writes to it.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_private_file(path: Path, max_bytes: int) -> bytes:
    """Return the first ``max_bytes`` bytes of a file that only its owner can read or replace.

    Raises:
        OSError: it cannot be read.
        PermissionError: others can read or replace it; it has no ``errno``, and its text ends the sentence "the
            file ...".
    """
    real = path.resolve(strict=True)
    with _opened(real.parent, _FOLDER_FLAGS) as folder, _opened(real.name, _FILE_FLAGS, folder) as descriptor:
        if problem := _problem(os.fstat(descriptor), os.fstat(folder), real):
            raise PermissionError(problem)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes)


def write_private_file(path: Path, data: bytes) -> None:
    """Make a file, or write one anew, 0600 whatever the umask.

    Raises:
        OSError: it cannot be written, or is a symbolic link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fchmod(file.fileno(), 0o600)
            file.truncate()
        file.write(data)


def open_new_file(path: Path) -> BinaryIO:
    """Make a file that was not there, 0600 whatever the umask, and return it open for writing.

    Raises:
        FileExistsError: something is there already.
        OSError: it cannot be made.
    """
    descriptor = os.open(path, _NEW_FLAGS, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def create_private_file(path: Path, data: bytes) -> None:
    """Make a file that was not there, 0600 whatever the umask, durable when this returns.

    Raises:
        FileExistsError: something is there already.
        OSError: it cannot be written.
    """
    with open_new_file(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def store_new_key(path: Path, line: str) -> None:
    """Make a file that holds a key of any kind, as `create_private_file` does.

    Raises:
        FatalError: there is a file already, or it cannot be written.
    """
    try:
        create_private_file(path, f"{line}\n".encode())
    except FileExistsError:
        raise FatalError(f"there is a file `{path}` already; a key is never written over another") from None
    except OSError as error:
        raise FatalError(
            f"the key file `{path}` cannot be written: {(error.strerror or 'it fails').lower()}"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make durable which names stand in a folder.

    Raises:
        OSError: it cannot be opened, or the disk failed.
    """
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as descriptor:
        os.fsync(descriptor)


def privacy_problem(path: Path) -> str | None:
    """Return what keeps a file from being taken for a secret, or None.  Opens nothing.

    Raises:
        OSError: it cannot be found.
    """
    real = path.resolve(strict=True)
    return _problem(real.lstat(), real.parent.stat(), real)


@contextlib.contextmanager
def _opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _problem(file: os.stat_result, folder: os.stat_result, path: Path) -> str | None:
    me = os.geteuid()
    if not stat.S_ISREG(file.st_mode):
        return "is no file"
    if file.st_uid not in (0, me):
        return f"belongs to another user; take it over: `chown {me} {path}`"
    if file.st_mode & 0o077:
        return f"is open to others than its owner; make it private: `chmod 600 {path}`"
    if folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        return f"is in a folder where others can replace it; close that to them: `chmod go-w {path.parent}`"
    return None
