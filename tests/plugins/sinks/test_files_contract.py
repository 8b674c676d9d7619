"""The sink `files` keeps the contract of sinks, in every mode and with formats that can and cannot be read."""

from typing import ClassVar

import pytest

from muniment.testing import SinkContract
from muniment_plugins.sinks.files import Files


class FilesContract(SinkContract):
    locks = True
    place = "chats"
    options: ClassVar = {}

    @pytest.fixture
    def sink(self, tmp_path):
        return Files(path=tmp_path / "place" / self.place, **self.options)


class TestParts(FilesContract):
    options: ClassVar = {"format": "jsonl", "mode": "append"}


class TestMirror(FilesContract):
    options: ClassVar = {"format": "jsonl", "mode": "mirror"}


class TestSnapshot(FilesContract):
    place = "chats.jsonl"
    accumulates = False


class TestCompressedParts(FilesContract):
    options: ClassVar = {"format": "json", "mode": "append", "compression": "zstd"}


class TestMarkdown(FilesContract):
    """A folder to read in: one page for each conversation, which no program takes back."""

    options: ClassVar = {"format": "markdown"}
    reads_back = False


class TestCSV(FilesContract):
    options: ClassVar = {"format": "csv", "mode": "append"}
    reads_back = False
