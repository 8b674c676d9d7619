import json
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muniment import Asset, Chunk, InputError, Origin, Partition, Reader, Rejected
from muniment.structure import structure
from muniment_plugins.sources.chatgpt_export import ChatGPTExport

Make = Callable[..., Path]
Conversation = Callable[..., dict[str, Any]]
Read = Callable[..., list[Chunk]]
Open = Callable[..., Reader]


def values(chunks: list[Chunk]) -> list[Any]:
    """Return what was read, in order, whatever chunk it came in."""
    return sorted(
        [d for c in chunks for d in c.data]
        + [(r.origin.start, r.origin.end, r.origin.digest) for c in chunks for r in c.rejected]
    )


class TestPartitions:
    def test_one_for_each_file_of_conversations(self, zipped: Make, conversation: Conversation, reader: Open) -> None:
        names = [f"conversations-00{i}.json" for i in range(3)]
        path = zipped({f"top/{name}": [conversation(i)] for i, name in enumerate(names)})

        partitions = list(reader(path).partitions())

        assert [p.label for p in partitions] == [f"export.zip/{name}" for name in names]
        assert [p.id for p in partitions] == [
            f"chatgpt_export:{p.fingerprint[:16]}/{p.locator['member']}" for p in partitions
        ]
        assert [(p.locator["path"], p.locator["member"]) for p in partitions] == [(str(path), name) for name in names]
        assert [p.size for p in partitions] == [len(json.dumps([conversation(i)])) for i in range(3)]
        assert all(p.complete for p in partitions)

    def test_are_the_same_wherever_the_export_lies(
        self, zipped: Make, conversation: Conversation, reader: Open
    ) -> None:
        members = {"conversations.json": [conversation(1)]}
        (here,) = reader(zipped(members)).partitions()
        (there,) = reader(zipped(members, "renamed.zip")).partitions()

        assert (here.id, here.fingerprint) == (there.id, there.fingerprint)

    def test_one_may_be_empty_beside_another(self, zipped: Make, conversation: Conversation, read_titles: Any) -> None:
        path = zipped({"conversations-000.json": [], "conversations-001.json": [conversation(1)]})

        assert read_titles(path) == ["Conversation 1"]


class TestChunks:
    def test_hold_whole_conversations_with_their_places(
        self, zipped: Make, conversation: Conversation, reader: Open, read_chunks: Read
    ) -> None:
        data = json.dumps([conversation(n) for n in range(20)]).encode()
        with reader(zipped({"conversations.json": data}), chunk_bytes=2000) as opened:
            (partition,) = opened.partitions()

            chunks = read_chunks(opened, partition)

        assert len(chunks) > 3
        assert [c.sequence for c in chunks] == list(range(1, len(chunks) + 1))
        assert all(data[start:end] == piece for c in chunks for start, end, piece in c.data)
        assert all(sum(len(d[2]) for d in c.data) <= 2000 for c in chunks)
        assert [json.loads(d[2]) for c in chunks for d in c.data] == json.loads(data)
        assert sum(c.size for c in chunks) == chunks[-1].end == len(data)

    def test_a_larger_conversation_is_alone(
        self, zipped: Make, conversation: Conversation, reader: Open, read_chunks: Read
    ) -> None:
        members = {"conversations.json": [conversation(n, text="x" * (n == 2) * 5000) for n in (1, 2, 3, 4)]}
        with reader(zipped(members), chunk_bytes=4000) as opened:
            (partition,) = opened.partitions()

            chunks = read_chunks(opened, partition)

        assert [len(c.data) for c in chunks] == [1, 1, 2]

    def test_cross_processes(self, zipped: Make, conversation: Conversation, reader: Open, read_chunks: Read) -> None:
        opened = reader(zipped({"conversations.json": [conversation(1)]}))
        (partition,) = opened.partitions()
        chunks = read_chunks(opened, partition)

        assert pickle.loads(pickle.dumps(chunks)) == chunks

    def test_carry_what_could_not_be_cut(
        self, zipped: Make, conversation: Conversation, reader: Open, read_chunks: Read
    ) -> None:
        """With place, digest and reason, and none of the content."""
        good = json.dumps(conversation(1)).encode()
        data = b"[%s, {secret}, %s]" % (good, good)
        opened = reader(zipped({"conversations.json": data}))
        (partition,) = opened.partitions()

        (chunk,) = read_chunks(opened, partition)

        start = len(good) + 3
        assert [d[2] for d in chunk.data] == [good, good]
        origin = Origin(
            "export.zip/conversations.json", partition.id, start, start + 8, sha256(b"{secret}").hexdigest()
        )
        assert chunk.rejected == (Rejected(origin, "read", f"not JSON at byte {start + 1}"),)


def layouts(tmp_path: Path, data: bytes) -> list[Path]:
    import zipfile

    (tmp_path / "folder").mkdir(exist_ok=True)
    (tmp_path / "folder" / "conversations.json").write_bytes(data)
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            archive.writestr("conversations.json", data)
    return [tmp_path / "folder", tmp_path / "stored.zip", tmp_path / "deflated.zip"]


class TestResume:
    @pytest.mark.parametrize("wrap", [b"[%s]", b'\xef\xbb\xbf{"conversations" : [ %s ], "x": 1}'])
    def test_goes_on_exactly_behind_every_position(
        self, wrap: bytes, tmp_path: Path, conversation: Conversation, reader: Open, read_chunks: Read
    ) -> None:
        elements = [json.dumps(conversation(n)).encode() for n in range(8)]
        elements[3:3] = [b"nul", b'["x"]]', b"", b'{"title": "\\ud83d"}']
        for path in layouts(tmp_path, wrap % b" ,\n".join(elements)):
            opened = reader(path, chunk_bytes=1)
            (partition,) = opened.partitions()
            chunks = read_chunks(opened, partition)
            for i, chunk in enumerate(chunks):
                rest = read_chunks(opened, partition, chunk.end)
                assert values(rest) == values(chunks[i + 1 :])
                assert sum(c.size for c in rest) == sum(c.size for c in chunks[i + 1 :])

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        kinds=st.lists(
            st.sampled_from(["good", "odd", "1", "nul", '["x"]]', "", "{", "[", '"a']), min_size=1, max_size=12
        ),
        chunk_bytes=st.integers(1, 3000),
    )
    def test_goes_on_whatever_is_broken(
        self,
        kinds: list[str],
        chunk_bytes: int,
        tmp_path: Path,
        conversation: Conversation,
        reader: Open,
        read_chunks: Read,
    ) -> None:
        good = {"good": json.dumps(conversation(1)), "odd": json.dumps(conversation(2, title="\ud83d"))}
        elements = [good["good"], *(good.get(k, k) for k in kinds)]
        (tmp_path / "x.json").write_text("[" + ", ".join(elements) + "]")
        opened = reader(tmp_path / "x.json", chunk_bytes=chunk_bytes)
        (partition,) = opened.partitions()
        chunks = read_chunks(opened, partition)
        for i, chunk in enumerate(chunks):
            assert values(read_chunks(opened, partition, chunk.end)) == values(chunks[i + 1 :])

    def test_nothing_comes_behind_the_end(
        self, zipped: Make, conversation: Conversation, reader: Open, read_chunks: Read
    ) -> None:
        opened = reader(zipped({"conversations.json": [conversation(1)]}))
        (partition,) = opened.partitions()
        (chunk,) = read_chunks(opened, partition)

        assert read_chunks(opened, partition, chunk.end) == []


class TestOpenAsset:
    def test_gives_the_bytes_from_whichever_export_has_them(
        self, zipped: Make, folder: Make, conversation: Conversation, reader: Open
    ) -> None:
        zipped({"conversations.json": [conversation(1)], "file-1-a.png": b"one"}, "1.zip")
        path = zipped({"conversations.json": [conversation(2)], "file-2.dat": b"two"}, "2.zip")
        with reader(path.parent / "*.zip") as opened:
            streams = [opened.open_asset(Asset(id=f"file-{n}")) for n in (1, 2)]

            assert [s.read() for s in streams] == [b"one", b"two"]

    def test_says_that_nobody_has_it(self, zipped: Make, conversation: Conversation, reader: Open) -> None:
        opened = reader(zipped({"conversations.json": [conversation(1)]}))

        with pytest.raises(FileNotFoundError):
            opened.open_asset(Asset(id="file-1"))

    def test_checks_what_it_gives(self, zipped: Make, conversation: Conversation, reader: Open) -> None:
        path = zipped({"conversations.json": [conversation(1)], "file-1.dat": b"content" * 100}, method=0)
        path.write_bytes(path.read_bytes().replace(b"contentcontent", b"contentCONTENT", 1))
        stream = reader(path).open_asset(Asset(id="file-1"))

        with pytest.raises(InputError, match="`file-1.dat` in `export.zip` is damaged"):
            stream.read()


class TestDamage:
    def test_what_came_before_is_delivered(
        self, zipped: Make, conversation: Conversation, reader: Open, read_chunks: Read
    ) -> None:
        """A checksum is known to be wrong only at the end: the run fails there, its commits stand."""
        path = zipped({"conversations.json": [conversation(n) for n in range(50)]})
        data = bytearray(path.read_bytes())
        data[14] ^= 1
        data[data.index(b"PK\1\2") + 16] ^= 1
        path.write_bytes(data)
        opened = reader(path, chunk_bytes=3000)
        (partition,) = opened.partitions()
        chunks = []

        with pytest.raises(InputError, match="`conversations.json` in `export.zip` is damaged"):
            for chunk in opened.read(partition, None):
                chunks.append(chunk)

        assert sum(len(c.data) for c in chunks) == 49


class TestSource:
    def test_is_a_value(self) -> None:
        source = ChatGPTExport(path="x.zip")

        assert pickle.loads(pickle.dumps(source)) == source
        assert source.paths == ("x.zip",)
        assert ChatGPTExport(path=("a", "b")).paths == ("a", "b")

    def test_takes_one_path_or_a_list_from_a_pipeline_file(self) -> None:
        assert structure(ChatGPTExport, {"path": "a"}).paths == ("a",)
        assert structure(ChatGPTExport, {"path": ["a", "b"]}).paths == ("a", "b")


def test_partition_locators_are_json(zipped: Make, conversation: Conversation, reader: Open) -> None:
    """They stand in quarantine entries."""
    partitions: list[Partition] = list(reader(zipped({"top/conversations.json": [conversation(1)]})).partitions())

    assert json.loads(json.dumps(partitions[0].locator)) == partitions[0].locator
