"""An encrypted archive: nothing of a conversation can be read in it, and it does what an archive does."""

import base64
import json
import os
import re
import shutil
import signal
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve, frozen
from click.testing import CliRunner

from muniment import Asset, Context, Counts, FatalError, Message, Rejected, TextPart
from muniment.cli import cli
from muniment.components import Reader
from muniment.crypto import Encryption, Key, Keyring, read_key_file
from muniment.engine.local import Local
from muniment.errors import ConfigError, DamagedError, WrongKeyError
from muniment.model import Origin
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.secrets import Secret
from muniment.testing import ListSource, make_record
from muniment.testing.kill import shared_killer
from muniment.testing.records import _ListReader, make_asset
from muniment.units import Idle
from muniment.verification import Inspection
from muniment_plugins.sinks.sqlite import SQLite
from muniment_plugins.sinks.sqlite.read import cover_of, open_asset, read_records
from muniment_plugins.sinks.sqlite.vault import rewrap_archive
from muniment_plugins.sources.archive.database import DatabaseReader

ROOT = Path(__file__).parents[4]
CANARY = "Zwölf-Boxkämpfer-jagen"
BYTES = f"%PDF {CANARY}".encode() + os.urandom(3_000_000)


class Quiet:
    def call_run_event(self, event):
        pass


@frozen(kw_only=True)
class Watched(ListSource):
    """A source that copies what stands in a folder between its records."""

    folder: str
    copies: str

    def open(self, ctx):
        return _WatchedReader(self)


class _WatchedReader(_ListReader, Reader):
    def read(self, partition, after):
        for number, chunk in enumerate(super().read(partition, after)):
            yield chunk
            shutil.copytree(self._source.folder, Path(self._source.copies) / str(number))


@frozen(kw_only=True)
class Killed(ListSource):
    """A source whose process is killed before its last record."""

    def open(self, ctx):
        return _KilledReader(self)


class _KilledReader(_ListReader, Reader):
    def read(self, partition, after):
        for number, chunk in enumerate(super().read(partition, after), 2):
            if number > len(self._source.records):
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk


def plan_for(sink, source, **more):
    path = SinkPath(step=Step("sqlite", "sinks[0]", sink), name="sqlite", **more)
    return Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,), engine=Local())


def secretive(name, text=CANARY, **fields):
    """Return a record that says the canary wherever it can."""
    asset = make_asset(BYTES, id=f"{text}-file", name=f"{text}.pdf", mime_type="application/pdf")
    gone = Asset(id=f"{text}-gone", missing=f"{text} is not there")
    values = {"title": text, "account": text, "model": text, "metadata": {text: text}, "assets": (asset, gone)}
    return make_record(f"{text}-{name}", (text, f"{text}!"), **{**values, **fields})


def forms(text):
    """Yield what a text would look like on the disk."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        data = text.encode(encoding)
        yield data
        yield data.hex().encode()
        yield data.hex().upper().encode()
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + data)
            # Without the ends, which depend on what stands beside.
            yield encoded[4:-4]
    yield json.dumps(text)[1:-1].encode()


def tell_tales(folder):
    """Return the files below a folder that hold a form of the canary."""
    needles = [*forms(CANARY), b"jagen", BYTES[1_000_000:1_000_040]]
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    return [(p.name, n) for p in files for n in needles if n in p.read_bytes()]


def execute(path, *statements):
    with sqlite3.connect(path) as connection:
        rows = [connection.execute(s).fetchall() for s in statements]
    connection.close()
    return rows[-1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def path(folder):
    return folder / "archive.db"


@pytest.fixture
def sink(path, encryption):
    return SQLite(path=str(path), encryption=encryption)


@pytest.fixture
def store(sink):
    def store(*records, on_plan_change="keep", source=ListSource, using=sink, max_unit_records=100, **options):
        options.setdefault("assets", {make_asset(BYTES).sha256: BYTES})
        made = source(records=records, **options)
        plan = plan_for(using, made, on_plan_change=on_plan_change, max_unit_records=max_unit_records)
        return run(plan, Quiet()).sinks["sqlite"]

    return store


@pytest.fixture
def stored(path, key):
    def stored():
        cover = cover_of(path, Keyring([key]))
        return {r.conversation.id: r for _, r in read_records(path, cover)}

    return stored


@pytest.fixture
def verified(sink):
    """Return what a verification finds, with the key and without it."""

    def verified():
        locked = evolve(sink, encryption=None)
        return [
            [f for f in s.verify(Context(run="", path="sinks[0]"), Inspection()) if f.is_problem]
            for s in (sink, locked)
        ]

    return verified


class TestSecrecy:
    def test_it_finds_the_canary_where_nothing_is_encrypted(self, folder, path, store):
        """The search below would find what it looks for."""
        store(secretive("a"), using=SQLite(path=str(path)))

        found = {needle for _, needle in tell_tales(folder)}
        assert {CANARY.encode(), b"jagen", BYTES[1_000_000:1_000_040]} <= found

    def test_nothing_can_be_read_after_runs(self, folder, store):
        """A load, a version, a top-up and a rejected record leave no text, no name, no key and no digest."""
        bad = Rejected(Origin("list", "list", 1, 2, make_asset(BYTES).sha256), "decode", "not JSON", f"test:{CANARY}")
        store(secretive("a"), secretive("b"), bad)
        store(secretive("a", updated_at=datetime(2027, 1, 1, tzinfo=UTC)), secretive("c"), bad)

        assert tell_tales(folder) == []
        data = (folder / "archive.db").read_bytes()
        for digest in (make_asset(BYTES).sha256, secretive("b").source_hash):
            assert digest.encode() not in data and bytes.fromhex(digest) not in data

    def test_nothing_can_be_read_while_it_is_loaded_and_topped_up(self, folder, store, tmp_path, monkeypatch):
        """Neither in the file that is being filled, nor in the log beside an archive, nor in a journal."""
        # More than SQLite's cache holds, so that it writes before the end.
        monkeypatch.setattr("muniment_plugins.sinks.sqlite.loading._CACHE_KIB", 64)
        monkeypatch.setattr("muniment_plugins.sinks.sqlite.archive.BURST_ENTRIES", 2)
        noise = [os.urandom(150_000).hex() for _ in range(8)]
        records = [make_record(f"{CANARY}{i}", (CANARY, n), title=CANARY) for i, n in enumerate(noise)]
        watch = {"source": Watched, "folder": str(folder), "max_unit_records": 2}
        store(*records, copies=str(tmp_path / "load"), **watch)
        newer = [make_record(r.conversation.id, (CANARY, "A talk", "more"), title=CANARY) for r in records]
        store(*newer, copies=str(tmp_path / "top-up"), **watch)

        names = {p.name for p in tmp_path.glob("load/*/*")} | {p.name for p in tmp_path.glob("top-up/*/*")}
        assert {".archive.db.loading", "archive.db", "archive.db-wal"} <= names
        assert max(p.stat().st_size for p in tmp_path.glob("load/*/.archive.db.loading")) > 500_000
        assert tell_tales(tmp_path) == []

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_killed_run_leaves_nothing_to_read_and_is_resumed(self, folder, sink, store, stored, verified, exists):
        """What a killed load or top-up left is ciphertext; the next run makes the archive whole."""
        records = [secretive(f"{i}") for i in range(6)]
        if exists:
            store(records[0])
        assets = {make_asset(BYTES).sha256: BYTES}
        source = Killed(records=tuple(records), assets=assets)
        death = shared_killer().run(plan_for(sink, source, max_unit_records=2), Killed, ListSource)

        assert death.signal_number == signal.SIGKILL
        assert tell_tales(folder) == []

        store(*records)
        assert {k: r.conversation for k, r in stored().items()} == {r.conversation.id: r.conversation for r in records}
        assert verified() == [[], []]

    def test_the_tables_that_would_tell_stay_empty(self, path, store):
        """Of a conversation there is a pseudonym, and how often and when muniment met it."""
        store(secretive("a"))

        for table in ("messages", "parts", "assets"):
            assert execute(path, f"SELECT count(*) FROM {table}") == [(0,)]
        assert execute(path, "SELECT name FROM sqlite_master WHERE name LIKE '%fts%'") == []
        columns = "source, account, title, created_at, updated_at, model, current, message_count, metadata"
        assert execute(path, f"SELECT {columns} FROM conversations") == [("", *(None,) * 6, 0, None)]


class TestAgain:
    def test_a_record_comes_back_identical(self, store, stored):
        """Conversation, raw JSON and hash, for ids and texts that break others."""
        records = [make_record("\ud83d", ("\0", "\ud800"), title="\ud800"), secretive("b"), make_record("none", ())]

        assert store(*records) == Counts(read=3, stored=3)
        assert {k: (r.conversation, r.raw, r.source_hash) for k, r in stored().items()} == {
            r.conversation.id: (r.conversation, r.raw, r.source_hash) for r in records
        }

    def test_twice_is_once(self, path, store):
        """The same records again change nothing."""
        store(secretive("a"), secretive("b"))
        before = execute(path, "SELECT * FROM records JOIN conversations ON no=conversation")

        assert store(secretive("a"), secretive("b")) == Counts(read=2, unchanged=2)
        assert execute(path, "SELECT * FROM records JOIN conversations ON no=conversation") == before

    def test_a_continued_conversation_is_merged_and_its_earlier_version_kept(self, path, store, stored, verified):
        """The new messages are there; the old state is kept as it was encrypted."""
        store(make_record("c1", ("one",)))
        [old] = execute(path, "SELECT record, head FROM records JOIN conversations ON no=conversation")
        longer = make_record("c1", ("one", "two"))

        assert store(longer) == Counts(read=1, stored=1)
        assert stored()["c1"].conversation == longer.conversation
        assert execute(path, "SELECT record, head FROM versions") == [old]
        assert verified() == [[], []]

    @pytest.mark.parametrize(
        ("on_plan_change", "title", "versions"),
        [("keep", "A talk", 0), ("rewrite", "[hidden]", 0), ("new_version", "[hidden]", 1)],
    )
    def test_a_change_of_plan(self, path, store, stored, verified, monkeypatch, on_plan_change, title, versions):
        """Kept, replaced without a trace, or replaced with the old one kept; the receipts agree."""
        store(make_record("c1"))
        monkeypatch.setattr(Plan, "hash_of", lambda self, sink: "another plan")

        store(make_record("c1").evolve(title="[hidden]"), on_plan_change=on_plan_change)

        assert stored()["c1"].conversation.title == title
        assert execute(path, "SELECT count(*) FROM versions") == [(versions,)]
        assert verified() == [[], []]

    def test_a_file_comes_back_and_stands_once(self, path, key, store):
        """Streamed, in chunks, whoever names it."""
        store(secretive("a"), secretive("b"))

        cover = cover_of(path, Keyring([key]))
        with open_asset(path, make_asset(BYTES).sha256, cover) as stream:
            assert stream.read() == BYTES
        assert execute(path, "SELECT count(*) FROM asset_chunks") == [(3,)]
        with pytest.raises(FileNotFoundError):
            open_asset(path, "0" * 64, cover)

    def test_a_file_that_changed_rejects_its_record(self, path, store, verified):
        """What is stored under a digest has that digest."""
        counts = store(secretive("a"), make_record("c2"), assets={make_asset(BYTES).sha256: b"other"})

        assert counts == Counts(read=2, stored=1, quarantined=1)
        assert execute(path, "SELECT count(*) FROM asset_chunks") == [(0,)]
        assert verified() == [[], []]

    def test_an_empty_file_and_one_of_a_whole_chunk(self, path, key, store, verified):
        """The last chunk is told from the others at every length."""
        for data in (b"", bytes(2**20), bytes(2**20 + 1)):
            asset = make_asset(data)
            store(make_record(f"c{len(data)}", assets=(asset,)), assets={asset.sha256: data})
            with open_asset(path, asset.sha256, cover_of(path, Keyring([key]))) as stream:
                assert stream.read() == data

        assert verified() == [[], []]


class TestRefusals:
    def test_another_key(self, path, store, other_key_file):
        """Exit code 12, and nothing is written."""
        store(make_record("c1"))
        before = path.read_bytes()

        with pytest.raises(WrongKeyError):
            store(make_record("c2"), using=SQLite(path=str(path), encryption=_for(other_key_file)))
        assert path.read_bytes() == before

    def test_no_key(self, path, store):
        """Whoever writes or reads without one is told what to give."""
        store(make_record("c1"))
        said = "^`.*archive.db` is encrypted; give its key: `--key PATH`, or `encryption` in a pipeline file$"

        with pytest.raises(ConfigError, match=said):
            store(make_record("c2"), using=SQLite(path=str(path)))
        with pytest.raises(ConfigError, match=said):
            list(read_records(path))
        with pytest.raises(ConfigError, match=said):
            open_asset(path, "0" * 64)
        with pytest.raises(ConfigError, match=said):
            SQLite(path=str(path)).open_known(Context(run=""))

    def test_an_archive_that_began_without_encryption(self, path, store):
        """It stays as it is: encrypted from its beginning, or never."""
        store(make_record("c1"), using=SQLite(path=str(path)))
        before = path.read_bytes()

        with pytest.raises(
            ConfigError, match="was made without encryption; an archive is encrypted from its beginning"
        ):
            store(make_record("c2"))
        assert path.read_bytes() == before

    @pytest.mark.parametrize("fts", ["words", "trigram"])
    def test_an_index(self, encryption, fts):
        """An index would hold every word."""
        [problem] = SQLite(path="a.db", encryption=encryption, fts=fts).check()

        assert problem.startswith(f"`fts: {fts}` does not go with `encryption`")
        assert list(SQLite(path="a.db", encryption=encryption, fts="none").check()) == []

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE records AS r SET record=(SELECT record FROM records WHERE conversation=3-r.conversation)",
            "UPDATE records SET conversation=-conversation; UPDATE records SET conversation=3+conversation",
            "UPDATE records SET record=zeroblob(90) WHERE conversation=1",
            "UPDATE conversations SET id=(SELECT id FROM conversations WHERE no=2)||'x' WHERE no=1",
        ],
    )
    def test_a_record_in_the_place_of_another(self, path, store, stored, damage):
        """Rows that were exchanged are not read as what they are not."""
        store(make_record("c1"), make_record("c2"))
        execute(path, *damage.split(";"))

        with pytest.raises(DamagedError):
            stored()

    @pytest.mark.parametrize(
        "damage",
        [
            "DELETE FROM asset_chunks WHERE position=2",
            "DELETE FROM asset_chunks WHERE position=0",
            "UPDATE asset_chunks SET position=3-position WHERE position>0",
            "UPDATE asset_chunks SET data=zeroblob(99) WHERE position=1",
        ],
    )
    def test_a_file_that_is_cut_off_or_mixed_up(self, path, key, store, damage):
        """No chunk is missing unseen, not even the last."""
        store(secretive("a"))
        execute(path, "DROP INDEX asset_chunks_key", damage)

        with (
            pytest.raises(DamagedError),
            open_asset(path, make_asset(BYTES).sha256, cover_of(path, Keyring([key]))) as stream,
        ):
            stream.read()

    def test_another_head(self, path, store):
        """What the archive knows of a conversation cannot be another one's either."""
        store(make_record("c1"), make_record("c2"))
        execute(path, "UPDATE conversations SET head=(SELECT head FROM conversations WHERE no=2) WHERE no=1")

        with pytest.raises(FatalError):
            store(make_record("c1", ("new",)))


class TestVerify:
    @pytest.fixture(autouse=True)
    def archive(self, store, stored):
        store(secretive("a"), make_record("c1", ("one",)), make_record("c2"))
        store(make_record("c1", ("one", "two")))

    def test_it_is_sound(self, verified):
        """With the key and without it."""
        assert verified() == [[], []]

    def test_it_counts_what_it_could_not_decode(self, sink):
        """Without the key every record is compared by its digest only."""
        inspections = []
        for encryption in (sink.encryption, None):
            inspections.append(Inspection())
            list(evolve(sink, encryption=encryption).verify(Context(run=""), inspections[-1]))

        assert [(i.records, i.undecoded) for i in inspections] == [(3, 0), (0, 3)]

    @pytest.mark.parametrize(
        ("damage", "kind"),
        [
            ("UPDATE records SET record=zeroblob(200) WHERE conversation=1", "changed"),
            ("UPDATE records SET record=(SELECT record FROM records WHERE conversation=1) WHERE conversation=2",
             "changed"),
            ("UPDATE records SET record=(SELECT record FROM versions) WHERE conversation=2", "changed"),
            ("UPDATE conversations SET head=(SELECT head FROM conversations WHERE no=1) WHERE no=2", "changed"),
            ("UPDATE conversations SET id=id||'0' WHERE no=1", "swapped"),
            ("UPDATE conversations SET title='x' WHERE no=1", "changed"),
            ("DELETE FROM records WHERE conversation=1", "missing"),
            ("DELETE FROM conversations WHERE no=1", "missing"),
            ("UPDATE versions SET head=zeroblob(9)", "changed"),
            ("DELETE FROM versions", "missing"),
            ("UPDATE asset_chunks SET data=zeroblob(9) WHERE position=0", "changed"),
            ("DELETE FROM asset_chunks WHERE position=2", "changed"),
            ("DELETE FROM asset_chunks", "missing"),
            ("INSERT INTO asset_chunks(sha256, position, data) VALUES('x', 0, x'00')", "extra"),
            ("UPDATE receipts SET stored_hash=zeroblob(32) WHERE conversation=0", "changed"),
            ("INSERT INTO parts(message, position, type, kind, text) VALUES(0, 0, 'text', '', 'x')", "extra"),
            ("DELETE FROM vault", "changed"),
        ],
    )  # fmt: skip
    def test_it_finds_what_was_changed(self, path, verified, damage, kind):
        """With the key and without it."""
        execute(path, damage)

        with_key, without = verified()
        assert kind in {f.kind for f in with_key}
        assert kind in {f.kind for f in without} or damage == "DELETE FROM vault"
        assert without

    def test_another_key_is_no_finding(self, sink, other_key_file):
        """It is an error of its own."""
        inspection = Inspection(keyring=Keyring([read_key_file(other_key_file)]))

        with pytest.raises(WrongKeyError):
            list(sink.verify(Context(run=""), inspection))


class TestRotation:
    def test_the_new_key_opens_it_and_the_old_one_no_longer(self, path, key, store, stored, verified, tmp_path):
        """One row changes; what is encrypted and the manifests stay."""
        store(secretive("a"))
        before = execute(path, "SELECT record, head, data FROM records, conversations, asset_chunks")
        [(header,)] = execute(path, "SELECT header FROM vault")
        new = Key.new()

        assert rewrap_archive(path, Keyring([key]), Keyring([new])) is True
        assert rewrap_archive(path, Keyring([key]), Keyring([new])) is False

        assert execute(path, "SELECT record, head, data FROM records, conversations, asset_chunks") == before
        assert [r.key for _, r in read_records(path, cover_of(path, Keyring([new])))] == [secretive("a").key]
        with pytest.raises(WrongKeyError):
            stored()
        inspection = Inspection(keyring=Keyring([new]))
        assert [f for f in SQLite(path=str(path)).verify(Context(run=""), inspection) if f.is_problem] == []
        slot = json.loads(header[12 : 12 + int.from_bytes(header[8:12], "big")])["slots"][0]["wrapped"]
        assert slot.encode() not in path.read_bytes()

    def test_commands(self, path, key_file, other_key_file, store):
        """`muniment key add` and `rotate` take an archive by its name; the exit codes are those of files."""
        store(secretive("a"))
        fresh = path.parent.parent / "fresh.key"
        fresh.touch(0o600)
        fresh.write_text(Key.new().text())

        assert muniment("key", "rotate", "--old", other_key_file, "--new", fresh, path).exit_code == 12
        assert "rewritten 1" in muniment("key", "add", "--key", key_file, "--recipient", other_key_file, path).stdout
        assert (
            "right already 1" in muniment("key", "add", "--key", key_file, "--recipient", other_key_file, path).stdout
        )
        assert "rewritten 1" in muniment("key", "rotate", "--old", key_file, "--new", fresh, path).stdout
        assert muniment("verify", path, "--key", fresh).exit_code == 0
        assert muniment("verify", path, "--key", key_file).exit_code == 12
        assert muniment("verify", path).exit_code == 0

    def test_what_a_command_cannot_do_it_says(self, path, key_file, store):
        """Encrypting anew, decrypting in place, and an archive that is not encrypted."""
        store(make_record("c1"))
        plain = path.with_name("plain.db")
        store(make_record("c1"), using=SQLite(path=str(plain)))

        anew = muniment("key", "rotate", "--re-encrypt", "--old", key_file, "--new", key_file, path)
        decrypted = muniment("decrypt", path, "--key", key_file, "--to", "x")
        assert (anew.exit_code, decrypted.exit_code) == (1, 1)
        assert "is an archive" in anew.stderr and "muniment export" in decrypted.stderr
        not_encrypted = muniment("key", "rotate", "--old", key_file, "--new", key_file, plain)
        assert "is not encrypted" in not_encrypted.stderr


class TestReaders:
    def test_search_says_that_there_is_no_index(self, path, key_file, store):
        """And how to search all the same."""
        store(make_record("c1", ("The Café", "no"), title="Roof"), make_record("c2", ("a roof leaks",)))

        without = muniment("search", "roof", "--archive", path)
        assert without.exit_code == 1
        assert "is encrypted, and so has no full-text index; add `--scan --key PATH`" in " ".join(
            without.stderr.split()
        )
        found = muniment("search", "--scan", "--key", key_file, "ROOF", "--archive", path, "--json")
        assert [(h["conversation_id"], h["message_id"]) for h in json.loads(found.stdout)] == [
            ("c1", "m0"),
            ("c2", "m0"),
        ]
        fewer = muniment("search", "--scan", "--key", key_file, "--archive", path, "--json", "--", "roof", "-cafe")
        assert [h["conversation_id"] for h in json.loads(fewer.stdout)] == ["c2"]

    def test_check_needs_the_key(self, path, key_file, store):
        """With it every record and file is compared."""
        store(secretive("a"))

        assert muniment("archive", "check", path).exit_code == 78
        assert muniment("archive", "check", path, "--key", key_file).exit_code == 0
        execute(path, "UPDATE asset_chunks SET data=zeroblob(9) WHERE position=0", "UPDATE records SET record=x'00'")
        found = muniment("archive", "check", path, "--key", key_file)
        assert found.exit_code == 1
        assert "has a damaged record" in found.stdout and "has other bytes than were stored" in found.stdout

    def test_vacuum_needs_none(self, path, store, verified):
        """Pages are copied as they are."""
        store(secretive("a"))

        assert muniment("archive", "vacuum", path).exit_code == 0
        assert verified() == [[], []]

    def test_the_archive_source_reads_it(self, path, key, store):
        """Records and files; what is damaged is rejected, the rest is read."""
        store(secretive("a"), make_record("c2"))
        execute(path, "UPDATE records SET record=zeroblob(99) WHERE conversation=2")

        with DatabaseReader(path, Keyring([key])) as reader:
            [partition] = reader.partitions()
            [chunk] = [c for c in reader.read(partition, None) if not isinstance(c, Idle)]
            assert len(chunk.data) == 1
            assert [r.origin.start for r in chunk.rejected] == [2]
            with reader.open_asset(make_asset(BYTES)) as stream:
                assert stream.read() == BYTES
        with pytest.raises(ConfigError):
            DatabaseReader(path)

    def test_the_ledger_is_read_without_a_key(self, path, store):
        """Runs and quarantine are there for whoever looks after the archive."""
        bad = Rejected(Origin("list", "list", 1, 2), "decode", "not JSON", "test:c9")
        store(make_record("c1"), bad)

        result = muniment("status", path, "--json")
        assert result.exit_code in (0, 3)
        [(record,)] = execute(path, "SELECT record FROM quarantine")
        assert len(record) == 64


class TestTopUp:
    def test_a_message_that_was_edited_wins(self, store, stored):
        """Merging needs what is stored, decrypted."""
        later = datetime(2027, 1, 1, tzinfo=UTC)
        edited = (Message(id="m0", role="user", parts=(TextPart("omega"),), updated_at=later),)
        store(make_record("c1", ("alpha",)))
        store(make_record("c1", messages=edited, updated_at=later))

        assert stored()["c1"].conversation.messages[0].parts == (TextPart("omega"),)


class TestDocumentation:
    def test_the_pipeline_of_the_how_to_works(self, folder, key_file, monkeypatch):
        """As it stands there, with an export; what it stored is exported again with the key."""
        page = (ROOT / "docs/how-to/sqlite.md").read_text().split("## Encrypt it")[1]
        [text] = re.findall(r"```yaml\n(.*?)```", page, re.S)
        (folder / "exports").mkdir()
        shutil.copy(ROOT / "core/muniment/sample/chatgpt-export.zip", folder / "exports")
        shutil.copy(key_file, folder / "archive.key")
        (folder / "pipeline.yaml").write_text(text)
        monkeypatch.chdir(folder)

        assert muniment("run", "pipeline.yaml", "--quiet").exit_code in (0, 3)
        assert muniment("verify", "archive.db", "--key", "archive.key").exit_code == 0
        assert muniment("verify", "pipeline.yaml").exit_code == 0
        assert muniment("export", "archive.db", "--to", "all.jsonl", "--quiet").exit_code == 78
        assert muniment("export", "archive.db", "--key", "archive.key", "--to", "all.jsonl", "--quiet").exit_code == 0
        lines = (folder / "all.jsonl").read_bytes().splitlines()
        assert [(len(lines),)] == execute("archive.db", "SELECT count(*) FROM conversations")


def _for(key_file):
    return Encryption(key=Secret(f"file:{key_file}"))


def muniment(*args):
    return CliRunner().invoke(cli, [str(a) for a in args], prog_name="muniment")
