"""How are encrypted files of this machine rewritten and decrypted, whole or not at all?"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, cast

from attrs import frozen

from muniment.crypto import header as headers
from muniment.crypto.chunks import CHUNK_BYTES
from muniment.crypto.envelope import encrypting, open_body
from muniment.crypto.frames import FRAMES_TYPE, KEYS, KeyObjects, joined
from muniment.crypto.header import MAGIC, Fixed, Header
from muniment.crypto.keyring import Keyring
from muniment.crypto.rewrap import NewHeader
from muniment.errors import DamagedError, FatalError, InputError, TargetBusyError
from muniment.local_storage import explain
from muniment.private_files import open_new_file, sync_folder
from muniment.storage import check_name

PART = ".part"
"""Ends the name of what is being decrypted."""
PARTIAL = ".partial"
"""Ends the name of what was recovered from a damaged file: it is not the whole text."""

_COPY_BYTES = 2**20
# Below `.muniment`: a writer may still be at work there.
_STAGING = ("staging",)


@frozen
class Decrypted:
    """What came out of a file: where it was put, how long it is, what its header said of it."""

    path: str
    size: int
    content_type: str
    whole: bool = True


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, but what is being written.  Links are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not (f in _STAGING and Path(place).name == ".muniment"))
        for name in sorted(names):
            path = Path(place) / name
            if not name.endswith(_ENDING) and stat.S_ISREG(path.lstat().st_mode):
                yield path


def is_encrypted_file(path: Path) -> bool:
    """Whether a file begins as encrypted ones do."""
    with _open(path) as file:
        return headers.is_encrypted(file.read(len(MAGIC)))


def rewrap_file(path: Path, new_header: Callable[[BinaryIO], NewHeader]) -> bool:
    """Give a file the header that ``new_header`` makes; return whether it changed.

    The body is copied as it is.  Whoever opens the file, or finds it after a crash, has the old one
    or the new one, whole.

    Raises:
        WrongKeyError: the file stays as it is.
        DamagedError: its header is; it stays as it is.
        TargetBusyError: somebody else rewrites it.
        FatalError: it cannot be written.
    """
    with _locked(path) as file:
        made = new_header(file)
        if not made.changed:
            return False
        file.seek(made.body_start)

        def write(to: BinaryIO) -> None:
            to.write(made.header)
            shutil.copyfileobj(file, to, _COPY_BYTES)

        _replace(path, file, write)
        return True


def reencrypt_file(path: Path, old: Keyring, new: Keyring) -> None:
    """Encrypt a file anew, for the recipients of ``new`` only; who knew its key knows nothing of the new one.

    Raises:
        WrongKeyError: neither keyring opens it; the file stays as it is.
        DamagedError: it is; it stays as it is.
        FatalError: it cannot be written, or a key that opens it is in neither keyring.
        TargetBusyError: somebody else rewrites it.
    """
    with _locked(path) as file:
        header = headers.read(file)
        dek = old.find(header)
        if dek is None:
            dek = new.open(header)
        others = [s for s in header.slots if not (old.owns(s, header.fixed) or new.owns(s, header.fixed))]
        if others:
            raise FatalError(
                f"`{path}` is also encrypted for {_keys([s.kid for s in others])}, which would be shut out;"
                " name every key that is to open it"
            )
        source = _plain(file, header, dek)
        wrap = encrypting(new, content_type=header.fixed.content_type, about=header.fixed.about)

        def write(to: BinaryIO) -> None:
            stream = wrap(_Below(to))
            while data := source.read(_COPY_BYTES):
                stream.write(data)
            stream.close()

        _replace(path, file, write)


def decrypt_file(
    path: Path, keyring: Keyring, to: Path | BinaryIO, *, broken: Literal["refuse", "recover"] = "refuse"
) -> Decrypted:
    """Decrypt a file.  A path appears when the last chunk was verified; nothing is written to a stream before.

    With ``recover`` what was verified before the damage goes to a path with the ending `PARTIAL`.

    Raises:
        WrongKeyError: no key opens it.
        DamagedError: it is not what was written.
        FatalError: there is something at ``to`` already, or it cannot be written.
    """
    with _open(path) as file:
        header = headers.read(file)
        dek = keyring.open(header)
        body = file.tell()
        if isinstance(to, Path):
            return _decrypt_to_path(file, header.fixed, lambda: _content(path, file, header, dek, keyring), to, broken)
        size = _copy(_content(path, file, header, dek, keyring), None)
        file.seek(body)
        _copy(_content(path, file, header, dek, keyring), to)
        return Decrypted("-", size, header.fixed.content_type)


def _decrypt_to_path(
    file: BinaryIO, fixed: Fixed, open_: Callable[[], BinaryIO], to: Path, broken: Literal["refuse", "recover"]
) -> Decrypted:
    whole = True
    part = to.with_name(to.name + PART)
    try:
        if os.path.lexists(to):
            raise FatalError(f"there is a file `{to}` already; it is not overwritten")
        with suppress(FileNotFoundError):
            part.unlink()  # of an attempt that was killed
        try:
            with open_new_file(part) as out:
                try:
                    size = _copy(open_(), out)
                except DamagedError:
                    if broken == "refuse":
                        raise
                    whole = False
                    size = out.tell()
                _sync(out)
            target = to if whole else to.with_name(to.name + PARTIAL)
            part.rename(target)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync_folder(to.parent)
    except OSError as error:
        raise explain(error, to) from error
    return Decrypted(str(target), size, fixed.content_type, whole)


def _plain(file: BinaryIO, header: Header, dek: bytes) -> BinaryIO:
    return open_body(cast(BinaryIO, _Borrowed(file)), header, dek)


def _content(path: Path, file: BinaryIO, header: Header, dek: bytes, keyring: Keyring) -> BinaryIO:
    """Return what a file holds; of records with keys of their own, those whose keys are there."""
    plain = _plain(file, header, dek)
    if header.fixed.content_type != FRAMES_TYPE:
        return plain
    root = next((f for f in path.absolute().parents if (f / KEYS).is_dir()), path.parent)
    return joined(plain, KeyObjects(lambda name: (root / check_name(name)).open("rb"), keyring))


def _copy(source: BinaryIO, out: BinaryIO | None) -> int:
    """Copy what can be verified, chunk by chunk, to the end; return how much it was."""
    size = 0
    # No larger than a chunk: all that is verified before a damaged one is written.
    while data := source.read(CHUNK_BYTES):
        size += len(data)
        if out is not None:
            out.write(data)
    return size


# --- files that are replaced ----------------------------------------------------------------------

_ENDING = ".rewriting"


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {(error.strerror or type(error).__name__).lower()}") from error


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file that nobody else replaces meanwhile."""
    with _open(path) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetBusyError(f"somebody else rewrites `{path}`; wait until that has finished") from None
        _check_same(path, file)
        yield file


def _check_same(path: Path, file: BinaryIO) -> None:
    try:
        same = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        same = False
    if not same:
        raise TargetBusyError(f"somebody else has just replaced `{path}`; run the same command again")


class _Borrowed:
    """A file that the reader which is put on it does not close."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell, self.seekable = file.read, file.seek, file.tell, file.seekable

    def close(self) -> None:
        pass


class _Below:
    """A file as the end of a stream, closed by who opened it."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write

    def close(self) -> None:
        pass


def _replace(path: Path, file: BinaryIO, write: Callable[[BinaryIO], None]) -> None:
    """Put what ``write`` writes in the place of ``file``, durably, with its mode and times."""
    path = path.resolve()
    # A name of bounded length, which the next attempt finds and removes.
    new = path.with_name(f".{hashlib.sha256(path.name.encode(errors='surrogateescape')).hexdigest()[:16]}{_ENDING}")
    found = os.fstat(file.fileno())
    try:
        new.unlink(missing_ok=True)
        try:
            with open_new_file(new) as out:
                write(out)
                os.fchmod(out.fileno(), stat.S_IMODE(found.st_mode))
                if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                    with suppress(PermissionError):
                        os.fchown(out.fileno(), found.st_uid, found.st_gid)
                out.flush()
                os.utime(out.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
                _sync(out)
            _check_same(path, file)
            new.rename(path)
        except BaseException:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _keys(kids: list[str]) -> str:
    return f"key{'s' if len(kids) > 1 else ''} {', '.join(f'`{k}`' for k in kids)}"
