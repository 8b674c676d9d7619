"""How do objects lie in a folder of this machine, atomically, durably and confined to it?

Writing many small files and calling ``fsync`` on each costs most of the time (3,000 files: 1.4 s
instead of 0.4 s on ext4).  So up to eight files are synced one by one; beyond that one ``syncfs``
(Linux 5.8 or newer, which is when it began to report write errors) makes all of them durable before
the first is renamed, and a second one the renames.  Elsewhere every file is synced.
"""

import ctypes
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from muniment.errors import FatalError
from muniment.private_files import sync_folder
from muniment.storage import Capabilities, Staged, Storage, Stored, check_name

_MAX_SINGLE_SYNCS = 8
_MAX_OPEN_FOLDERS = 64
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalStorage(Storage):
    """Objects are files below ``root``, made 0600 in folders made 0700 whatever the umask.

    ``staging`` is the prefix of staged files, relative to ``root`` and on the same file system.
    Below ``root`` no symbolic link is followed.  Not thread-safe.
    """

    capabilities = Capabilities(if_absent=True, replaces=True, max_open=200)

    def __init__(self, root: Path, *, staging: str = ".muniment/staging/") -> None:
        self.root = root
        self._staging = staging
        self._folders: dict[str, int] = {}
        self._root_descriptor = -1
        self._unsynced: list[int] = []
        self._dirty: set[str] = set()
        self._many = False

    def stage(self, name: str) -> Staged:
        check_name(name)
        token = f"{self._staging}{secrets.token_hex(8)}.tmp"
        folder, base = _split(token)
        try:
            directory = self._folder(folder, create=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(base, flags, 0o600, dir_fd=directory)
        except OSError as error:
            raise explain(error, self.root / name) from error
        _set_mode(descriptor, 0o600)
        return _LocalStaged(self, token, name, descriptor)

    def publish(self, token: str, name: str, *, if_absent: bool = False) -> None:
        source_folder, source = _split(token)
        folder, base = _split(check_name(name))
        try:
            from_directory = self._folder(source_folder)
            directory = self._folder(folder, create=True, keep=source_folder)
            if if_absent:
                _link_or_rename(source, base, from_directory, directory)
            else:
                os.rename(source, base, src_dir_fd=from_directory, dst_dir_fd=directory)
        except FileExistsError:
            raise
        except OSError as error:
            raise explain(error, self.root / name) from error
        self._dirty.add(folder)

    def sync(self) -> None:
        unsynced, dirty = self._unsynced, self._dirty
        many = self._many or len(dirty) > _MAX_SINGLE_SYNCS
        self._unsynced, self._dirty, self._many = [], set(), False
        try:
            if many and _syncfs() is not None:
                self._sync_file_system()
            else:
                for descriptor in unsynced:
                    os.fsync(descriptor)
                for folder in sorted(dirty, reverse=True):
                    os.fsync(self._folder(folder))
        except OSError as error:
            raise explain(error, self.root) from error
        finally:
            for descriptor in unsynced:
                os.close(descriptor)

    def open(self, name: str) -> BinaryIO:
        folder, base = _split(check_name(name))
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(base, flags, dir_fd=self._folder(folder)), "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise explain(error, self.root / name) from error

    def list(self, prefix: str = "") -> Iterator[Stored]:
        for stored in self._walk(prefix):
            if not stored.name.startswith(self._staging):
                yield stored

    def staged(self) -> Iterator[Stored]:
        form = re.compile(re.escape(self._staging) + r"[0-9a-f]{16}\.tmp")
        return (s for s in self._walk(self._staging) if form.fullmatch(s.name))

    def keeps_replaced(self) -> str:
        return ""

    def delete(self, name: str) -> None:
        folder, base = _split(check_name(name))
        try:
            os.unlink(base, dir_fd=self._folder(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, self.root / name) from error
        self._dirty.add(folder)

    def exists(self, name: str) -> bool:
        folder, base = _split(check_name(name))
        try:
            return stat.S_ISREG(os.lstat(base, dir_fd=self._folder(folder)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise explain(error, self.root / name) from error

    def close(self) -> None:
        for descriptor in (*self._unsynced, *self._folders.values()):
            os.close(descriptor)
        if self._root_descriptor >= 0:
            os.close(self._root_descriptor)
        self._unsynced, self._folders, self._root_descriptor = [], {}, -1

    # --- files ------------------------------------------------------------------------------

    def _closed(self, descriptor: int) -> None:
        """Take over the descriptor of a staged file that was written to its end."""
        if len(self._unsynced) < _MAX_SINGLE_SYNCS and not self._many:
            self._unsynced.append(descriptor)
            return
        try:
            if _syncfs() is None:
                os.fsync(descriptor)
            self._many = True
        finally:
            os.close(descriptor)

    def _sync_file_system(self) -> None:
        # A write error is reported to a descriptor that was open when it happened: the root has
        # been open since before the first file was staged.
        call = _syncfs()
        if call is not None and call(self._root()) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    # --- folders ----------------------------------------------------------------------------

    def _root(self, *, create: bool = False) -> int:
        if self._root_descriptor < 0:
            if create:
                make_folder(self.root)
            self._root_descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root_descriptor

    def _folder(self, folder: str, *, create: bool = False, keep: str = "") -> int:
        """Return an open descriptor of a folder below the root; ``keep`` names one to leave open."""
        if not folder:
            return self._root(create=create)
        known = self._folders.get(folder)
        if known is not None:
            return known
        parent, base = _split(folder)
        directory = self._folder(parent, create=create, keep=keep)
        made = False
        if create:
            # Also where it is there: who made it may have been killed before the name was durable.
            self._dirty.add(parent)
            try:
                os.mkdir(base, 0o700, dir_fd=directory)
                made = True
            except FileExistsError:
                pass
        descriptor = os.open(base, _FOLDER_FLAGS, dir_fd=directory)
        if made:
            _set_mode(descriptor, 0o700)
        if len(self._folders) >= _MAX_OPEN_FOLDERS:
            oldest = next(f for f in self._folders if f not in (keep, parent))
            os.close(self._folders.pop(oldest))
        self._folders[folder] = descriptor
        return descriptor

    def _walk(self, prefix: str) -> Iterator[Stored]:
        folder, start = _split(prefix)
        try:
            directory = self._folder(folder)
            entries = [e for e in os.scandir(directory) if e.name.startswith(start)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, self.root / folder) from error
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield Stored(name, entry.stat(follow_symlinks=False).st_size)


class _LocalStaged(Staged):
    def __init__(self, storage: LocalStorage, token: str, name: str, descriptor: int) -> None:
        self.token = token
        self._storage = storage
        self._name = name
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise explain(error, self._storage.root / self._name) from error

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                self._storage._closed(descriptor)
            except OSError as error:
                raise explain(error, self._storage.root / self._name) from error

    def discard(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._storage.delete(self.token)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, 0700 whatever the umask, durably; one that is there stays as it is.

    Raises:
        FatalError: it cannot be made.
    """
    try:
        for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
            missing.chmod(0o700)
            sync_folder(missing.parent)
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> FatalError:
    """Return the error that says what to do about ``error`` at ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "the disk is full; free some space and run the same command again: what was committed stands"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = f"{_reason(error)}; choose a folder that you may write to, or change its permissions"
    elif error.errno in (errno.ELOOP, errno.ENOTDIR):
        remedy = "a symbolic link or a file stands where a folder belongs; move it away"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = f"{_reason(error)}; raise the limit (`ulimit -n`) and run the same command again"
    else:
        remedy = f"{_reason(error)}; check the disk, then run the same command again: what was committed stands"
    return FatalError(f"`{path}` cannot be used: {remedy}")


def _reason(error: OSError) -> str:
    return (error.strerror or "the system refused").lower()


def _split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base


def _set_mode(descriptor: int, mode: int) -> None:
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        os.fchmod(descriptor, mode)


def _link_or_rename(source: str, base: str, from_directory: int, directory: int) -> None:
    try:
        os.link(source, base, src_dir_fd=from_directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links (exFAT).  The lock on the target keeps other runs away
        # between the question and the rename.
        try:
            os.lstat(base, dir_fd=directory)
        except FileNotFoundError:
            os.rename(source, base, src_dir_fd=from_directory, dst_dir_fd=directory)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), base) from None
    os.unlink(source, dir_fd=from_directory)


@cache
def _syncfs() -> "ctypes._FuncPointer | None":
    """Return ``syncfs`` of the C library where it exists and reports write errors, else None."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if os.uname().sysname != "Linux" or not release or tuple(map(int, release.groups())) < (5, 8):
        return None
    function: ctypes._FuncPointer | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return function
