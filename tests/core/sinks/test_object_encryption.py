"""What an object target with `encryption` shows to who has no key, and how it answers wrong ones."""

import os

import attrs
import pytest

from muniment.components import Context
from muniment.crypto import Encryption, Key, Keyring, Vault, is_encrypted
from muniment.crypto.folders import VAULT
from muniment.errors import ConfigError, FatalError, WrongKeyError
from muniment.model import Origin, Rejected
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.secrets import Secret
from muniment.sinks.cover import Encrypted
from muniment.testing import ListSource, make_record
from muniment.testing.memory_storage import MemoryObjects, MemoryPlace
from muniment.testing.records import changed, make_asset
from muniment.units import Batch
from muniment.verification import Inspection

TEXT = "a-text-that-nobody-may-read"
DATA = b"the bytes of a file that nobody may read"
MODES = [
    {"format": "jsonl", "mode": "append"},
    {"format": "jsonl", "mode": "mirror"},
    {"format": "jsonl", "mode": "snapshot"},
    {"format": "jsonl", "mode": "append", "latest": True},
    {"format": "markdown", "mode": "mirror"},
    {"format": "parquet", "key": "{table}/{source}/{year_month}/{part}.parquet.enc"},
]


class Registry:
    def call_run_event(self, event):
        pass


@pytest.fixture
def place():
    return MemoryPlace()


@pytest.fixture
def key_file(tmp_path):
    def make(name="archive.key"):
        path = tmp_path / name
        if not path.exists():
            path.touch(0o600)
            path.write_text(Key(os.urandom(32)).text())
        return path

    return make


@pytest.fixture
def make(place, tmp_path, key_file):
    def make(reader="archive.key", **options):
        encryption = Encryption(key=Secret(f"file:{key_file(reader)}")) if reader else None
        options = {"format": "jsonl", "mode": "append", **options}
        return MemoryObjects(place=place, state=tmp_path / "state", encryption=encryption, **options)

    return make


@pytest.fixture
def keyring(key_file):
    return Keyring([Key.parse(key_file().read_text())])


def archive(sink, *records, assets=None, units=2):
    source = ListSource(records=records, assets=assets or {})
    path = SinkPath(step=Step("memory", "sinks[0]", sink), name="sink", max_unit_records=units)
    return run(Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,)), Registry())


def context():
    return Context(run="reader", path="sinks[0]")


def read_back(sink):
    with sink.open_target(context()) as target:
        return {r.key: r for r in target.read_back()}


def verify(sink, **asked):
    inspection = Inspection(**asked)
    found = [(f.kind, f.where) for f in sink.verify(context(), inspection) if f.is_problem]
    return found, inspection


def secret_records():
    asset = make_asset(DATA, id="file-that-nobody-may-know", name="private.png", mime_type="image/png")
    lost = make_asset(b"lost", id="file-lost-private", name="lost.png", mime_type="image/png")
    records = [
        make_record(f"conversation-of-{i}", [TEXT, f"{TEXT} {i}"], title=f"Private talk {i}", account="somebody@home",
                    assets=(asset, lost) if i == 1 else ())
        for i in range(3)
    ]  # fmt: skip
    return records, asset, lost


def everything(place, tmp_path):
    """Return the bytes of all objects and of the state, with their names."""
    state = [p for p in (tmp_path / "state").rglob("*") if p.is_file()]
    return {**place.objects, **{str(p): p.read_bytes() for p in state}}


class TestEncryptedTarget:
    @pytest.mark.parametrize("options", MODES, ids=lambda o: "-".join(map(str, o.values())))
    def test_it_tells_nothing_to_who_has_no_key(self, make, place, tmp_path, options):
        """No text, title, id, account, name or plain digest is in any object, name of one, or state."""
        records, asset, lost = secret_records()
        bad = Rejected(Origin("list", "list", 1, 2, "ab" * 32), "decode", "it is no JSON", records[0].key + "-bad")
        newer = changed(
            records[0], title="Private later", updated_at=records[0].conversation.updated_at.replace(year=2027)
        )
        sink = make(**options)

        archive(sink, *records, bad, assets={asset.sha256: DATA})
        archive(sink, newer, *records[1:], assets={asset.sha256: DATA})

        told = [
            TEXT, "Private", "conversation-of", "somebody", "file-that", "private.png", asset.sha256, lost.sha256,
            "ab" * 32, DATA.decode(), *(r.source_hash for r in records),
        ]  # fmt: skip
        for name, data in everything(place, tmp_path).items():
            for value in told:
                assert value.encode() not in data, f"{value} stands in {name}"
                assert value not in name

    @pytest.mark.parametrize("options", [o for o in MODES if o["format"] == "jsonl"], ids=str)
    def test_it_gives_back_what_was_stored(self, make, options):
        """With the key, over two runs, versions merged and assets decrypted."""
        records, asset, _ = secret_records()
        newer = changed(records[0], title="Later", updated_at=records[0].conversation.updated_at.replace(year=2027))
        sink = make(**options)
        archive(sink, *records, assets={asset.sha256: DATA})

        report = archive(sink, newer, *records[1:], assets={asset.sha256: DATA})

        found = read_back(sink)
        assert {k: r.conversation.title for k, r in found.items()} == {
            newer.key: "Later", **{r.key: r.conversation.title for r in records[1:]},
        }  # fmt: skip
        if options["mode"] != "snapshot":
            assert (report.sinks["sink"].stored, report.sinks["sink"].unchanged) == (1, 2)
            with sink.open_target(context()) as target, target.open_asset(asset) as stream:
                assert stream.read() == DATA

    def test_its_workers_know_what_is_stored(self, make):
        """Without the look-up in a worker, everything would be encoded again."""
        record = make_record("c1")
        sink = make()
        archive(sink, record)

        with sink.open_known(context()) as known:
            found = known.find([record.key, "other"])
            assert set(found) == {record.key}
            assert found[record.key][0] == known.noted(record.source_hash) != record.source_hash

    def test_it_rejects_under_a_pseudonym(self, make):
        """An entry of the quarantine is found by the pseudonym of its key, made once."""
        asset = make_asset(DATA)
        record = make_record("c1", assets=(asset,))
        sink = make()
        archive(sink, record, assets={asset.sha256: b"other bytes"})

        with sink.open_target(context()) as target:
            (entry,) = target.quarantined()
            assert entry["record"] == target.noted(record.key)
            assert asset.id not in entry["reason"]

    def test_repair_finds_a_damaged_object_under_pseudonyms(self, make, place):
        """What a survey says is damaged can be compared with another archive's keys by `noted`."""
        records, *_ = secret_records()
        sink = make()
        archive(sink, *records)
        name = next(n for n in place.objects if n.startswith("part-"))
        place.objects[name] = place.objects[name][:-1]
        damaged = []

        with sink.open_target(context()) as target:
            sound = list(target.survey(damaged.append))
            assert {target.noted(r.key) for r in records} == {
                *damaged[0].keys, *(target.noted(r.key) for r in sound),
            }  # fmt: skip
            target.forget([records[0].key], [], damaged)

        assert archive(sink, *reversed(records)).sinks["sink"].stored == 1

    def test_equal_content_has_other_names_in_another_archive(self, make, place, tmp_path):
        """Pseudonyms are of one archive."""
        archive(make(mode="mirror"), make_record("c1"))
        first = {n for n in place.objects if n.endswith(".jsonl.enc")}
        place.objects.clear()
        (tmp_path / "state" / "state.db").unlink()

        archive(make(mode="mirror"), make_record("c1"))

        assert first.isdisjoint(place.objects)

    def test_a_mirror_keeps_earlier_versions_encrypted(self, make, place):
        """What cannot be merged is kept beside, under the pseudonym."""
        record = make_record("c1", ["one", "two"])
        other = changed(record, messages=record.conversation.messages[:1])
        newer = changed(other, updated_at=record.conversation.updated_at.replace(year=2027))
        sink = make(format="markdown", mode="mirror")
        archive(sink, record)

        archive(sink, newer)

        (kept,) = [n for n in place.objects if ".earlier-" in n]
        assert is_encrypted(place.objects[kept]) and kept.endswith(".md.enc")
        assert verify(sink)[0] == []


class TestKeys:
    def test_another_key_opens_nothing(self, make):
        """Not to write, not to read, not to verify: `WrongKeyError`, whose exit code is 12."""
        archive(make(), make_record("c1"))
        other = make(reader="other.key")

        for use in (lambda: archive(other, make_record("c2")), lambda: read_back(other), lambda: verify(other)):
            with pytest.raises(WrongKeyError):
                use()
        with pytest.raises(WrongKeyError):
            other.open(context())
        with pytest.raises(WrongKeyError):
            other.open_known(context())

    def test_an_object_of_another_key_is_no_damage(self, make, place):
        """Reading stops and says that the key is wrong."""
        sink = make()
        archive(sink, make_record("c1"))
        name = next(n for n in place.objects if n.startswith("part-"))
        stranger = Encrypted(ring := Keyring([Key(b"\1" * 32)]), Vault.new(ring))
        place.objects[name] = stranger.sealed(b"{}\n")

        with pytest.raises(WrongKeyError):
            read_back(sink)

    def test_without_encryption_an_encrypted_target_is_refused(self, make):
        archive(make(), make_record("c1"))

        with pytest.raises(ConfigError, match="give its key with `encryption`"):
            archive(make(reader=None), make_record("c2"))

    def test_with_encryption_a_plain_target_is_refused(self, make, place):
        """Half of it would stay readable."""
        archive(make(reader=None), make_record("c1"))
        before = dict(place.objects)

        with pytest.raises(ConfigError, match="begun without `encryption`"):
            archive(make(), make_record("c2"))
        assert place.objects == before

    def test_a_missing_vault_is_told(self, make, place):
        """It is never made anew, since its pseudonyms would be others."""
        sink = make()
        archive(sink, make_record("c1"))
        del place.objects[VAULT]

        with pytest.raises(FatalError, match="restore it from a copy"):
            archive(sink, make_record("c2"))
        assert ("missing", VAULT) in verify(sink)[0]

    def test_of_two_drivers_one_vault_wins(self, make, place, monkeypatch):
        """The other one reads it back."""
        sink, storage_of = make(), MemoryObjects.storage
        theirs = make()
        with theirs.open_target(context()):
            vault = place.objects.pop(VAULT)

        def storage(self):
            made = storage_of(self)
            publish = made.publish

            def racing(token, name, *, if_absent=False):
                if name == VAULT:
                    place.objects.setdefault(VAULT, vault)
                publish(token, name, if_absent=if_absent)

            made.publish = racing
            return made

        monkeypatch.setattr(MemoryObjects, "storage", storage)
        with sink.open_target(context()) as target:
            assert target.cover.vault == vault == place.objects[VAULT]

    def test_an_opened_cover_is_never_pickled(self, make, keyring):
        """Neither are sinks heavier for it: they name their keys."""
        import pickle

        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(Encrypted(keyring, Vault.new(keyring)))
        sink = make()
        pickle.dumps((sink, sink.encode(Batch("p", 1, (make_record("c1"),)))))

    def test_keys_are_no_part_of_what_a_pipeline_is(self, make):
        """Rotation makes no new version of anything."""
        sink = make()
        assert Step("memory", "sinks[0]", sink).identity() == Step("memory", "sinks[0]", make(reader=None)).identity()
        assert attrs.evolve(sink, encryption=None).layout.encrypted is False


class TestVerify:
    @pytest.mark.parametrize(
        "options", [o for o in MODES if o["mode" if "mode" in o else "key"] != "snapshot"], ids=str
    )
    def test_it_is_sound_with_and_without_the_key(self, make, options, keyring):
        """With the key all is decrypted and read; without it digests are compared, and what was not read is counted."""
        records, asset, _ = secret_records()
        sink = make(**options)
        archive(sink, *records, assets={asset.sha256: DATA})
        blind = make(reader=None, **options)

        found, inspection = verify(blind)
        assert found == [] and inspection.undecoded > 0 and inspection.records == 0
        for asked in ({"sink": sink}, {"sink": blind, "keyring": keyring}):
            found, inspection = verify(**asked)
            assert found == []
            assert inspection.records == (
                3 if options["format"] != "markdown" and "key" not in options else inspection.records
            )

    def test_it_names_every_kind_of_damage_without_the_key(self, make, place):
        """A part, the vault, a file: manifests have a digest of each."""
        records, asset, _ = secret_records()
        archive(make(), *records, assets={asset.sha256: DATA})
        blind, sound = make(reader=None), dict(place.objects)

        for name in [n for n in sound if is_encrypted(sound[n])]:
            for damage in (sound[name][:-1], sound[name][:40] + b"x" + sound[name][41:]):
                place.objects.update(sound, **{name: damage})
                assert ("changed", name) in verify(blind)[0], name
            place.objects = {k: v for k, v in sound.items() if k != name}
            assert ("missing", name) in verify(blind)[0]

    def test_an_asset_that_a_killed_run_has_left_is_named(self, make, place):
        """A copy that no manifest names gets into the next one that needs it."""
        records, asset, _ = secret_records()
        sink = make()
        archive(sink, records[0])
        with sink.open_target(context()) as target:
            name = "assets/" + target.cover.asset_name(asset)
            place.objects[name] = left = target.cover.sealed(DATA)

        archive(sink, *records, assets={asset.sha256: DATA})

        assert place.objects[name] == left
        assert verify(sink)[0] == []

    def test_a_wrong_file_under_a_true_name_is_found(self, make, place, keyring):
        """An insider's: encrypted with the right key, named by a manifest."""
        records, asset, _ = secret_records()
        sink = make()
        archive(sink, records[0])
        with sink.open_target(context()) as target:
            name = "assets/" + target.cover.asset_name(asset)
            place.objects[name] = target.cover.sealed(b"other")
        archive(sink, *records, assets={asset.sha256: DATA})

        assert ("changed", name) in verify(sink)[0]
        assert verify(make(reader=None))[0] == []


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"mode": "mirror", "key": "x/{title}-{id}.jsonl.enc"}, "must not hold `{title}`"),
            ({"key": "{account}/{part}.jsonl.enc"}, "must not hold `{account}`"),
            ({"key": "chats/{part}.jsonl"}, "must end in `.jsonl.enc`"),
            ({"key": "chats/{part}.jsonl.zst"}, "must end in `.jsonl.zst.enc`"),
        ],
    )
    def test_names_that_tell_are_refused(self, make, options, said):
        assert any(said in problem for problem in make(**options).check())

    def test_names_with_a_source_and_dates_are_taken(self, make, place):
        sink = make(key="chats/{source}/{year}/{part}.jsonl.zst.enc")

        assert list(sink.check()) == []
        archive(sink, make_record("c1"))
        assert [n for n in place.objects if n.startswith("chats/test/2026/part-") and n.endswith(".jsonl.zst.enc")]

    def test_nobody_to_read_it_is_refused(self, place, tmp_path):
        sink = MemoryObjects(place=place, state=tmp_path, encryption=Encryption(), format="jsonl", mode="append")

        assert any("nobody who could read" in p for p in sink.check())
