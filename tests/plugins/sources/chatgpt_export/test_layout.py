import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muniment import InputError
from muniment_plugins.sources.chatgpt_export.layout import Export, find_exports, open_export

Make = Callable[..., Path]
Conversation = Callable[..., dict[str, Any]]
Titles = Callable[..., list[str]]


def manifest(*shards: str) -> dict[str, Any]:
    return {
        "version": 1,
        "export_files": [{"path": name, "size_bytes": 1} for name in (*shards, "user.json")],
        "logical_files": {"conversations": {"files": list(shards), "sharded": True}},
    }


def only(path: Path) -> Export:
    (found,) = find_exports([str(path)])
    return open_export(found)


class TestGenerations:
    """One file, shards, shards with a manifest: as a zip, a folder, one folder deeper."""

    @pytest.fixture(params=["one file", "shards", "shards with a manifest", "one shard"])
    def members(self, request: pytest.FixtureRequest, conversation: Conversation) -> dict[str, Any]:
        shards = {f"conversations-00{i}.json": [conversation(2 * i + 1), conversation(2 * i + 2)] for i in range(2)}
        return {
            "one file": {"conversations.json": [conversation(n) for n in (1, 2, 3, 4)], "user.json": {}},
            "shards": {"user.json": {}, **dict(reversed(shards.items()))},
            "shards with a manifest": {"export_manifest.json": manifest(*shards), **dict(reversed(shards.items()))},
            "one shard": {"conversations-000.json": [conversation(n) for n in (1, 2, 3, 4)]},
        }[request.param] | {"chat.html": b"<html>" + b"x" * 1000, "shared_conversations.json": []}

    @pytest.mark.parametrize("top", ["", "export/", "a/b/"])
    def test_zip(self, members: dict[str, Any], top: str, zipped: Make, read_titles: Titles) -> None:
        path = zipped({top + name: value for name, value in members.items()})

        assert read_titles(path) == [f"Conversation {n}" for n in (1, 2, 3, 4)]

    @pytest.mark.parametrize("top", ["", "export/", "a/b/"])
    def test_folder(self, members: dict[str, Any], top: str, folder: Make, read_titles: Titles) -> None:
        path = folder({top + name: value for name, value in members.items()})

        assert read_titles(path) == [f"Conversation {n}" for n in (1, 2, 3, 4)]

    def test_zip_and_folder_are_the_same_export(self, members: dict[str, Any], zipped: Make, folder: Make) -> None:
        """The fingerprint is of content: how it is packed and what it is called does not count."""
        path = zipped({f"top/{name}": value for name, value in members.items()})

        assert only(path).fingerprint == only(folder(members)).fingerprint

    def test_what_a_mac_adds_does_not_count(self, members: dict[str, Any], zipped: Make) -> None:
        plain = zipped(members)
        mac = zipped(
            {f"export/{name}": value for name, value in members.items()}
            | {"__MACOSX/export/._conversations.json": b"\x00", "export/.DS_Store": b"x"},
            "mac.zip",
        )

        assert only(mac).fingerprint == only(plain).fingerprint


class TestSingleFile:
    @pytest.mark.parametrize("name", ["conversations.json", "my chats.json", "chats.txt"])
    def test_array_wrapper_or_conversation_under_any_name(
        self, name: str, tmp_path: Path, conversation: Conversation, read_titles: Titles
    ) -> None:
        path = tmp_path / name
        for content in ([conversation(1)], {"conversations": [conversation(1)]}, conversation(1)):
            path.write_text(json.dumps(content))

            assert read_titles(path) == ["Conversation 1"]

    def test_claims_no_completeness(self, folder: Make, conversation: Conversation, reader: Callable[..., Any]) -> None:
        path = folder({"conversations.json": [conversation(1)]})

        (alone,) = reader(path / "conversations.json").partitions()
        (export,) = reader(path).partitions()

        assert (alone.complete, export.complete) == (False, True)

    def test_its_name_does_not_count(self, tmp_path: Path, conversation: Conversation) -> None:
        for name in ("a.json", "b.json"):
            (tmp_path / name).write_text(json.dumps([conversation(1)]))

        assert only(tmp_path / "a.json").fingerprint == only(tmp_path / "b.json").fingerprint


class TestShards:
    def test_a_missing_one_is_named_and_the_others_are_read(
        self, zipped: Make, conversation: Conversation, read_titles: Titles, reader: Callable[..., Any]
    ) -> None:
        """From the manifest."""
        names = [f"conversations-00{i}.json" for i in range(3)]
        path = zipped(
            {"export_manifest.json": manifest(*names), names[0]: [conversation(1)], names[2]: [conversation(3)]}
        )

        first, second = reader(path).partitions()

        assert read_titles(path) == ["Conversation 1", "Conversation 3"]
        assert first.findings == ("missing_shard:conversations-001.json",)
        assert second.findings == ()
        assert not first.complete
        assert not second.complete

    def test_a_gap_in_the_numbers_is_a_missing_one(self, zipped: Make, conversation: Conversation) -> None:
        """Without a manifest."""
        path = zipped({"conversations-001.json": [conversation(1)], "conversations-003.json": [conversation(2)]})

        assert only(path).missing_shards == ("conversations-000.json", "conversations-002.json")

    def test_stand_in_the_order_of_the_manifest_then_of_their_numbers(
        self, zipped: Make, conversation: Conversation
    ) -> None:
        names = ["conversations-002.json", "conversations-000.json"]
        path = zipped(
            {n: [conversation(1)] for n in ("conversations-010.json", "conversations-1.json", *names)}
            | {"export_manifest.json": manifest(*names)}
        )

        assert only(path).conversation_members == (*names, "conversations-1.json", "conversations-010.json")

    @pytest.mark.parametrize("broken", [b"nonsense", b"[]", b'{"logical_files": {}}', b'{"logical_files": [1]}'])
    def test_go_by_name_when_the_manifest_says_nothing(
        self, broken: bytes, zipped: Make, conversation: Conversation
    ) -> None:
        path = zipped({"export_manifest.json": broken, "conversations-000.json": [conversation(1)]})

        assert only(path).conversation_members == ("conversations-000.json",)


class TestSeveral:
    def test_a_glob_names_several_exports(self, zipped: Make, conversation: Conversation, read_titles: Titles) -> None:
        for n in (1, 2, 3):
            path = zipped({"conversations.json": [conversation(n)]}, f"export-{n}.zip")

        assert read_titles(path.parent / "*.zip") == ["Conversation 1", "Conversation 2", "Conversation 3"]

    def test_a_folder_may_hold_several_exports(
        self, folder: Make, conversation: Conversation, read_titles: Titles
    ) -> None:
        path = folder({f"export-{n}/conversations.json": [conversation(n)] for n in (1, 2)})

        assert read_titles(path) == ["Conversation 1", "Conversation 2"]

    def test_a_copy_is_read_once(self, zipped: Make, conversation: Conversation, read_titles: Titles) -> None:
        for name in ("export.zip", "export (1).zip"):
            path = zipped({"conversations.json": [conversation(1)]}, name)

        assert read_titles(path.parent / "*.zip") == ["Conversation 1"]

    def test_a_name_with_brackets_is_a_name(
        self, zipped: Make, conversation: Conversation, read_titles: Titles
    ) -> None:
        path = zipped({"conversations.json": [conversation(1)]}, "export [2024].zip")

        assert read_titles(path) == ["Conversation 1"]

    def test_a_zip_of_several_exports_is_refused(self, zipped: Make, conversation: Conversation) -> None:
        path = zipped({f"export-{n}/conversations.json": [conversation(n)] for n in (1, 2)})

        with pytest.raises(InputError) as caught:
            list(find_exports([str(path)]))

        assert str(caught.value) == (
            "`export.zip` holds 2 exports (`export-1/`, `export-2/`): unpack it and give the folder"
        )


class TestOpenExport:
    def test_a_process_opens_it_once(self, zipped: Make, conversation: Conversation) -> None:
        path = str(zipped({"conversations.json": [conversation(1)]}))

        assert open_export(path) is open_export(path)

    def test_a_file_that_was_replaced_is_opened_again(self, zipped: Make, conversation: Conversation) -> None:
        before = only(zipped({"conversations.json": [conversation(1)]}))
        after = only(zipped({"conversations.json": [conversation(1), conversation(2)]}))

        assert before.fingerprint != after.fingerprint

    def test_it_crosses_processes_by_its_path(self, zipped: Make, conversation: Conversation) -> None:
        export = only(zipped({"conversations.json": [conversation(1)]}))

        assert pickle.loads(pickle.dumps(export)) is export


class TestSidecars:
    def test_json_beside_the_conversations(self, zipped: Make, conversation: Conversation) -> None:
        export = only(
            zipped(
                {
                    "x/conversations.json": [conversation(1)],
                    "x/user.json": b'\xef\xbb\xbf{"id": "user-1"}',
                    "x/sora.json": b'{"title": "\\ud83d"}',
                }
            )
        )

        assert export.read_json("user.json") == {"id": "user-1"}
        assert export.read_json("sora.json") == {"title": "\ud83d"}
        assert export.read_json("message_feedback.json") is None

    def test_one_that_is_no_json_is_refused(self, zipped: Make, conversation: Conversation) -> None:
        export = only(zipped({"conversations.json": [conversation(1)], "user.json": b"{"}))

        with pytest.raises(InputError, match="`user.json` in `export.zip` is not JSON .*; download the export again"):
            export.read_json("user.json")

    def test_one_that_is_too_large_is_refused(self, zipped: Make, conversation: Conversation) -> None:
        export = only(zipped({"conversations.json": [conversation(1)], "user.json": {"id": "x" * 100}}))

        with pytest.raises(InputError, match="`user.json` in `export.zip` is larger than any export's"):
            export.read_json("user.json", max_bytes=50)


class TestFindAsset:
    NAMES = (
        "file-AbC123.dat",
        "file-AbC1234-photo.png",
        "nested/file-XyZ-report-1.pdf",
        "dalle-generations/file-gen-0a.webp",
        "c/audio/file_00ff-1.wav",
        "file_00ffaa.png",
        "file-bare",
    )

    @pytest.mark.parametrize("pack", ["zip", "folder"])
    @pytest.mark.parametrize(
        ("asset_id", "expected"),
        [
            ("file-AbC123", "file-AbC123.dat"),
            ("file-AbC1234", "file-AbC1234-photo.png"),
            ("file-XyZ", "nested/file-XyZ-report-1.pdf"),
            ("file-gen", "dalle-generations/file-gen-0a.webp"),
            ("file_00ff", "c/audio/file_00ff-1.wav"),
            ("file_00ffaa", "file_00ffaa.png"),
            ("file-bare", "file-bare"),
            ("file-Ab", None),
            ("", None),
            ("conversations", None),
            ("user", None),
        ],
    )
    def test_by_the_beginning_of_its_file_name(
        self, asset_id: str, expected: str | None, pack: str, zipped: Make, folder: Make, conversation: Conversation
    ) -> None:
        """Wherever it stands; the id ends at a hyphen, a dot or the end of the name."""
        members = {"conversations.json": [conversation(1)], "user.json": {}} | {n: n.encode() for n in self.NAMES}
        export = only((zipped if pack == "zip" else folder)(members))

        found = export.find_asset(asset_id)

        assert (found and found.name) == expected
        if found is not None:
            with export.open(found.name) as stream:
                assert stream.read() == found.name.encode()
