"""One conversation of an export, kept by itself, is what it was in the export."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from muniment import Chunk, Context, Partition, Record
from muniment_plugins.sources.chatgpt_export import ChatGPTExport


def conversation(n: int) -> dict[str, Any]:
    message = {
        "id": f"m{n}",
        "author": {"role": "user"},
        "content": {
            "content_type": "multimodal_text",
            "parts": [
                f"hello {n}",
                {"content_type": "image_asset_pointer", "asset_pointer": f"file-service://file-{n}"},
            ],
        },
    }
    mapping = {f"m{n}": {"id": f"m{n}", "message": message, "parent": None, "children": []}}
    return {"conversation_id": f"c{n}", "title": f"Talk {n}", "mapping": mapping}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "export.zip"
    with zipfile.ZipFile(found, "w") as z:
        z.writestr("conversations.json", json.dumps([conversation(n) for n in range(3)]))
        z.writestr("user.json", json.dumps({"id": "user-1"}))
        for n in range(3):
            z.writestr(f"file-{n}.png", b"\x89PNG\r\n\x1a\n" + bytes([n]))
    return found


@pytest.fixture
def source(path: Path) -> ChatGPTExport:
    return ChatGPTExport(path=str(path))


def read(source: ChatGPTExport) -> tuple[Partition, list[Chunk]]:
    with source.open(Context(run="r")) as reader:
        (partition,) = reader.partitions()
        return partition, [c for c in reader.read(partition, None) if isinstance(c, Chunk)]


def decoded(source: ChatGPTExport, chunk: Chunk) -> list[Record]:
    return [r for r in source.decode(chunk) if isinstance(r, Record)]


class TestSlices:
    def test_are_the_bytes_of_the_input(self, source: ChatGPTExport, path: Path) -> None:
        """Under the origin of the record that is made of them."""
        _, chunks = read(source)
        whole = zipfile.ZipFile(path).read("conversations.json")

        slices = [s for c in chunks for s in source.slices(c)]

        assert [whole[o.start : o.end] for o, _ in slices] == [bytes(data) for _, data in slices]
        assert [o for o, _ in slices] == [r.origin for c in chunks for r in decoded(source, c)]


class TestRestore:
    def restored(self, source: ChatGPTExport, **changes: Any) -> list[Record]:
        partition, chunks = read(source)
        partition = evolve(partition, **changes)
        return [
            r for c in chunks for o, data in list(source.slices(c))
            for r in decoded(source, source.restore(partition, o, bytes(data)))
        ]  # fmt: skip

    def test_gives_the_same_records(self, source: ChatGPTExport) -> None:
        """With the account and the images, which stand elsewhere in the export."""
        _, chunks = read(source)

        assert self.restored(source) == [r for c in chunks for r in decoded(source, c)]
        assert {r.conversation.account for r in self.restored(source)} == {"user-1"}

    def test_without_the_export(self, source: ChatGPTExport, tmp_path: Path) -> None:
        """All that was said is there; what stood beside it is noted as missing."""
        partition, _ = read(source)
        gone = {**partition.locator, "path": str(tmp_path / "gone.zip")}

        records = self.restored(source, fingerprint="0" * 64, locator=gone)

        assert [r.conversation.title for r in records] == ["Talk 0", "Talk 1", "Talk 2"]
        assert {r.conversation.account for r in records} == {None}
        assert {a.missing for r in records for a in r.conversation.assets} == {"not in the export"}

    def test_another_export_in_its_place_is_not_taken_for_it(self, source: ChatGPTExport) -> None:
        """It may have a file of the same name."""
        records = self.restored(source, fingerprint="1" * 64)

        assert {a.sha256 for r in records for a in r.conversation.assets} == {None}
