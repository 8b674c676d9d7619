"""How paths and options become a plan."""

import pytest

from muniment.cli import assemble
from muniment.engine.local import Local
from muniment.engine.pool import Pool
from muniment.errors import ConfigError
from muniment.plugins import load_registry


@pytest.fixture(scope="module")
def registry():
    return load_registry()


class TestSinkFor:
    @pytest.mark.parametrize("to", ["archive.db", "x.SQLITE", "dir/y.sqlite3"])
    def test_an_archive_is_known_by_its_ending(self, registry, to):
        assert assemble.sink_for(registry, to).step.type == "sqlite"

    @pytest.mark.parametrize(
        ("to", "layout"),
        [
            ("chats", ("jsonl", "append", "none")),
            ("chats.jsonl.zst", ("jsonl", "snapshot", "zstd")),
            ("chats.csv.gz", ("csv", "snapshot", "gzip")),
        ],
    )
    def test_anything_else_is_files(self, registry, to, layout):
        sink = assemble.sink_for(registry, to)
        made = sink.step.component.layout

        assert (sink.step.type, (made.format, made.mode, made.compression)) == ("files", layout)

    def test_a_folder_that_is_named_like_an_archive_is_files(self, registry, tmp_path):
        (tmp_path / "old.db").mkdir()

        assert assemble.sink_for(registry, str(tmp_path / "old.db")).step.type == "files"

    def test_options_of_files_do_not_go_with_an_archive(self, registry):
        with pytest.raises(ConfigError, match=r"^`--format` does not go with `a.db`, which is an archive"):
            assemble.sink_for(registry, "a.db", format_="csv")

    def test_options_of_an_archive_do_not_go_with_files(self, registry):
        with pytest.raises(ConfigError, match=r"^`--fts` does not go with `a.csv`, which is no archive"):
            assemble.sink_for(registry, "a.csv", fts="words")


class TestEngineFor:
    def test_small_input_runs_in_one_process(self, tmp_path):
        (tmp_path / "a.json").write_bytes(b"[]")

        assert assemble.engine_for(None, [str(tmp_path)]) == Local()

    def test_large_input_uses_every_core(self, tmp_path):
        with (tmp_path / "a.zip").open("wb") as file:
            file.truncate(assemble.LARGE_BYTES)
        engine = assemble.engine_for(None, [str(tmp_path / "a.zip")])

        assert engine == (Local() if engine.workers == 1 else Pool())

    def test_what_is_asked_for_is_taken(self):
        assert assemble.engine_for(1, ["no such file"]) == Local()
        assert assemble.engine_for(3, []) == Pool(workers=3)


class TestDetectSource:
    @pytest.mark.parametrize(
        ("path", "source"),
        [
            ("export.zip", "chatgpt_export"),
            ("conversations.json", "chatgpt_export"),
            ("archive.db", "archive"),
            ("chats.jsonl.zst", "archive"),
        ],
    )
    def test_by_the_ending(self, path, source):
        assert assemble.detect_source(path) == source

    def test_a_folder_that_muniment_wrote_is_an_archive(self, tmp_path):
        assert assemble.detect_source(str(tmp_path)) == "chatgpt_export"
        (tmp_path / ".muniment").mkdir()
        assert assemble.detect_source(str(tmp_path)) == "archive"
