"""How does local state follow an object target?  By replaying the manifests that it has not seen."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from muniment.errors import FatalError
from muniment.local_storage import make_folder
from muniment.manifest import Log
from muniment.retention import purged_keys
from muniment.sinks import _object_manifest as manifests
from muniment.state import State
from muniment.storage import Storage
from muniment.units import Counts


def open_state(path: Path, storage: Storage) -> tuple[State, Log, bool]:
    """Return state that has seen every manifest, their log, and whether the state was made anew from them.

    A damaged or foreign file is made anew.

    Raises:
        FatalError: a manifest cannot be read.
    """
    make_folder(path.parent)
    state, made = _open_sound(path)
    try:
        log, made_anew = _catch_up(state, storage)
        return state, log, made or made_anew
    except BaseException:
        state.close()
        raise


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into an error that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise FatalError(
            f"state `{path}` cannot be written: {error}; free some space or move the file away, then run the"
            " same command again: it is rebuilt from the manifests"
        ) from error


def _open_sound(path: Path) -> tuple[State, bool]:
    """Return the state, and whether its file was made just now."""
    if path.exists():
        state = None
        try:
            state = State.open(path)
            if state.connection.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                return state, False
        except (FatalError, sqlite3.Error):
            pass
        if state is not None:
            state.close()
        # It is a cache: all that it held is in the manifests.
        for suffix in (".sum", "", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    return State.open(path), True


def _catch_up(state: State, storage: Storage) -> tuple[Log, bool]:
    found = manifests.numbers(storage)
    anew = False
    last = found[-1] if found else 0
    seen = state.last_manifest()
    if seen > last or (seen and not state.has_seen(manifests.load(storage, seen)[1])):
        # It has seen other manifests: it is of another target, or of a later copy of it.
        with state.transaction():
            state.clear()
        seen, anew = 0, True
    data = b""
    for number in found:
        if number > seen:
            manifest, data = manifests.load(storage, number)
            with state.transaction():
                add(state, manifest, data)
            for name in manifest.removed:
                storage.delete(name)
    if not found:
        return Log(), anew
    if seen == last:
        manifest, data = manifests.load(storage, last)
    return manifests.log_of(storage, manifest, data), anew


def add(state: State, manifest: manifests.Manifest, data: bytes) -> None:
    """Note what a manifest, whose bytes are ``data``, says; inside a transaction."""
    state.begin_run(manifest.run, manifest.pipeline, manifest.sink)
    state.put_records(manifest.stored())
    if manifest.unit is not None:
        state.add_unit(manifest.unit)
    elif manifest.event:
        state.drop_run(manifest.run)
        if buried := set(purged_keys([manifest])):
            state.bury(buried, manifest.run)
    elif report := manifest.report:
        state.end_run(manifest.run, int(report["exit_code"]), Counts(**report["counts"]))
    state.set_last_manifest(manifest.number, data)
