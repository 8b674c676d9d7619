"""How does a target come to lie on a disk of its own?  Needs root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def call(*command: object) -> None:
    """Run a system program.

    Raises:
        OSError: it failed; the text is its own.
    """
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command[:2]))}: {done.stderr.strip()}")


@contextmanager
def mounted(place: Path, *options: object) -> Iterator[None]:
    """Mount something at ``place``, which is made, while the context holds."""
    place.mkdir(parents=True, exist_ok=True)
    call("mount", *options, place)
    try:
        yield
    finally:
        call("umount", place)


def image(path: Path, megabytes: int) -> None:
    """Make a file that holds an ext4 file system."""
    with path.open("wb") as file:
        file.truncate(megabytes * 2**20)
    call("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", path)


def copy_image(source: Path, target: Path) -> None:
    """Copy the blocks that have reached an image, leaving its holes."""
    call("cp", "--sparse=always", source, target)


def no_tmpfs() -> str:
    """Say why no tmpfs can be mounted here, or nothing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    with tempfile.TemporaryDirectory(prefix="muniment-probe-") as name:
        try:
            with mounted(Path(name) / "mnt", "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
                return ""
        except OSError as error:
            return str(error)


def no_loop() -> str:
    """Say why no image can be mounted here, or nothing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is not installed"
    with tempfile.TemporaryDirectory(prefix="muniment-probe-") as name:
        try:
            image(Path(name) / "disk", 32)
            with mounted(Path(name) / "mnt", "-o", "loop", Path(name) / "disk"):
                return ""
        except OSError as error:
            return str(error)
