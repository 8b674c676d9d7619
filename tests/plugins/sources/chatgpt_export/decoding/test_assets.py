from hashlib import sha256

import pytest

from muniment import Asset, FilePart, InputError, TextPart, UnknownPart

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


def image(pointer: str = "file-service://file-1", **more):
    return {"content_type": "image_asset_pointer", "asset_pointer": pointer, **more}


@pytest.fixture
def assets(decode, node, talk):
    """Returns the assets of a conversation with these parts and attachments."""

    def run(members, *parts, attachments=()):
        content = {"content_type": "multimodal_text", "parts": list(parts)}
        record = decode(talk(node("m1", content, metadata={"attachments": list(attachments)})), members)
        return list(record.conversation.assets)

    return run


class TestAssets:
    def test_are_hashed_and_measured(self, assets):
        found = assets({"file-1-photo.png": PNG}, image())

        assert found == [
            Asset(
                id="file-1",
                name="photo.png",
                mime_type="image/png",
                size=len(PNG),
                sha256=sha256(PNG).hexdigest(),
            )
        ]

    def test_that_are_missing_say_why(self, decode, node, talk):
        record = decode(talk(node("m1", {"content_type": "multimodal_text", "parts": [image()]})))

        assert record.conversation.assets == (Asset(id="file-1", missing="not in the export"),)
        assert record.findings == ("missing_asset",)

    @pytest.mark.parametrize("error", [InputError("bad CRC"), OSError("bad CRC"), EOFError("bad CRC")])
    def test_that_are_damaged_say_why(self, decode, node, talk, error):
        content = {"content_type": "multimodal_text", "parts": [image()]}
        record = decode(talk(node("m1", content)), {"file-1.dat": error})

        assert record.conversation.assets[0].missing == "cannot be read: bad CRC"
        assert record.findings == ("missing_asset",)

    def test_are_listed_once(self, assets):
        assert len(assets({"file-1.dat": PNG}, image(), image(), image("sediment://file-1#frame?x=1"))) == 1

    @pytest.mark.parametrize(
        ("members", "attachment", "name"),
        [
            ({"conversation_asset_file_names.json": {"file-1.dat": "a/b/one.png"}}, "four.png", "one.png"),
            ({"library_files.json": [{"file_id": "file-1", "file_name": "two.png"}]}, "four.png", "two.png"),
            ({}, "four.png", "four.png"),
            ({}, "", ""),
        ],
    )
    def test_have_the_best_name_there_is(self, assets, members, attachment, name):
        found = assets({"file-1.dat": PNG, **members}, attachments=[{"id": "file-1", "name": attachment}])

        assert found[0].name == name

    @pytest.mark.parametrize(
        ("head", "mime_type"),
        [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\x00\n\x00\x00WEBP", "image/webp"),
            (b"RIFF\x00\x00\x00\x00WAVE", "audio/wav"),
            (b"ID3\x04", "audio/mpeg"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x00\x00\x00 ftypisom", "video/mp4"),
            (b"plain", ""),
            (b"", ""),
        ],
    )
    def test_without_a_type_are_looked_into(self, assets, head, mime_type):
        assert assets({"file-1.dat": head}, image())[0].mime_type == mime_type

    @pytest.mark.parametrize(
        ("members", "attachment", "mime_type"),
        [
            ({}, {"mime_type": "a/b"}, "a/b"),
            ({}, {"mimeType": "a/b"}, "a/b"),
            ({"library_files.json": [{"file_id": "file-1", "mime_type": "c/d"}]}, {"mime_type": ""}, "c/d"),
            ({}, {"name": "x.CSV"}, "text/csv"),
        ],
    )
    def test_are_of_the_type_that_is_named(self, assets, members, attachment, mime_type):
        found = assets({"file-1.dat": PNG, **members}, attachments=[{"id": "file-1", **attachment}])

        assert found[0].mime_type == mime_type

    def test_are_read_once_per_export(self, decode, node, talk, memory_export):
        from muniment_plugins.sources.chatgpt_export.assets import Assets
        from muniment_plugins.sources.chatgpt_export.sidecars import Sidecars

        export = memory_export({"file-1.dat": PNG})
        assets = Assets(export, Sidecars(export))

        assert assets.find("file-1") == assets.find("file-1")
        assert export.opened == ["file-1.dat"]


class TestPointers:
    def test_keep_what_they_say(self, message):
        """Most of a pointer's metadata is null; the rest is kept."""
        part = image(
            size_bytes=5,
            width=1,
            height=None,
            metadata={"dalle": {"gen_id": "g", "prompt": "a cat", "seed": None}, "gizmo": None, "sanitized": True},
        )
        found = message({"content_type": "multimodal_text", "parts": ["before", part, "after"]})

        assert found.parts == (
            TextPart("before"),
            FilePart(
                "file-1",
                modality="image",
                metadata={"dalle": {"gen_id": "g", "prompt": "a cat"}, "sanitized": True, "size_bytes": 5, "width": 1},
            ),
            TextPart("after"),
        )

    def test_to_voice_have_a_transcription(self, message):
        pieces = [
            {"content_type": "audio_transcription", "text": "hi", "direction": "in", "decoding_id": None},
            {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file_1", "format": "wav"},
            {
                "content_type": "real_time_user_audio_video_asset_pointer",
                "audio_asset_pointer": {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file_2"},
                "frames_asset_pointers": [image("sediment://file_3"), "sediment://file_4"],
                "video_container_asset_pointer": {"asset_pointer": "sediment://file_5"},
                "audio_start_timestamp": 1.5,
                "expiry_datetime": None,
            },
        ]
        found = message({"content_type": "multimodal_text", "parts": pieces})

        assert found.parts == (
            TextPart("hi", kind="transcription", metadata={"direction": "in"}),
            FilePart("file_1", modality="audio", metadata={"format": "wav"}),
            FilePart("file_2", modality="audio", metadata={"audio_start_timestamp": 1.5}),
            FilePart("file_5", modality="video"),
            FilePart("file_3", modality="image"),
            FilePart("file_4", modality="image"),
        )

    @pytest.mark.parametrize("pointer", ["", None, 5, "sediment://"])
    def test_to_nowhere_are_unknown(self, message, pointer):
        part = image(pointer, width=5)

        assert message({"content_type": "multimodal_text", "parts": [part]}).parts == (
            UnknownPart(part, "image_asset_pointer"),
        )


class TestAttachments:
    def test_become_files(self, message):
        found = message("x", metadata={"attachments": [{"id": "file-1", "name": "a.pdf", "size": 5, "width": None}]})

        assert found.parts == (
            TextPart("x"),
            FilePart("file-1", mime_type="application/pdf", name="a.pdf", metadata={"size": 5}),
        )

    def test_tell_about_the_pointer_to_the_same_file(self, message):
        found = message(
            {"content_type": "multimodal_text", "parts": [image(width=7)]},
            metadata={"attachments": [{"id": "file-1", "name": "a.png", "mimeType": "image/png", "fileSizeTokens": 3}]},
        )

        assert found.parts == (
            FilePart(
                "file-1",
                modality="image",
                mime_type="image/png",
                name="a.png",
                metadata={"fileSizeTokens": 3, "width": 7},
            ),
        )

    def test_without_an_id_stay_in_the_metadata(self, message):
        attachments = [{"name": "a.py"}]

        assert message("x", metadata={"attachments": attachments}).metadata == {"attachments": attachments}
