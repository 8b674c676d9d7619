"""Archives of every version are verified, read and topped up, for ever."""

import io
import tarfile
from pathlib import Path

import pytest

from muniment.components import Context
from muniment.testing import make_record
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.encode import zstd

GOLDEN = Path(__file__).parents[1] / "data/archives"
SINKS = {
    "version-1-append.tar": lambda path: Files(path=path, format="jsonl"),
    "version-1-mirror.tar": lambda path: Files(path=path, format="json", mode="mirror"),
    "version-1.db": lambda path: SQLite(path=str(path)),
    "manifest-2-append.tar": lambda path: Files(path=path, format="jsonl", compression="zstd"),
    "manifest-2-mirror.tar": lambda path: Files(path=path, format="markdown"),
    "manifest-2-database.db": lambda path: SQLite(path=str(path)),
}


@pytest.fixture(params=SINKS)
def golden(request, tmp_path):
    """Return a sink, the path of its archive, and the name of the golden file."""
    data = zstd.decompress((GOLDEN / f"{request.param}.zst").read_bytes())
    path = tmp_path / "archive"
    if request.param.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(path, filter="data")
    else:
        path = tmp_path / "archive.db"
        path.write_bytes(data)
    return SINKS[request.param](path), path, request.param


class TestGolden:
    def test_it_is_sound(self, golden, archives, second_verifier):
        """For both verifiers; and signed, since there are signatures."""
        sink, path, name = golden
        key = archives.KEY.verifier if name.startswith("manifest-") else None

        assert archives.verify(sink, public_key=key) == []
        if name != "version-1.db":
            assert second_verifier.problems(path, public_key=str(key or "")) == []

    def test_it_is_read_topped_up_and_sound_again(self, golden, archives):
        """Its log goes on, or begins with what is there."""
        sink, _, name = golden
        archives.archive(sink, [make_record("new", ("One", "Two"))], {})

        assert archives.verify(sink) == []
        if "mirror" not in name:
            with sink.open_target(Context(run="reader")) as target:
                assert "test:new" in {r.key for r in target.read_back()}
