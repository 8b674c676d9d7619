"""Whatever is given instead of an export is refused in one sentence, before anything is read."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muniment import Chunk, InputError, Reader

Make = Callable[..., Path]
Conversation = Callable[..., dict[str, Any]]
Open = Callable[..., Reader]

DO = "give the zip that OpenAI sent, the folder it was extracted to, or its conversations.json"


@pytest.fixture
def refusal(reader: Open) -> Callable[..., str]:
    def refuse(*paths: Path | str, **options: Any) -> str:
        with pytest.raises(InputError) as caught:
            list(reader(*paths, **options).partitions())
        return str(caught.value)

    return refuse


Refusal = Callable[..., str]


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "`x` is empty: download it again"),
            (b" \n", "`x` is empty: download it again"),
            (b"\x1f\x8b\x08\x00", f"`x` is a gzip file; {DO}"),
            (b"7z\xbc\xaf\x27\x1c", f"`x` is a 7-Zip archive; {DO}"),
            (b"%PDF-1.7", f"`x` is a PDF; {DO}"),
            ("[{}]".encode("utf-16"), "`x` is text in UTF-16; save it as UTF-8"),
            (b"SQLite format 3\0....", "`x` is a SQLite database; muniment's own are read by the source `archive`"),
            (b"<!doctype html>", f"`x` is a web page, which does not hold everything; {DO}"),
            (b"hello", f"`x` is not a ChatGPT export; {DO}"),
            (b"PK\5\6" + b"\0" * 18, "`x` is empty: download it again"),
            (b"PK\3\4 cut off", "`x` is not a complete zip: the directory at its end is missing; download it again"),
            (b"[]", "`x` holds 0 conversations; if your account has some, request the export again"),
            (b'{"conversations": []}', "`x` holds 0 conversations; if your account has some, request the export again"),
            (b"[1, null]", "`x` holds no ChatGPT conversation: what is in it has none of their keys"),
            (b'{"a": 1}', "`x` holds no ChatGPT conversation: what is in it has none of their keys"),
        ],
    )
    def test_of_other_kinds(self, content: bytes, expected: str, tmp_path: Path, refusal: Refusal) -> None:
        path = tmp_path / "x"
        path.write_bytes(content)

        assert refusal(path) == expected

    def test_called_zip_without_being_one(self, tmp_path: Path, refusal: Refusal) -> None:
        path = tmp_path / "x.zip"
        path.write_bytes(b"404 not found")

        assert refusal(path) == "`x.zip` is not a zip, whatever its name says: download it again"

    @pytest.mark.parametrize("name", ["nothing.zip", "no*.zip"])
    def test_that_are_not_there(self, name: str, tmp_path: Path, refusal: Refusal) -> None:
        assert refusal(tmp_path / name) == f"there is no file `{tmp_path / name}`; {DO}"


def claude() -> list[Any]:
    return [{"uuid": "x", "name": "", "created_at": "", "updated_at": "", "account": {}, "chat_messages": []}]


def deepseek() -> list[Any]:
    message = {"model": "x", "files": [], "fragments": [{"type": "REQUEST", "content": "hi"}]}
    mapping = {"root": {"id": "root", "message": None}, "1": {"id": "1", "parent": "root", "message": message}}
    return [{"id": "x", "title": "x", "mapping": mapping}]


OTHERS = {
    "a Claude export": claude(),
    "a DeepSeek export": deepseek(),
    "the index of a Claude export (it names zips: download those)": {"data_files": [{"export_url": "x"}]},
    "a Grok export": {"conversations": [{"conversation": {"id": "x"}, "responses": []}], "projects": []},
    "a Google AI Studio file": {"chunkedPrompt": {"chunks": []}, "runSettings": {}},
    "a Google Takeout of Gemini": [{"header": "Gemini Apps", "title": "Prompted x", "time": "2026-01-01"}],
    "an Open WebUI export": [{"id": "x", "user_id": "u", "title": "x", "chat": {"history": {}}}],
    "a LibreChat export": {"conversationId": "x", "endpoint": "x", "title": "x", "options": {}, "messagesTree": []},
    "a batch file of the OpenAI API": [{"id": "batch_req_1", "custom_id": "1", "response": {}, "error": None}],
    "a log of the OpenAI API": [{"id": "chatcmpl-1", "object": "chat.completion", "choices": []}],
    "messages in the format of the OpenAI API": [{"messages": [{"role": "user", "content": "hi"}]}],
    "ShareGPT data": [{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}],
}


class TestOtherVendors:
    @pytest.mark.parametrize("vendor", OTHERS)
    def test_are_named_by_what_is_in_the_file(self, vendor: str, tmp_path: Path, refusal: Refusal) -> None:
        path = tmp_path / "conversations.json"
        path.write_text(json.dumps(OTHERS[vendor]))

        assert refusal(path) == f"`conversations.json` looks like {vendor}, not like a ChatGPT export"

    @pytest.mark.parametrize(
        ("names", "vendor"),
        [
            (["ttl/30d/export_data/1/prod-grok-backend.json"], "a Grok export"),
            (["Takeout/My Activity/Gemini Apps/MyActivity.json"], "a Google Takeout"),
            (["chat-00000000-0000-0000-0000-000000000000.json"], "a Mistral Le Chat export"),
            (["users.json", "projects.json", "memories.json"], "a Claude export"),
        ],
    )
    def test_are_named_by_what_is_in_the_zip(
        self, names: list[str], vendor: str, zipped: Make, refusal: Refusal
    ) -> None:
        path = zipped(dict.fromkeys(names, b"{}"))

        assert refusal(path) == f"`export.zip` looks like {vendor}, not like a ChatGPT export"

    def test_do_not_hide_in_a_zip(self, zipped: Make, refusal: Refusal) -> None:
        path = zipped({"conversations.json": claude(), "users.json": []})

        assert refusal(path) == "`export.zip` looks like a Claude export, not like a ChatGPT export"

    def test_one_stranger_among_conversations_is_no_reason(
        self, zipped: Make, conversation: Conversation, reader: Open
    ) -> None:
        """Nor is a conversation without messages; each is judged alone when it is decoded."""
        shell = {"id": "x", "title": "empty", "create_time": 1}
        for first in (claude()[0], shell, {"a": 1}, 5):
            path = zipped({"conversations.json": [first, conversation(1)]})

            assert len(list(reader(path).partitions())) == 1


class TestZips:
    def test_without_conversations(self, zipped: Make, refusal: Refusal) -> None:
        for members, expected in [
            ({"a.txt": b""}, f"`export.zip` holds no conversations.json, so it is no ChatGPT export; {DO}"),
            ({"chat.html": b"", "user.json": {}}, f"`export.zip` holds chat.html, but no conversations.json; {DO}"),
            (
                {"chats.json": b"[]"},
                "`export.zip` holds no conversations.json; if another file holds the conversations, give that file",
            ),
            (
                {"export.zip": b""},
                "`export.zip` holds zips, but no conversations.json; give the zips themselves (a glob such as `*.zip`)",
            ),
        ]:
            assert refusal(zipped(members)) == expected

    @pytest.mark.parametrize("name", ["../conversations.json", "/conversations.json", "x\\conversations.json"])
    def test_whose_conversations_have_a_name_that_points_elsewhere(
        self, name: str, zipped: Make, conversation: Conversation, refusal: Refusal
    ) -> None:
        path = zipped({name: [conversation(1)]})

        assert refusal(path) == (f"`{name}` in `export.zip` cannot be read: its name points out of the export")

    def test_whose_conversations_have_a_nul_in_their_name(
        self, zipped: Make, conversation: Conversation, refusal: Refusal
    ) -> None:
        """The standard library would take it for `conversations.json`."""
        path = zipped({"conversations.jsonXtxt": [conversation(1)]})
        path.write_bytes(path.read_bytes().replace(b".jsonX", b".json\0"))

        assert refusal(path) == (
            "`conversations.json\\x00txt` in `export.zip` cannot be read: its name points out of the export"
        )

    @pytest.mark.parametrize("name", ["../../etc/passwd", "/root/x.png", "C:\\x.dat", "user.json\0"])
    def test_other_members_with_such_names_are_left_alone(
        self, name: str, zipped: Make, conversation: Conversation, read_titles: Any
    ) -> None:
        path = zipped({"conversations.json": [conversation(1)], "y" * len(name): b"x"})
        path.write_bytes(path.read_bytes().replace(b"y" * len(name), name.encode()))

        assert read_titles(path) == ["Conversation 1"]

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_with_two_files_of_one_name(self, tmp_path: Path, conversation: Conversation, refusal: Refusal) -> None:
        import zipfile

        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for n in (1, 2):
                archive.writestr("conversations.json", json.dumps([conversation(n)]))

        assert refusal(tmp_path / "x.zip") == (
            "`x.zip` holds `conversations.json` twice, so nobody can say which counts: download it again"
        )

    def test_encrypted(self, zipped: Make, conversation: Conversation, refusal: Refusal) -> None:
        path = zipped({"conversations.json": [conversation(1)]})
        data = bytearray(path.read_bytes())
        data[6] |= 1
        data[data.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(data)

        assert refusal(path) == (
            "`conversations.json` in `export.zip` cannot be read: it is encrypted; unpack the zip with its password"
            " and give the folder"
        )

    def test_that_explode(self, zipped: Make, refusal: Refusal) -> None:
        path = zipped({"conversations.json": b"[" + b" " * 30_000_000 + b"]"})

        assert "claims to inflate to 30000002 bytes" in refusal(path)

    def test_that_inflate_to_too_much(self, zipped: Make, conversation: Conversation, refusal: Refusal) -> None:
        path = zipped({"conversations.json": [conversation(1)]})

        assert refusal(path, max_total_bytes=10) == (
            f"the conversations of `export.zip` claim to be {len(json.dumps([conversation(1)]))} bytes; "
            "if you trust the file, raise `max_total_bytes`"
        )

    def test_names_in_messages_are_escaped(self, zipped: Make, refusal: Refusal) -> None:
        path = zipped({"../\x1b[31m\u202e/conversations.json": b"[]"})

        assert refusal(path).startswith("`../\\x1b[31m\\u202e/conversations.json` in ")


class TestFolders:
    def test_a_link_is_not_followed(
        self, folder: Make, tmp_path: Path, conversation: Conversation, refusal: Refusal
    ) -> None:
        (tmp_path / "secret.json").write_text(json.dumps([conversation(1)]))
        path = folder({"user.json": {}})
        (path / "conversations.json").symlink_to(tmp_path / "secret.json")

        assert refusal(path) == "`conversations.json` in `export` cannot be read: it is a link or a special file"

    def test_an_empty_one(self, folder: Make, tmp_path: Path, refusal: Refusal) -> None:
        (tmp_path / "empty").mkdir()

        assert refusal(tmp_path / "empty") == "`empty` is empty: download it again"


def corpora(*parts: str) -> Path:
    root = os.environ.get("MUNIMENT_CORPORA")
    if not root:
        pytest.skip("MUNIMENT_CORPORA names no folder")
    return Path(root, *parts)


class TestCorpora:
    def test_every_json_file_is_refused_rejected_or_cut(self, reader: Open, read_chunks: Any) -> None:
        """Nothing but the source's own error comes of any file of JSONTestSuite."""
        for path in sorted(corpora("JSONTestSuite", "test_parsing").iterdir()):
            try:
                opened = reader(path)
                chunks: list[Chunk] = [c for p in opened.partitions() for c in read_chunks(opened, p)]
            except InputError as error:
                assert f"`{path.name}`" in str(error)
            else:
                assert path.name[0] != "n" or any(c.rejected for c in chunks) or b"\\u" in path.read_bytes()

    def test_every_export_is_read_or_named(self, reader: Open, read_chunks: Any) -> None:
        """As many conversations as the standard library finds."""
        read = 0
        for path in sorted(p for p in corpora("exports").rglob("*") if p.suffix in (".json", ".zip")):
            try:
                opened = reader(path)
                slices = [d for p in opened.partitions() for c in read_chunks(opened, p) for d in c.data]
            except InputError as error:
                assert f"`{path.name}`" in str(error)
                continue
            read += len(slices)
            if path.suffix == ".json":
                value = json.loads(path.read_bytes())
                expected = value if isinstance(value, list) else value.get("conversations", [value])
                assert [json.loads(d[2]) for d in slices] == expected
        assert read > 20
