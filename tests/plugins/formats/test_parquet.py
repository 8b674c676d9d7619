"""Parquet: typed tables that other programs read, and every record whole in one of them."""

import io
import json
import pickle
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from backports import zstd

from muniment import Context, Message, Origin, RecordError, TextPart
from muniment.canonical import record_to_json
from muniment.engine.local import Local
from muniment.engine.pool import Pool
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.testing import ListSource
from muniment.testing import make_record as simple_record
from muniment.testing.hard_records import hard_records
from muniment_plugins.formats.parquet import Parquet
from muniment_plugins.formats.parquet.schema import schemas
from muniment_plugins.sinks.files import Files

PAGE = Path(__file__).parents[3] / "docs" / "formats" / "parquet.md"
ORIGIN = Origin("x", "p")


class Silent:
    def call_run_event(self, event):
        pass


class Streams(dict):
    """A stream per table, in memory."""

    def __init__(self, form):
        super().__init__((name, io.BytesIO()) for name in form.table_names)

    def table(self, name):
        return pq.read_table(io.BytesIO(self[name].getvalue()))


def write(form, *batches):
    streams = Streams(form)
    part = form.begin(streams)
    for batch in batches:
        part.add(batch)
    part.close()
    return streams


def encoded(form, records, links=lambda asset: ""):
    return write(form, form.encode_batch(records, links))


def read(streams):
    return list(Parquet().decode(io.BytesIO(streams["conversations"].getvalue()), ORIGIN))


def lines(records):
    return [record_to_json(r) for r in records]


def archive(folder, records, *, engine=None, chunk_records=7, **options):
    sink = Files(path=folder, format="parquet", **options)
    assert list(sink.check()) == []
    step = Step("list", "source", ListSource(records=tuple(records), chunk_records=chunk_records))
    path = SinkPath(step=Step("files", "sinks[0]", sink), name="files")
    return run(Plan(name="t", sources=(step,), sinks=(path,), engine=engine or Local()), Silent()).sinks["files"]


def stored(folder, **options):
    with Files(path=folder, format="parquet", **options).open_target(Context(run="reader")) as target:
        return sorted(lines(target.read_back()))


def some(count=30):
    """Conversations of three months and two accounts."""
    return [
        simple_record(
            f"c{i}", title=f"Talk {i}", created_at=datetime(2025, 1 + i % 3, 5, tzinfo=UTC), account=f"a{i % 2}"
        )
        for i in range(count)
    ]


class TestRecords:
    def test_they_come_back_whole(self, full, make_record, naughty):
        """Every kind of part, every string that a writer could choke on, with and without raw JSON."""
        records = [
            full, make_record(), make_record(raw=False, id="c3"),
            make_record(*(Message(id=f"m{i}", role="user", parts=(TextPart(t),)) for i, t in enumerate(naughty))),
            make_record(Message(id="\ud800", role="us\udfffer", parts=(TextPart("lone \ud83d half"),)), title="\udc00"),
        ]  # fmt: skip

        assert lines(read(encoded(Parquet(), records))) == lines(records)

    def test_hard_ones_come_back_whole(self):
        """Whatever finds out a careless writer."""
        records = [hard.record for hard in hard_records()]

        assert lines(read(encoded(Parquet(), records))) == lines(records)

    def test_raw_json_can_be_left_out(self, full):
        """The rest stays exact."""
        (record,) = read(encoded(Parquet(raw=False), [full]))

        assert record.raw is None and record.conversation == full.conversation

    def test_a_record_is_a_frame_of_json(self, full):
        """Any zstd opens it."""
        (frame,) = encoded(Parquet(), [full]).table("conversations")["record"].to_pylist()

        assert json.loads(zstd.decompress(frame))["id"] == full.conversation.id

    @pytest.mark.parametrize("memory_bytes", [1, 1000, 8 << 20])
    def test_a_stream_that_cannot_go_back_is_read(self, full, memory_bytes, monkeypatch):
        """As one that comes over the net; a long one waits on the disk, as ciphertext."""
        monkeypatch.setattr("muniment_plugins.formats.parquet.read._MEMORY_BYTES", memory_bytes)

        class OneWay(io.RawIOBase):
            def __init__(self, data):
                self.below = io.BytesIO(data)

            def readable(self):
                return True

            def readinto(self, buffer):
                return self.below.readinto(buffer)

        stream = OneWay(encoded(Parquet(), [full])["conversations"].getvalue())
        assert lines(Parquet().decode(stream, ORIGIN)) == lines([full])

    @pytest.mark.parametrize("table", ["messages", "cut", "other"])
    def test_another_file_is_refused(self, full, table):
        """With a reason, not with nothing."""
        streams = encoded(Parquet(), [full])
        data = {
            "messages": streams["messages"].getvalue(), "cut": streams["conversations"].getvalue()[:-9], "other": b"x",
        }[table]  # fmt: skip
        with pytest.raises(RecordError, match="no column `record`|no Parquet file"):
            list(Parquet().decode(io.BytesIO(data), ORIGIN))

    def test_damage_is_noticed(self, full):
        """Pages have checksums."""
        data = bytearray(encoded(Parquet(), [full])["conversations"].getvalue())
        at = data.index(b"\x28\xb5\x2f\xfd", data.index(b"PAR1"))
        data[at + 8] ^= 1
        with pytest.raises(Exception, match=r"crc|CRC|checksum"):
            pq.read_table(io.BytesIO(bytes(data)), page_checksum_verification=True)


class TestMessages:
    @pytest.fixture
    def rows(self, full, links):
        return {r["message_id"]: r for r in encoded(Parquet(), [full], links).table("messages").to_pylist()}

    def test_each_has_a_row(self, full, rows):
        """In the order of the conversation, on whatever branch."""
        messages = full.conversation.messages

        assert list(rows) == [m.id for m in messages]
        assert [r["position"] for r in rows.values()] == list(range(len(messages)))
        assert [m for m, r in rows.items() if not r["on_visible_path"]] == ["a0"]
        assert [m for m, r in rows.items() if r["hidden"]] == ["sys"]

    def test_it_names_its_conversation(self, full, rows):
        """And the version of it, so that rows can be joined without doubling."""
        row = rows["q"]

        assert (row["source"], row["account"], row["conversation_id"], row["title"]) == ("chatgpt", "me", "c1", "Cats")
        assert row["source_hash"] == full.source_hash

    def test_times_are_timestamps(self, rows):
        assert rows["q"]["created_at"] == datetime(2025, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)
        assert rows["sys"]["created_at"] is None

    def test_it_has_text_and_what_else_there_is(self, rows):
        """Plain text says it all; where it does not, the parts stand beside as JSON."""
        assert (rows["sys"]["text"], rows["sys"]["parts"]) == ("be brief", None)
        assert rows["q"]["text"] == "What is **this**?" and rows["q"]["part_types"] == ["text", "file"]
        assert json.loads(rows["q"]["parts"])[1]["file_id"] == "img"
        assert (rows["root"]["text"], rows["root"]["parts"], rows["root"]["part_types"]) == ("", None, [])

    def test_attachments_are_paths_names_or_addresses(self, rows):
        assert rows["q"]["attachments"] == ["assets/abababab.png"]
        assert rows["end"]["attachments"] == ["notes.pdf", "https://pictures.example/1.png"]

    def test_the_rest_is_json(self, rows):
        assert json.loads(rows["end"]["usage"]) == {"output_tokens": 3}
        assert json.loads(rows["end"]["citations"])[0]["kind"] == "webpage"
        assert rows["q"]["usage"] is None

    def test_lone_surrogates_are_marked(self, make_record):
        """Arrow's text cannot hold them."""
        record = make_record(Message(id="m", role="user", parts=(TextPart("a \ud83d b"),)), title="\ud800")
        (row,) = encoded(Parquet(), [record]).table("messages").to_pylist()

        assert (row["text"], row["title"]) == ("a \ufffd b", "\ufffd")


class TestConversations:
    def test_each_has_a_row(self, full, links):
        (row,) = encoded(Parquet(), [full], links).table("conversations").to_pylist()

        assert (row["message_count"], row["current"], row["model"]) == (8, "end", "gpt-4o")
        assert row["assets"][0] == {
            "id": "img", "name": "cat (1).png", "mime_type": "image/png", "size": 2, "sha256": "ab" * 32,
            "path": "assets/abababab.png",
        }  # fmt: skip
        assert json.loads(row["metadata"]) == {"is_starred": True}


class TestFile:
    def test_it_says_what_it_is(self, full):
        """The version of the schema, in the file itself."""
        facts = pq.read_metadata(io.BytesIO(encoded(Parquet(), [full])["messages"].getvalue())).metadata

        assert (facts[b"muniment.schema_version"], facts[b"muniment.table"]) == (b"1", b"messages")

    def test_columns_are_packed_as_they_deserve(self, full):
        """Repeated values by dictionary, text by zstd, records not again."""
        group = pq.read_metadata(io.BytesIO(encoded(Parquet(), [full])["messages"].getvalue())).row_group(0)
        columns = {c.path_in_schema: c for c in map(group.column, range(group.num_columns))}
        assert "RLE_DICTIONARY" in columns["role"].encodings and "RLE_DICTIONARY" not in columns["text"].encodings
        assert columns["text"].compression == "ZSTD" and columns["text"].statistics is None
        assert columns["created_at"].statistics.max == datetime(2025, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)

        group = pq.read_metadata(io.BytesIO(encoded(Parquet(), [full])["conversations"].getvalue())).row_group(0)
        assert group.column(group.num_columns - 1).compression == "UNCOMPRESSED"

    def test_equal_records_give_equal_bytes(self, full):
        one, other = encoded(Parquet(), [full]), encoded(Parquet(), [full])

        assert {n: s.getvalue() for n, s in one.items()} == {n: s.getvalue() for n, s in other.items()}

    def test_no_rows_are_a_table_too(self, make_record):
        """A conversation without messages."""
        assert encoded(Parquet(), [make_record()]).table("messages").num_rows == 0

    def test_row_groups_are_bounded(self, monkeypatch):
        """Rows are written when they are enough."""
        monkeypatch.setattr("muniment_plugins.formats.parquet.write._ROW_GROUP_BYTES", 1)
        form = Parquet()
        batches = [form.encode_batch(some(3), lambda a: "") for _ in range(4)]
        streams = write(form, *batches)

        assert pq.read_metadata(io.BytesIO(streams["messages"].getvalue())).num_row_groups == 4


class TestBatch:
    def test_it_crosses_processes(self, full):
        """A worker makes it, the driver writes it."""
        form = Parquet()
        batch = pickle.loads(pickle.dumps(form.encode_batch([full], lambda a: "")))

        assert lines(read(write(form, batch))) == lines([full])

    @pytest.mark.parametrize("places", [[0], [2], [0, 2], [1, 3, 4], []])
    def test_records_can_be_chosen(self, full, make_record, places):
        """With their own messages and no others'."""
        records = [full, *some(2), make_record(id="empty"), *some(1)]
        form = Parquet()
        chosen = form.select(form.encode_batch(records, lambda a: ""), places)
        streams = write(form, chosen)

        assert lines(read(streams)) == lines([records[i] for i in places])
        ids = [m.id for i in places for m in records[i].conversation.messages]
        assert streams.table("messages")["message_id"].to_pylist() == ids
        assert form.size_of(chosen) <= form.size_of(form.encode_batch(records, lambda a: ""))

    def test_batches_can_be_joined(self, full):
        """Places count through."""
        form = Parquet()
        joined = form.join([form.encode_batch(r, lambda a: "") for r in (some(2), [full], some(1))])

        assert lines(read(write(form, form.select(joined, [1, 2])))) == lines([some(2)[1], full])


class TestFolder:
    def test_its_layout(self, tmp_path):
        """By source and month, as Hive names folders; a part of each table beside the other."""
        archive(tmp_path, some())
        names = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet")]
        months = ["2025-01", "2025-02", "2025-03"]

        assert sorted(re.sub(r"part-.*(\.parquet)", r"part\1", n) for n in names) == [
            f"{table}/source=test/month={month}/part.parquet"
            for table in ("conversations", "messages")
            for month in months
        ]
        assert stored(tmp_path) == sorted(lines(some()))

    def test_top_ups_are_parts_beside(self, tmp_path):
        """What is there already is left out of the batch that it comes in."""
        archive(tmp_path, some())
        counts = archive(tmp_path, [*some(), simple_record("new")])

        assert (counts.stored, counts.unchanged) == (1, 30)
        assert stored(tmp_path) == sorted(lines([*some(), simple_record("new")]))

    def test_processes_make_the_same_files(self, tmp_path):
        for name, engine in (("one", Local()), ("two", Pool(workers=2))):
            archive(tmp_path / name, some(), engine=engine)
        one, two = (sorted(p.read_bytes() for p in (tmp_path / n).rglob("*.parquet")) for n in ("one", "two"))

        assert one == two

    def test_pyarrow_reads_it(self, tmp_path):
        """As one dataset, partitions and all."""
        archive(tmp_path, some())
        messages = ds.dataset(tmp_path / "messages", partitioning="hive")
        table = messages.to_table(filter=(ds.field("month") == "2025-02") & (ds.field("role") == "user"))

        assert messages.count_rows() == 60 and table.num_rows == 10
        assert set(table["source"].to_pylist()) == {"test"}

    def test_duckdb_reads_it(self, tmp_path):
        """With a glob; the partitions are columns."""
        import duckdb

        archive(tmp_path, some())
        query = f"""
            SELECT c.account, count(*) FROM read_parquet('{tmp_path}/messages/**/*.parquet') m
            JOIN read_parquet('{tmp_path}/conversations/**/*.parquet') c USING (source, conversation_id, source_hash)
            WHERE m.month >= '2025-02' AND m.created_at < TIMESTAMPTZ '2027-01-01' AND list_contains(part_types, 'text')
            GROUP BY 1 ORDER BY 1
        """
        with duckdb.connect() as connection:
            assert connection.execute(query).fetchall() == [("a0", 20), ("a1", 20)]

    def test_latest_has_each_conversation_once(self, tmp_path):
        """Both tables, without versions."""
        archive(tmp_path, some(), latest=True)
        newer = simple_record("c0", ("Hello", "Hi there", "More"), updated_at=datetime(2030, 1, 1, tzinfo=UTC))
        archive(tmp_path, [newer], latest=True)

        assert pq.read_table(tmp_path / "latest/conversations.parquet").num_rows == 30
        assert pq.read_table(tmp_path / "latest/messages.parquet").num_rows == 61
        assert ds.dataset(tmp_path / "messages", partitioning="hive").count_rows() == 63

    def test_one_table_can_be_one_file(self, tmp_path):
        """Written whole, as other files are."""
        path = tmp_path / "messages.parquet"
        archive(path, some(), format_options={"tables": ["messages"]})
        assert pq.read_table(path).num_rows == 60

        path = tmp_path / "chats.parquet"
        options = {"format_options": {"tables": ["conversations"]}}
        archive(path, some(), **options)
        assert stored(path, **options) == sorted(lines(some()))


class TestOptions:
    def test_two_tables_are_no_file(self, tmp_path):
        """The message says what to do."""
        assert list(Files(path=tmp_path / "chats.parquet").check()) == [
            "format `parquet` makes several tables, which one file cannot hold; name a folder, or choose one table with"
            " `format_options`: `conversations`, `messages`"
        ]

    def test_without_pyarrow_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert list(Parquet().check()) == ["format `parquet` needs pyarrow: pip install 'muniment[parquet]'"]

    def test_messages_alone_cannot_be_read_back(self):
        assert Parquet().reads_back and not Parquet(tables=["messages"]).reads_back

    def test_tables_have_one_order(self):
        """The first holds the records."""
        assert Parquet(tables=["messages", "conversations"]).table_names == ("conversations", "messages")
        assert list(Parquet(tables=[]).check()) == ["`tables` must name `conversations`, `messages` or both"]


def test_the_page_lists_the_columns():
    """With their types, in their order."""
    page = PAGE.read_text().partition("## Options")[0]
    listed = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, re.MULTILINE)
    columns = [(f.name, str(f.type)) for table in ("messages", "conversations") for f in schemas()[table]]

    assert listed == columns
