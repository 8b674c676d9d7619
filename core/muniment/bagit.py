"""How is an archive handed over?  As a bag: BagIt 1.0 (RFC 8493), which archives and libraries know.

The payload is ``data/archive`` (records as JSON Lines, images and files, with manifests of their own)
and ``data/proof`` (the manifests and the checkpoint of the archive that they come from).
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from muniment.errors import FatalError
from muniment.local_storage import explain, make_folder
from muniment.objects import digest_of
from muniment.private_files import create_private_file

PAYLOAD = "data/archive"
PROOF = "data/proof"

_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def check_free(bag: Path) -> None:
    """Return if a bag can be made at this place.

    Raises:
        FatalError: something is there.
    """
    if bag.exists() and (not bag.is_dir() or any(bag.iterdir())):
        raise FatalError(f"`{bag}` is not empty; name a new folder for the bag")


def finish(bag: Path, proof: Iterable[tuple[str, bytes]], about: Mapping[str, str]) -> int:
    """Make a bag of a folder whose payload stands in it already; return how many payload files it has.

    ``about`` goes into ``bag-info.txt``.  Until this returns the folder is no bag: its declaration comes last.

    Raises:
        FatalError: it cannot be written.
    """
    try:
        _drop_cache(bag / PAYLOAD / ".muniment")
        for name, data in proof:
            make_folder((bag / PROOF / name).parent)
            create_private_file(bag / PROOF / name, data)
        payload = sorted(_files(bag / "data"), key=str)
        lines = [f"{_digest(file)}  {_listed(file, bag)}\n" for file in payload]
        size = sum(file.stat().st_size for file in payload)
        tags = {
            "manifest-sha256.txt": "".join(lines).encode(),
            "bag-info.txt": _info(about, size, len(payload)),
            "bagit.txt": _DECLARATION,
        }
        tagged = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(tags.items()))
        for name, data in {"tagmanifest-sha256.txt": tagged.encode(), **tags}.items():
            create_private_file(bag / name, data)
    except OSError as error:
        raise explain(error, bag) from error
    return len(payload)


def _info(about: Mapping[str, str], size: int, count: int) -> bytes:
    from muniment import __version__

    lines = {
        "Bag-Software-Agent": f"muniment {__version__}",
        "Bagging-Date": f"{datetime.now(UTC):%Y-%m-%d}",
        "Payload-Oxum": f"{size}.{count}",
        **about,
    }
    return "".join(f"{name}: {' '.join(value.split())}\n" for name, value in lines.items()).encode()


def _drop_cache(own: Path) -> None:
    """Remove what a run keeps for itself."""
    for file in own.glob("state.db*"):
        file.unlink()
    shutil.rmtree(own / "staging", ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return digest_of(stream)[1]


def _listed(file: Path, bag: Path) -> str:
    """Return a path as a line of a manifest holds it."""
    name = file.relative_to(bag).as_posix()
    return name.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D")
