"""The judge of encrypted archives finds what it must: what is torn, what is gone, what stands there as plain text."""

import importlib
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def subject():
    """Return the module that makes archives; the modules of this folder are importable only here."""
    sys.path.insert(0, HERE)
    try:
        yield importlib.import_module("subject")
    finally:
        sys.path.remove(HERE)


@pytest.fixture(scope="module")
def bench(subject, tmp_path_factory):
    return subject.Bench(tmp_path_factory.mktemp("bench"), json_kb=400)


@pytest.fixture
def archived(subject, bench, tmp_path):
    """Return a function that makes an archive of a kind in a folder of its own."""

    def archive(sink):
        bench.prepare(subject.Scenario(sink, top_up=False))
        attempt = bench.attempt(subject.Scenario(sink, top_up=True), tmp_path / "attempt")
        attempt.lay_out()
        return attempt

    return archive


ENCRYPTED = ("sqlite encrypted", "files zstd encrypted", "mirror encrypted")


class TestEncrypted:
    @pytest.mark.parametrize("sink", ENCRYPTED)
    def test_a_sound_archive_is_read_whole(self, sink, archived, bench, subject):
        """Every conversation with all its messages, and its files."""
        found = archived(sink).read(ended=True)

        assert (found.problems, found.conversations) == ([], subject.checker.exported(bench.base))

    def test_a_changed_record_is_torn(self, archived):
        attempt = archived("sqlite encrypted")
        with closing(sqlite3.connect(attempt.target)) as connection, connection:
            connection.execute("UPDATE records SET record=zeroblob(200) WHERE conversation=1")

        assert [p.partition(":")[0] for p in attempt.read(ended=True).problems] == ["torn"]

    def test_swapped_records_are_torn(self, archived):
        """Each is whole, and stands in the place of another."""
        attempt = archived("sqlite encrypted")
        with closing(sqlite3.connect(attempt.target)) as connection, connection:
            connection.execute("UPDATE records SET conversation=-conversation WHERE conversation<3")
            connection.execute("UPDATE records SET conversation=3+conversation WHERE conversation<0")

        assert [p.partition(":")[0] for p in attempt.read(ended=True).problems] == ["torn", "torn"]

    def test_plain_rows_are_noticed(self, archived):
        attempt = archived("sqlite encrypted")
        with closing(sqlite3.connect(attempt.target)) as connection, connection:
            connection.execute(
                "INSERT INTO parts(message, position, type, kind, text) VALUES(1, 0, 'text', 'text', 'plain')"
            )

        assert attempt.read(ended=True).problems == ["plain: rows in parts"]

    @pytest.mark.parametrize("sink", ["files zstd encrypted", "mirror encrypted"])
    @pytest.mark.parametrize("folder", [".", "assets", ".muniment"])
    def test_a_changed_file_is_torn(self, sink, folder, archived):
        """A conversation, a file that one names, the vault."""
        attempt = archived(sink)
        where = {".": "*.enc", "assets": "*/*", ".muniment": "vault"}[folder]
        file = next((attempt.target / folder).glob(where))
        data = bytearray(file.read_bytes())
        data[-20] ^= 1
        file.write_bytes(data)

        assert {p.partition(":")[0] for p in attempt.read(ended=True).problems} >= {"torn"}
