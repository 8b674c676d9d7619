"""How does an archive become as small as it can be?"""

import shutil
import sqlite3
from pathlib import Path

from muniment import FatalError
from muniment.lock import TargetLock
from muniment_plugins.sinks.sqlite import read
from muniment_plugins.sinks.sqlite.archive import Archive
from muniment_plugins.sinks.sqlite.loading import refused


def vacuum(path: Path) -> tuple[int, int]:
    """Merge the index's segments and rewrite the file; return its size before and after, in bytes.

    Raises:
        InputError: there is no archive.
        TargetBusyError: a run writes to it.
        FatalError: there is too little room, or the file is damaged; the archive is as it was.
    """
    read.connect(path).close()
    lock = TargetLock(path)
    lock.acquire()
    try:
        before = path.stat().st_size
        # SQLite writes the new file beside the old one and then copies it over, through its log.
        if shutil.disk_usage(path.absolute().parent).free < 2 * before:
            raise FatalError(
                f"rewriting `{path}` needs {2 * before:,} free bytes beside it; free some space and run again"
            )
        archive = Archive(path, fts="none", loading=False, keyless=True)
        try:
            archive.index.merge()
            archive.connection.execute("VACUUM")
            archive.settle()
        except sqlite3.DatabaseError as error:
            raise refused(path, error) from error
        finally:
            archive.close()
        return before, path.stat().st_size
    finally:
        lock.release()
