"""Does a marker stand anywhere, in whatever form?  In files, their names, databases, logs, open files of a process.

Only the standard library, and nothing of what is tested (``zstd`` is in it from Python 3.14 on; before, the
backport of the same module is taken).  `SELFTESTS` in test_scanner.py shows that each form is found.
"""

import base64
import contextlib
import io
import os
import re
import sqlite3
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    from compression import zstd
except ImportError:
    from backports import zstd

_MOST_BYTES = 256 << 20
_DEPTH = 5
_GZIP, _ZIP, _ZSTD, _SQLITE = b"\x1f\x8b\x08", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"SQLite format 3\0"
_UNIQUE = re.compile(rb"[0-9]{5}")


@dataclass(frozen=True)
class Finding:
    """A marker: the path it was found at (``a.zip!b.json`` is inside), the form, and which one it was if readable."""

    place: str
    form: str
    which: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.form} {self.which}".rstrip()


def forms_of(marker: str) -> dict[str, tuple[bytes, ...]]:
    """Return the bytes to look for, by the name of the form.  A marker is lower case letters and digits."""
    data = marker.encode()
    escaped = "".join(f"\\u{ord(c):04x}" for c in marker)
    wide = {"utf-16-le": marker.encode("utf-16-le"), "utf-16-be": marker.encode("utf-16-be")}
    return {
        "utf-8": (data,),
        **{name: (b,) for name, b in wide.items()},
        "hex": (data.hex().encode(), data.hex().upper().encode()),
        "hex of utf-16": tuple(x for b in wide.values() for x in (b.hex().encode(), b.hex().upper().encode())),
        "json-escaped": (
            escaped.encode(),
            "".join(f"\\u{ord(c):04X}" for c in marker).encode(),
            escaped.replace("\\", "\\\\").encode(),
        ),
        "base64": tuple(dict.fromkeys(_base64_forms(data))),
        "base64 of utf-16": tuple(dict.fromkeys(x for b in wide.values() for x in _base64_forms(b))),
    }


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """Yield the characters that stay the same whatever stands before and behind, at each of three places."""
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(bytes(shift) + data).rstrip(b"=")
            first = -(-shift * 8 // 6)
            whole = (shift + len(data)) * 8 // 6
            yield encoded[first:whole]


class Scanner:
    """Looks for ``marker`` and for the exact bytes of ``needles``, by their names."""

    def __init__(self, marker: str, needles: dict[str, bytes] | None = None) -> None:
        self._forms = forms_of(marker)
        self._needles = {
            f"{name}, {how}": form
            for name, data in (needles or {}).items()
            for how, form in (
                ("raw", data),
                ("hex", data.hex().encode()),
                ("HEX", data.hex().upper().encode()),
                ("base64", base64.b64encode(data).rstrip(b"=")[:-1]),
                ("base64url", base64.urlsafe_b64encode(data).rstrip(b"=")[:-1]),
            )
        }

    # --- where to look ------------------------------------------------------------------------

    def folder(self, root: Path) -> list[Finding]:
        """Look at everything below a folder: names, files, what symbolic links say; follow no link."""
        found: list[Finding] = []
        for path in sorted(root.rglob("*")):
            place = str(path.relative_to(root))
            found += self.data(os.fsencode(path.name), f"{place} (its name)")
            with contextlib.suppress(FileNotFoundError):
                kind = path.lstat().st_mode
                if stat.S_ISLNK(kind):
                    found += self.data(os.fsencode(os.readlink(path)), f"{place} (its link)")
                elif stat.S_ISREG(kind):
                    found += self.data(path.read_bytes(), place)
                    found += self.database(path, place)
        return found

    def process(self, pid: int, *, but: tuple[Path, ...] = ()) -> list[Finding]:
        """Look at the files that a process and its children have open, deleted ones too; not at ``but``."""
        found: list[Finding] = []
        skipped = {(s.st_dev, s.st_ino) for s in map(os.stat, but)}
        for each in family_of(pid):
            for link in _entries(Path(f"/proc/{each}/fd")):
                with contextlib.suppress(OSError):
                    facts = link.stat()
                    name = os.readlink(link)
                    if not stat.S_ISREG(facts.st_mode) or (facts.st_dev, facts.st_ino) in skipped:
                        continue
                    if name.startswith("/memfd:") or "/site-packages/" in name:
                        continue
                    found += self.data(link.read_bytes(), f"open file {name}")
        return found

    def database(self, path: Path, place: str) -> list[Finding]:
        """Look at every value of a SQLite database, so that nothing hides behind how pages are cut."""
        with path.open("rb") as file:
            if file.read(16) != _SQLITE:
                return []
        found: list[Finding] = []
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(path)) as db:
            tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            for table in tables:
                with contextlib.suppress(sqlite3.Error):
                    for row in db.execute(f'SELECT * FROM "{table}"'):
                        for value in row:
                            data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
                            if isinstance(data, bytes):
                                found += self.data(data, f"{place}!{table}")
        return found

    # --- what to look at ----------------------------------------------------------------------

    def data(self, data: bytes, place: str, depth: int = 0) -> list[Finding]:
        """Look at bytes, and into what is compressed in them."""
        found = [
            Finding(place, form, self._which(data, pattern, form))
            for form, patterns in self._forms.items()
            for pattern in patterns
            if pattern in data
        ]
        if not found and self._forms["utf-8"][0] in (lower := data.lower()):
            found.append(Finding(place, "utf-8 in other letters", self._which(lower, self._forms["utf-8"][0], "utf-8")))
        found += [Finding(place, name) for name, needle in self._needles.items() if needle in data]
        if depth < _DEPTH:
            for name, inner in _unpacked(data):
                found += self.data(inner, f"{place}!{name}", depth + 1)
        return found

    def _which(self, data: bytes, pattern: bytes, form: str) -> str:
        if form != "utf-8":
            return ""
        numbers: dict[str, None] = {}
        at = data.find(pattern)
        while at >= 0:
            at += len(pattern)
            if match := _UNIQUE.match(data, at):
                numbers[match[0].decode()] = None
            at = data.find(pattern, at)
        return " ".join(numbers)


def family_of(pid: int) -> Iterator[int]:
    """Yield a process and its children, however deep."""
    yield pid
    for task in _entries(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                yield from family_of(int(child))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _opened(path: Path) -> sqlite3.Connection:
    # `immutable` leaves the log of a killed run alone: a reader without it would take it in and remove it.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what each compressed stream in ``data`` holds, wherever it begins and as far as it can be read."""
    for number, at in enumerate(_places(data, _GZIP)):
        with contextlib.suppress(zlib.error):
            yield f"gzip{number}", zlib.decompressobj(31).decompress(data[at:], _MOST_BYTES)
    for number, at in enumerate(_places(data, _ZSTD)):
        if inner := _unzstd(data[at:]):
            yield f"zstd{number}", inner
    if _ZIP in data:
        yield from _unzipped(data)


def _places(data: bytes, magic: bytes) -> Iterator[int]:
    at = data.find(magic)
    while at >= 0:
        yield at
        at = data.find(magic, at + 1)


def _unzstd(data: bytes) -> bytes:
    decompressor, inner = zstd.ZstdDecompressor(), b""
    with contextlib.suppress(zstd.ZstdError):
        for at in range(0, len(data), 4096):
            inner += decompressor.decompress(data[at : at + 4096])
            if decompressor.eof or len(inner) > _MOST_BYTES:
                break
    return inner


def _unzipped(data: bytes) -> Iterator[tuple[str, bytes]]:
    refused = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError)
    with contextlib.suppress(*refused), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            yield entry.filename, entry.filename.encode("utf-8", "surrogateescape") + b"\0" + archive.read(entry)
