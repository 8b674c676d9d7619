"""The sink `files` with `encryption` keeps the contract of sinks, and its how-to works."""

import re
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from muniment.canonical import record_to_json
from muniment.cli import cli
from muniment.crypto import Encryption, create_key_file, is_encrypted
from muniment.secrets import Secret
from muniment.testing import SinkContract, make_record
from muniment_plugins.sinks.files import Files

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "encrypt.md"


class EncryptedContract(SinkContract):
    locks = True
    place = "chats"
    options: ClassVar = {}
    per = "object"

    @pytest.fixture
    def sink(self, tmp_path):
        create_key_file(tmp_path / "archive.key")
        encryption = Encryption(key=Secret(f"file:{tmp_path / 'archive.key'}"), per=self.per)
        return Files(path=tmp_path / "place" / self.place, encryption=encryption, **self.options)


class TestParts(EncryptedContract):
    options: ClassVar = {"format": "jsonl", "key": "chats/{source}/{year_month}/{part}.jsonl.zst.enc"}


@pytest.mark.slow
class TestTables(EncryptedContract):
    options: ClassVar = {"format": "parquet"}


class TestMirror(EncryptedContract):
    options: ClassVar = {"format": "json", "mode": "mirror", "key": "by/{year}/{id}.json.gz.enc"}


@pytest.mark.slow
class TestMarkdown(EncryptedContract):
    options: ClassVar = {"format": "markdown"}
    reads_back = False


class TestPartsOfSealedConversations(EncryptedContract):
    options: ClassVar = {"format": "jsonl", "compression": "zstd"}
    per = "conversation"


@pytest.mark.slow
class TestMirrorOfSealedConversations(EncryptedContract):
    options: ClassVar = {"format": "json", "mode": "mirror"}
    per = "conversation"


@pytest.mark.slow
class TestSnapshot(EncryptedContract):
    place = "chats.jsonl.zst.enc"
    accumulates = False


class TestOptions:
    @pytest.mark.parametrize(("path", "encrypted", "sound"), [
        ("x.jsonl.enc", True, True), ("x.jsonl", True, False), ("x.jsonl.enc", False, False),
        ("x.jsonl.gz", False, True),
    ])  # fmt: skip
    def test_the_ending_of_one_file_says_that_it_is_encrypted(self, tmp_path, path, encrypted, sound):
        encryption = Encryption(key=Secret(f"file:{tmp_path / 'k'}")) if encrypted else None
        sink = Files(path=tmp_path / path, encryption=encryption)

        assert (list(sink.check()) == []) is sound
        assert sink.layout.mode == "snapshot" and sink.layout.format == "jsonl"


class TestHowTo:
    def test_its_pipeline_works(self, tmp_path, monkeypatch):
        """As it stands there, with a key made as it says; what it leaves is encrypted."""
        monkeypatch.chdir(tmp_path)
        (pipeline,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
        Path("pipeline.yaml").write_text(pipeline)
        Path("all.jsonl").write_bytes(record_to_json(make_record("c1")) + b"\n")
        run = CliRunner().invoke
        assert run(cli, ["key", "new", "archive.key"]).exit_code == 0

        result = run(cli, ["run", "pipeline.yaml"])

        assert result.exit_code == 0, result.output
        (part,) = Path("chats").glob("*.enc")
        assert part.name.endswith(".jsonl.zst.enc") and is_encrypted(part.read_bytes())
        assert run(cli, ["verify", "pipeline.yaml"]).exit_code == 0
