"""What was archived comes back identical, wherever and however it lies."""

import gzip
import hashlib
import io
import json
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import frozen
from backports import zstd
from msgspec.structs import replace

from muniment import Asset, Context, FilePart, InputError, Message, Raw, Reader, Rejected, TextPart
from muniment.canonical import record_to_json, to_json
from muniment.engine.local import Local
from muniment.merge import merge_records
from muniment.model import Record
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.testing import ListSource, make_record
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sources import archive
from muniment_plugins.sources.archive import ArchiveSource
from muniment_plugins.sources.archive import read as archive_read

BYTES = b"\x89PNG not really"
SHA256 = hashlib.sha256(BYTES).hexdigest()


class Silent:
    def call_run_event(self, event: object) -> None:
        pass


@frozen(kw_only=True)
class SourceWithAsset(ListSource):
    """Records whose one asset can be opened."""

    def open(self, ctx: Context) -> Reader:
        reader = super().open(ctx)
        reader.open_asset = lambda asset: io.BytesIO(BYTES)  # type: ignore[method-assign]
        return reader


@pytest.fixture
def records():
    awkward = make_record("c2", ["lone \ud83d, NUL \x00, \ue200cite\ue202x\ue201", "]}\n{["], title="a\u2028b\ud800")
    with_file = make_record(
        "c3",
        messages=(Message(id="m", role="user", parts=(TextPart("see"), FilePart("f", "image"))),),
        assets=(Asset(id="f", name="cat.png", sha256=SHA256, size=len(BYTES)), Asset(id="g", missing="lost")),
    )
    return [make_record("c1"), awkward, with_file, make_record("c4", [], title=None, raw=False)]


def store(sink, records, **limits):
    return run(
        Plan(
            name="test",
            sources=(Step("list", "source", SourceWithAsset(records=records)),),
            sinks=(SinkPath(step=Step("sink", "sinks[0]", sink), name="sink", **limits),),
            engine=Local(),
        ),
        Silent(),
    )


def read(path, after=None):
    """Return what a run would be given: (position, records and rejections) per chunk."""
    source = ArchiveSource(path=str(path))
    with source.open(Context(run="r")) as reader:
        (partition,) = reader.partitions()
        return [(c.end, [*c.rejected, *source.decode(c)]) for c in reader.read(partition, after)]


def items(path, after=None):
    return [item for _, some in read(path, after) for item in some]


def bare(records):
    return sorted((r.key, r.source_hash, to_json(r.conversation), r.raw) for r in records)


def fingerprint(path):
    with ArchiveSource(path=str(path)).open(Context(run="r")) as reader:
        (partition,) = reader.partitions()
        return partition.fingerprint


SINKS = {
    "archive.db": lambda p: SQLite(path=p / "archive.db"),
    "chats.jsonl": lambda p: Files(path=p / "chats.jsonl"),
    "chats.json": lambda p: Files(path=p / "chats.json"),
    "chats.jsonl.zst": lambda p: Files(path=p / "chats.jsonl.zst"),
    "chats.json.gz": lambda p: Files(path=p / "chats.json.gz"),
    "chats.jsonl.xz": lambda p: Files(path=p / "chats.jsonl.xz"),
    "parts": lambda p: Files(path=p / "parts", mode="append", format="jsonl"),
    "parts json": lambda p: Files(path=p / "parts json", mode="append", format="json", compression="zstd"),
    "mirror": lambda p: Files(path=p / "mirror", mode="mirror", format="jsonl"),
    "mirror json": lambda p: Files(path=p / "mirror json", mode="mirror", format="json", compression="gzip"),
}


@pytest.fixture(params=SINKS)
def stored(request, tmp_path, records):
    store(SINKS[request.param](tmp_path), records, max_unit_records=2)
    return tmp_path / request.param


class TestRoundTrip:
    def test_records_are_identical(self, stored, records):
        """Conversation, raw JSON and source hash, lone surrogates and NUL included."""
        assert bare(items(stored)) == bare(records)

    def test_assets_can_be_opened(self, stored):
        """What was stored beside comes back; what is missing is an error that the engine knows."""
        with ArchiveSource(path=str(stored)).open(Context(run="r")) as reader:
            with reader.open_asset(Asset(id="f", name="cat.png", sha256=SHA256)) as stream:
                assert stream.read() == BYTES
            with reader.open_asset(Asset(id="f", sha256=SHA256)) as stream:
                assert stream.read() == BYTES
            for asset in (Asset(id="x"), Asset(id="x", sha256="00" * 32), Asset(id="x", sha256="../../etc/passwd")):
                with pytest.raises(FileNotFoundError):
                    reader.open_asset(asset)

    def test_resumes_after_every_position(self, stored, monkeypatch):
        """What follows a position is exactly what was not read before it."""
        monkeypatch.setattr(archive_read, "_CHUNK_BYTES", 1)
        monkeypatch.setattr("muniment_plugins.sources.archive.database._CHUNK_BYTES", 1)
        chunks = read(stored)

        assert len(chunks) == 4
        for number, (end, _) in enumerate(chunks):
            assert read(stored, after=json.loads(json.dumps(end))) == chunks[number + 1 :]

    def test_the_fingerprint_is_of_content(self, stored, records, tmp_path):
        """Moved or copied, an archive is the same; topped up, it is another."""
        before = fingerprint(stored)
        moved = tmp_path / "moved"
        shutil.move(stored, moved)

        assert fingerprint(moved) == before

        shutil.move(moved, stored)
        store(next(s for n, s in SINKS.items() if n == stored.name)(tmp_path), [*records, make_record("c9")])
        assert fingerprint(stored) != before


class TestVersions:
    def topped_up(self, texts, hour):
        time = datetime(2026, 1, 2, hour, tzinfo=UTC)
        return make_record("c1", texts, updated_at=time)

    @pytest.mark.parametrize("name", ["parts", "mirror", "archive.db"])
    def test_versions_are_merged(self, name, tmp_path):
        """A conversation that was archived twice is one, with all its messages."""
        old, new = self.topped_up(["a", "b"], 3), self.topped_up(["a", "b", "c"], 4)
        for some in ([old, make_record("c2")], [new]):
            store(SINKS[name](tmp_path), some)

        assert bare(items(tmp_path / name)) == bare([merge_records(old, new), make_record("c2")])

    def test_versions_in_one_file_are_merged(self, tmp_path):
        """Two archives that were put one behind the other are one."""
        path = tmp_path / "both.jsonl"
        old, new = self.topped_up(["a", "b"], 3), self.topped_up(["a", "b", "c"], 4)
        path.write_bytes(b"".join(record_to_json(r) + b"\n" for r in (old, make_record("c2"), new)))

        assert bare(items(path)) == bare([merge_records(old, new), make_record("c2")])

    def test_a_damaged_last_version_takes_no_earlier_one_with_it(self, tmp_path):
        lines = [record_to_json(self.topped_up([t], 3)) for t in "ab"]
        path = tmp_path / "both.jsonl"
        path.write_bytes(lines[0] + b"\n" + lines[1] + b"\n")
        source = ArchiveSource(path=str(path))
        with source.open(Context(run="r")) as reader:
            (partition,) = reader.partitions()
            path.write_bytes(lines[0] + b"\n" + lines[1][:-9] + b"\n")

            found = [x for c in reader.read(partition, None) for x in [*c.rejected, *source.decode(c)]]

        assert [type(x) for x in found] == [Rejected, Record]

    def test_parts_that_are_broken_at_the_same_place_are_two(self, tmp_path):
        """Neither entry hides the other."""
        folder = tmp_path / "parts"
        folder.mkdir()
        for name in ("a.jsonl", "b.jsonl"):
            (folder / name).write_bytes(b'{"id":"c"}\n' + record_to_json(make_record(name)) + b"\n")
        sink = SQLite(path=str(tmp_path / "archive.db"))
        plan = Plan(
            name="test",
            sources=(Step("archive", "source", ArchiveSource(path=str(folder))),),
            sinks=(SinkPath(step=Step("sqlite", "sinks[0]", sink), name="sink"),),
            engine=Local(),
        )

        report = run(plan, Silent())

        with sink.open_target(Context(run="r")) as target:
            assert {e["label"] for e in target.quarantined()} == {"a.jsonl", "b.jsonl"}
        assert report.exit_code == 3


class TestLayouts:
    def test_a_folder_without_its_manifests(self, tmp_path, records):
        """The files alone are enough; assets and earlier copies are no conversations."""
        store(SINKS["mirror"](tmp_path), records)
        shutil.rmtree(tmp_path / "mirror" / ".muniment")

        assert bare(items(tmp_path / "mirror")) == bare(records)

    def test_content_decides_not_the_name(self, tmp_path, records):
        """Renamed files are read as what they are."""
        lines = b"".join(record_to_json(r) + b"\n" for r in records)
        array = json.dumps([json.loads(x) for x in lines.splitlines()], indent=2).encode()
        plain = [(r.key, to_json(r.conversation)) for r in records]

        for content in (lines, gzip.compress(lines), zstd.compress(lines), array, b"\xef\xbb\xbf" + lines):
            path = tmp_path / "renamed.txt"
            path.write_bytes(content)
            assert [(r.key, to_json(r.conversation)) for r in items(path)] == plain

    def test_one_bad_line_is_rejected_with_its_bytes(self, tmp_path, records):
        """Both neighbours survive, and the message has no text of the conversation."""
        lines = [record_to_json(r) for r in records[:3]]
        lines[1] = lines[1][:30] + b'"' + lines[1][30:]
        path = tmp_path / "chats.jsonl"
        path.write_bytes(b"\n".join(lines))

        first, bad, last = items(path)

        assert [first.key, last.key] == ["test:c1", "test:c3"]
        assert (bad.stage, bad.origin.start, bad.origin.end) == (
            "decode",
            len(lines[0]) + 1,
            len(lines[0]) + len(lines[1]) + 2,
        )
        assert len(bad.origin.digest) == 64

    def test_an_array_that_is_cut_off_is_told(self, tmp_path, records):
        path = tmp_path / "chats.json"
        path.write_bytes(b"[\n" + record_to_json(records[0]) + b",\n" + record_to_json(records[1])[:50])

        found = items(path)

        assert [type(x) for x in found].count(Record) == 1
        assert any("cut off" in x.reason for x in found if isinstance(x, Rejected))

    def test_a_part_that_is_gone_is_a_finding(self, tmp_path, records):
        """The rest is read, and the run says that something is missing."""
        store(SINKS["parts"](tmp_path), records, max_unit_records=2)
        sorted((tmp_path / "parts").glob("*.jsonl"))[0].unlink()

        with ArchiveSource(path=str(tmp_path / "parts")).open(Context(run="r")) as reader:
            (partition,) = reader.partitions()

        assert partition.findings == ("missing_part",)
        assert len(items(tmp_path / "parts")) == 2

    def test_damaged_compression_is_a_clear_error(self, tmp_path, records):
        path = tmp_path / "chats.jsonl.gz"
        data = gzip.compress(b"".join(record_to_json(r) + b"\n" for r in records))
        path.write_bytes(data[:-20])

        with pytest.raises(InputError, match=r"^`chats.jsonl.gz` is damaged \(EOFError\); restore it from a copy$"):
            items(path)

    def test_raw_that_is_absent_stays_absent(self, tmp_path):
        record = replace(make_record("c1"), raw=Raw(b"null", (b"null", b'{"n":1.0}')))
        (tmp_path / "a.jsonl").write_bytes(record_to_json(record))

        assert items(tmp_path / "a.jsonl")[0].raw == record.raw


class TestWrongInput:
    def refused(self, path):
        with pytest.raises(InputError) as caught:
            items(path)
        return str(caught.value).replace(str(path), "PATH")

    def test_nothing_there(self, tmp_path):
        assert self.refused(tmp_path / "no.db") == "there is no `PATH`; check the path"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.db", b"", "`PATH` is empty; it holds no conversations"),
            ("a.zip", b"PK\x03\x04" + b"\0" * 30,
             "`PATH` is a zip file, not an archive; use `muniment import a.zip` for an export"),
            ("a.md", b"---\ntitle: x\n---\n",
             "`a.md` is neither an archive.db nor JSON of ours; formats csv, txt and markdown cannot be read back"),
            ("a.json", b'[{"mapping": {}, "title": "x"}]',
             "`PATH` holds no conversation that muniment wrote; a vendor's export is imported with `muniment import`"),
            ("a.json", b"[\n\n]\n", "`PATH` holds no conversations"),
            ("a.jsonl", b'{"broken\n',
             "`PATH` holds no conversation that muniment wrote; a vendor's export is imported with `muniment import`"),
        ],
    )  # fmt: skip
    def test_files(self, tmp_path, name, content, message):
        """One sentence that names the file and says what to do."""
        (tmp_path / name).write_bytes(content)

        assert self.refused(tmp_path / name) == message

    def test_another_database(self, tmp_path):
        path = tmp_path / "other.db"
        sqlite3.connect(path).execute("CREATE TABLE x(y)").connection.close()

        assert self.refused(path) == "`PATH` is an SQLite database, but not a muniment archive"

    def test_folders(self, tmp_path, records):
        assert self.refused(tmp_path) == ("`PATH` is not an archive: it holds no .jsonl or .json files; check the path")
        store(Files(path=tmp_path / "pages", format="markdown"), records[:1])

        assert self.refused(tmp_path / "pages") == (
            "`PATH` holds format `markdown`, which cannot be read back; only jsonl and json can"
        )

    def test_a_manifest_cannot_name_a_file_outside(self, tmp_path, records):
        store(SINKS["parts"](tmp_path), records)
        manifest, _ = sorted((tmp_path / "parts/.muniment/manifests").glob("*.json"))
        value = json.loads(manifest.read_text())
        value["objects"][0]["name"] = "../secret.jsonl"
        manifest.write_text(json.dumps(value))

        assert self.refused(tmp_path / "parts") == (
            "`PATH`: a manifest names `../secret.jsonl`, which is outside the archive"
        )


class TestSource:
    def test_is_found_by_its_name(self):
        from muniment.plugins import load_registry

        assert load_registry().get("sources", "archive") is ArchiveSource

    def test_importing_it_is_cheap(self):
        """It loads its readers only when it is opened."""
        assert not [n for n in vars(archive) if n in ("PartsReader", "DatabaseReader")]
        assert Path(archive.__file__).name == "__init__.py"
