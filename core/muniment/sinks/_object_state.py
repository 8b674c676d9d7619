"""How does local state follow an object target?  By replaying the manifests that it has not seen."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from attrs import define

from muniment.errors import FatalError
from muniment.local_storage import make_folder
from muniment.sinks import _object_manifest as manifests
from muniment.state import State
from muniment.storage import Storage


@define
class Chain:
    """Where the manifests end: the number of the last one (0 before the first) and its SHA-256.

    ``rebuilt`` says that the state was made anew from them.
    """

    number: int = 0
    digest: str = ""
    rebuilt: bool = False


def open_state(path: Path, storage: Storage) -> tuple[State, Chain]:
    """Return state that has seen every manifest; a damaged or foreign file is made anew.

    Raises:
        FatalError: a manifest cannot be read.
    """
    make_folder(path.parent)
    state, made = _open_sound(path)
    try:
        return state, _catch_up(state, storage, rebuilt=made)
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
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    return State.open(path), True


def _catch_up(state: State, storage: Storage, *, rebuilt: bool) -> Chain:
    found = manifests.numbers(storage)
    last = found[-1] if found else 0
    seen = state.last_manifest()
    if seen > last:
        # Manifests that it has seen are gone: it is of another target, or of a later copy of it.
        with state.transaction():
            state.clear()
        seen, rebuilt = 0, True
    digest = ""
    for number in found:
        if number > seen:
            manifest, digest = manifests.load(storage, number)
            with state.transaction():
                add(state, manifest)
            for name in manifest.removed:
                storage.delete(name)
    if found and seen == last:
        digest = manifests.load(storage, last)[1]
    return Chain(last, digest, rebuilt)


def add(state: State, manifest: manifests.Manifest) -> None:
    """Note what a manifest says; inside a transaction."""
    unit = manifest.unit
    state.begin_run(unit.run, manifest.pipeline, manifest.sink)
    state.put_records(manifest.records())
    state.add_unit(unit)
    state.set_last_manifest(manifest.number)
