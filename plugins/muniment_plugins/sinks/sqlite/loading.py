"""Where is an archive made that does not exist yet, and when does it?  Beside its place, until it is whole."""

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from muniment import FatalError
from muniment.private_files import sync_folder
from muniment_plugins.sinks.sqlite import schema

if TYPE_CHECKING:
    from muniment_plugins.sinks.sqlite.archive import Archive


_PAGE_BYTES = 8192
_CACHE_KIB = 16384


def configure(connection: sqlite3.Connection, *, loading: bool) -> None:
    """Set how safely and with how much memory a connection writes."""
    if loading:
        pragmas = f"""PRAGMA page_size={_PAGE_BYTES}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
            PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-{_CACHE_KIB};"""
    else:
        pragmas = f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-{_CACHE_KIB};"
    connection.executescript(pragmas)


def finish_load(archive: "Archive") -> None:
    """Make a loaded file the archive: indexes, flush, rename, flush the directory."""
    connection = archive.connection
    try:
        archive.index.end_load()
        connection.executescript(schema.INDEXES)
        archive.close()
    except sqlite3.DatabaseError as error:
        raise refused(archive.path, error) from error
    file = loading_path(archive.path)
    with file.open("rb") as loaded:
        os.fsync(loaded.fileno())
    file.rename(archive.path)
    sync_folder(file.parent)


def loading_path(path: Path) -> Path:
    """Return the file that a new archive is loaded into."""
    return path.with_name(f".{path.name}.loading")


def discard_load(path: Path) -> None:
    """Remove what a killed load left."""
    file = loading_path(path)
    for suffix in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def refused(path: Path, error: sqlite3.Error) -> FatalError:
    """Return what to tell a person about an SQLite error."""
    text = str(error)
    if "full" in text:
        return FatalError(f"the disk of `{path}` is full; free some space and run again: what was committed stands")
    if "not a database" in text or "malformed" in text:
        return FatalError(f"`{path}` is not a readable SQLite database ({text}); restore it or choose another file")
    if "readonly" in text or "unable to open" in text:
        return FatalError(f"`{path}` cannot be written ({text}); check the folder and its permissions")
    return FatalError(f"`{path}`: {text}")
