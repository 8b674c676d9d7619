"""Where in a bucket does an archive lie, and where on this machine is what is known of it?"""

import hashlib
import re
from pathlib import Path

from muniment import Context, TargetBusyError
from muniment.local_storage import make_folder
from muniment.lock import TargetLock
from muniment.storage import check_name


def to_prefix(text: str) -> str:
    """Return a prefix that is empty or ends with ``/``.

    Raises:
        ValueError: it leaves its place: ``..``, an empty segment, a backslash.
    """
    if not text:
        return ""
    check_name(text.removesuffix("/"))
    return text.removesuffix("/") + "/"


def remote_state_path(ctx: Context, store: str, *place: str) -> Path:
    """Return the file of a remote target's local state, named after the store and its place.

    It is a cache: without it, it is made anew from the manifests.
    """
    readable = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(p for p in place if p)).strip("-")[:60]
    digest = hashlib.sha256("\0".join((store, *place)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return ctx.state_dir / f"{store}-{readable}-{digest}.db"


def lock_remote(path: Path, place: str) -> TargetLock:
    """Return a held lock that keeps other runs of this machine off a remote target.

    Raises:
        TargetBusyError: another run holds it.
    """
    make_folder(path.parent)
    lock = TargetLock(path)
    try:
        lock.acquire()
    except TargetBusyError:
        raise TargetBusyError(f"another run on this machine writes to `{place}`; wait until it has finished") from None
    return lock
