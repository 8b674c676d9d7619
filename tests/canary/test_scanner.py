"""The scanner finds what is planted, in every form: otherwise its silence would say nothing."""

import base64
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from canary.scanner import Scanner, zstd

MARKER = "kq7w2xv9m4zt8p"
TOKEN = f"{MARKER}00042"
ESCAPED = "".join(f"\\u{ord(c):04x}" for c in TOKEN)


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("inner.txt", data)
    return buffer.getvalue()


PLANTED = {
    "utf-8": TOKEN.encode(),
    "capitals": TOKEN.upper().encode(),
    "utf-16-le": TOKEN.encode("utf-16-le"),
    "utf-16-be": TOKEN.encode("utf-16-be"),
    "hex": TOKEN.encode().hex().encode(),
    "capital hex": TOKEN.encode().hex().upper().encode(),
    "hex of utf-16": TOKEN.encode("utf-16-le").hex().encode(),
    "json-escaped": ESCAPED.encode(),
    "json-escaped in capitals": ESCAPED.upper().replace("\\U", "\\u").encode(),
    "json-escaped twice": json.dumps(ESCAPED).encode(),
    **{f"base64 at {n}": base64.b64encode(b"\xff" * n + TOKEN.encode() + b"?" * 3) for n in range(3)},
    **{f"base64url at {n}": base64.urlsafe_b64encode(b"\xff" * n + TOKEN.encode() + b"?" * 3) for n in range(3)},
    "base64 of utf-16": base64.b64encode(b"\xff" + TOKEN.encode("utf-16-le")),
    "gzip": gzip.compress(TOKEN.encode()),
    "gzip, cut off": gzip.compress(os.urandom(64) + TOKEN.encode() * 3)[:-9],
    "zstd": zstd.compress(TOKEN.encode()),
    "zstd in the middle": b"page" + zstd.compress(TOKEN.encode()) + b"page",
    "zip": zipped(TOKEN.encode()),
    "zip of gzip of base64": zipped(gzip.compress(base64.b64encode(TOKEN.encode()))),
}


@pytest.fixture
def scanner() -> Scanner:
    return Scanner(MARKER)


class TestData:
    @pytest.mark.parametrize("form", PLANTED)
    def test_finds_each_form(self, scanner: Scanner, form: str) -> None:
        """Between whatever else."""
        data = os.urandom(1000) + b"=" + PLANTED[form] + b"=" + os.urandom(10)
        if "zip" in form:
            data = PLANTED[form]

        assert scanner.data(data, "x")

    def test_names_which_one_it_is(self, scanner: Scanner) -> None:
        """Where it can be read."""
        assert str(scanner.data(b"..." + TOKEN.encode(), "x")[0]) == "x: utf-8 00042"

    def test_raises_no_false_alarm(self, scanner: Scanner) -> None:
        """Random bytes hold nothing, and neither does half of a marker."""
        assert scanner.data(os.urandom(1 << 20) + MARKER[:-1].encode(), "x") == []

    @pytest.mark.parametrize("encode", [bytes, lambda b: b.hex().encode(), base64.b64encode, zstd.compress])
    def test_finds_the_bytes_of_a_digest(self, encode) -> None:
        """Which may confirm a guess of what was said."""
        digest = os.urandom(32)

        assert Scanner(MARKER, {"digest": digest}).data(b"{" + encode(digest) + b"}", "x")


class TestFolder:
    @pytest.mark.parametrize("form", PLANTED)
    def test_finds_each_form_in_a_file(self, scanner: Scanner, tmp_path: Path, form: str) -> None:
        """However deep."""
        path = tmp_path / "a" / "b.bin"
        path.parent.mkdir()
        path.write_bytes(PLANTED[form])

        assert {f.place.partition("!")[0] for f in scanner.folder(tmp_path)} == {"a/b.bin"}

    def test_finds_names(self, scanner: Scanner, tmp_path: Path) -> None:
        """Of files and folders, and what links say."""
        (tmp_path / TOKEN).mkdir()
        (tmp_path / TOKEN / f"{TOKEN}.md").touch()
        (tmp_path / "link").symlink_to(f"nowhere/{TOKEN}")

        assert [f.place for f in scanner.folder(tmp_path)] == [
            f"{TOKEN} (its name)",
            f"{TOKEN}/{TOKEN}.md (its name)",
            "link (its link)",
        ]

    @pytest.mark.parametrize("mode", ["DELETE", "WAL", "PERSIST"])
    def test_finds_what_a_database_has_written(self, scanner: Scanner, tmp_path: Path, mode: str) -> None:
        """In the file, its log, its journal, and compressed in its rows, also of what is still open."""
        db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        db.execute(f"PRAGMA journal_mode={mode}")
        db.execute("CREATE TABLE t(text, blob)")
        db.execute("INSERT INTO t VALUES('x', ?)", (zstd.compress(TOKEN.encode() + os.urandom(20_000)),))

        places = {f.place.partition("!")[0] for f in scanner.folder(tmp_path)}
        db.close()

        assert places == {"a.db-wal" if mode == "WAL" else "a.db"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
class TestProcess:
    def test_finds_what_was_deleted_and_is_still_open(self, scanner: Scanner, tmp_path: Path) -> None:
        """Of a child of the process, too: a temporary file without a name is on the disk all the same."""
        program = (
            "import subprocess, sys, tempfile\n"
            f"t = tempfile.TemporaryFile(dir={str(tmp_path)!r}); t.write({TOKEN.encode()!r}); t.flush()\n"
            "print('ready', flush=True); sys.stdin.read()\n"
        )
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"
        with subprocess.Popen(
            [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            found = scanner.process(process.pid)
            process.stdin.close()

        assert [f.form for f in found] == ["utf-8"]
        assert "(deleted)" in found[0].place
