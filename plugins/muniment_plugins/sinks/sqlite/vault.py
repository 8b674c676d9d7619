"""Who can open an encrypted archive?  The header of its vault, in a table of its own, says so."""

import contextlib
import io
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from muniment import ConfigError
from muniment.crypto import Keyring, NewHeader, Vault, replace_keys
from muniment.errors import DamagedError
from muniment.lock import TargetLock
from muniment_plugins.sinks.sqlite.cover import Cover, Encrypted

_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type='table' AND name='vault'"


def find_header(connection: sqlite3.Connection) -> bytes | None:
    """Return the header of an archive's vault; None if it is not encrypted.

    Raises:
        DamagedError: there are several.
    """
    if connection.execute(_HAS_TABLE).fetchone() is None:
        return None
    rows = connection.execute("SELECT header FROM vault LIMIT 2").fetchall()
    if len(rows) > 1 or (rows and not isinstance(rows[0][0], bytes)):
        raise DamagedError("the table `vault` of this archive was changed; restore it from a copy")
    return rows[0][0] if rows else None


def find_cover(connection: sqlite3.Connection, keyring: Keyring | None) -> Cover | None:
    """Return how what stands in an archive is read and written; None if its keys are missing.

    Raises:
        WrongKeyError: no key of the keyring opens it.
        DamagedError: its vault is.
    """
    header = find_header(connection)
    if header is None:
        return Cover()
    return None if keyring is None else Encrypted(Vault.open(header, keyring))


def open_cover(connection: sqlite3.Connection, path: Path, keyring: Keyring | None) -> Cover:
    """Return how what stands in an archive is read and written.

    Raises:
        ConfigError: it is encrypted, and no keyring was given.
        WrongKeyError: no key of the keyring opens it.
        DamagedError: its vault is.
    """
    found = find_cover(connection, keyring)
    if found is None:
        raise locked(path)
    return found


def check_keys(
    connection: sqlite3.Connection, path: Path, cover: Cover | None, keyring: Keyring | None, *, keyless: bool
) -> None:
    """Return if an archive was begun as the options say; without an archive yet it will be.

    Raises:
        ConfigError: it is encrypted and they are not, or the reverse.
    """
    if cover is None:
        if not keyless:
            raise locked(path)
        return
    is_plain = keyring is not None and not cover.hides
    if is_plain and connection.execute("PRAGMA user_version").fetchone()[0]:
        raise ConfigError(
            f"`{path}` was made without encryption; an archive is encrypted from its beginning or never:"
            " take another `path`, or leave out `encryption`"
        )


def locked(path: Path) -> ConfigError:
    """Return what to tell somebody who gave no key."""
    return ConfigError(f"`{path}` is encrypted; give its key: `--key PATH`, or `encryption` in a pipeline file")


def create(connection: sqlite3.Connection, keyring: Keyring) -> None:
    """Make a new archive an encrypted one, inside the open transaction."""
    connection.execute("INSERT INTO vault VALUES(?)", (Vault.new(keyring).header,))


def rewrap_archive(path: Path, old: Keyring, new: Keyring) -> bool:
    """Let the keys of ``new`` open an encrypted archive, and those of ``old`` no longer; return whether it changed.

    Raises:
        ConfigError: the archive is not encrypted.
        WrongKeyError: neither opens it.
        TargetBusyError: a run writes to it.
    """
    return change_header(path, lambda stream: replace_keys(stream, old, new))


def change_header(path: Path, change: Callable[[BinaryIO], NewHeader]) -> bool:
    """Replace the header of an archive's vault by what ``change`` makes of it; return whether it changed.

    One row is written, in one transaction.  What is encrypted stays, and so do the manifests.
    """
    from muniment_plugins.sinks.sqlite import read
    from muniment_plugins.sinks.sqlite.sound import explained

    read.connect(path).close()
    lock = TargetLock(path)
    lock.acquire()
    try:
        with explained(path), contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
            # The old header opens for the old key: nothing of it may stay in a gap of the file.
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            header = find_header(connection)
            if header is None:
                raise ConfigError(f"`{path}` is not encrypted; an archive is encrypted from its beginning or never")
            made = change(io.BytesIO(header))
            if made.changed:
                connection.execute("UPDATE vault SET header=?", (made.header,))
            connection.execute("COMMIT")
            return made.changed
    finally:
        lock.release()
