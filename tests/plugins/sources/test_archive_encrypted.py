"""The source `archive` reads what an object sink has encrypted: folders, single files, assets."""

from datetime import timedelta
from pathlib import Path

import pytest

from muniment import Context
from muniment.crypto import Encryption, create_key_file
from muniment.errors import ConfigError, DamagedError, WrongKeyError
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.records import TIME, changed, make_asset
from muniment.testing.runs import archive
from muniment_plugins.sinks.files import Files
from muniment_plugins.sources.archive import ArchiveSource

DATA = b"the bytes of a file"
ASSET = make_asset(DATA, name="a.png", mime_type="image/png")


@pytest.fixture
def encryption(tmp_path):
    def encryption(name="archive"):
        path = tmp_path / f"{name}.key"
        if not path.exists():
            create_key_file(path)
        return Encryption(key=Secret(f"file:{path}"))

    return encryption


@pytest.fixture
def store(tmp_path, encryption):
    def store(place, *runs, **options):
        sink = Files(path=tmp_path / place, encryption=encryption(), **options)
        for records in runs:
            archive(sink, records, state_dir=tmp_path / "state", assets={ASSET.sha256: DATA})
        return tmp_path / place

    return store


def read(path, encryption=None):
    """Return the records that a source gives, by id, and the bytes of their assets."""
    source = ArchiveSource(path=str(path), encryption=encryption)
    with source.open(Context(run="r", path="source")) as reader:
        (partition,) = reader.partitions()
        records = [r for chunk in reader.read(partition, None) for r in source.decode(chunk)]
        found = {r.conversation.id: r for r in records}
        assert len(found) == len(records)
        assets = set()
        for asset in (a for r in records for a in r.conversation.assets):
            with reader.open_asset(asset) as stream:
                assets.add(stream.read())
        return found, assets


def versions():
    first = [make_record("a", assets=(ASSET,)), make_record("b"), make_record("c")]
    newer = changed(first[1], title="Later", updated_at=TIME + timedelta(days=9))
    return first, [newer, make_record("d")]


class TestEncryptedArchive:
    @pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"format": "json", "mode": "mirror"}], ids=str)
    def test_a_folder_comes_back_merged(self, store, encryption, options):
        """Versions are told by their pseudonyms, assets are decrypted."""
        path = store("chats", *versions(), **options)

        found, assets = read(path, encryption())

        assert sorted(found) == ["a", "b", "c", "d"]
        assert found["b"].conversation.title == "Later"
        assert assets == {DATA}

    def test_one_file_comes_back(self, store, encryption):
        path = store("all.jsonl.zst.enc", versions()[0])

        found, assets = read(path, encryption())

        assert sorted(found) == ["a", "b", "c"] and assets == {DATA}

    @pytest.mark.parametrize("place", ["chats", "all.jsonl.enc"])
    def test_without_its_key_nothing_is_read(self, store, encryption, place):
        path = store(place, versions()[0])

        with pytest.raises(ConfigError, match="is encrypted; give its key"):
            read(path)
        with pytest.raises(WrongKeyError):
            read(path, encryption("other"))

    def test_a_plain_file_in_the_place_of_an_encrypted_one_is_refused(self, store, encryption):
        """Nothing that was put there without a key passes for archived."""
        path = store("chats", versions()[0])
        for part in Path(path).glob("*.enc"):
            part.write_bytes(b'{"id":"evil","source":"test"}\n')

        with pytest.raises(DamagedError):
            read(path, encryption())

    def test_a_plain_archive_needs_no_key_and_takes_one(self, tmp_path, encryption):
        """So a pipeline can name a key whatever it reads."""
        archive(
            Files(path=tmp_path / "plain"), versions()[0], state_dir=tmp_path / "state", assets={ASSET.sha256: DATA}
        )

        assert sorted(read(tmp_path / "plain", encryption())[0]) == ["a", "b", "c"]
