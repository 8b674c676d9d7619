"""Manifests: canonical, chained, readable from every version."""

import hashlib
import json

import pytest

from muniment.manifest import Log, Manifest, parse, record_leaf
from muniment.merkle import leaf_hash, root_of
from muniment.model import Origin, Rejected
from muniment.proof import SignedHead, SigningKey
from muniment.units import Checkpoint, Counts, Unit

UNIT = Unit("r1", 1, Checkpoint("p", "f", [1, "x"], 2, records=3, plan_hash="h", run="r1"), Counts(3, 2, 0, 0, 1))
OBJECT = {
    "name": "part-1.jsonl",
    "size": 3,
    "sha256": "ab" * 32,
    "records": [["test:c1", "cd" * 32, None, "01234567", False]],
}
HOLD = {"kind": "hold", "actor": "a@b", "at": "2026", "reason": "case 7", "keys": ["test:c1"]}


def chain(count: int) -> tuple[Log, list[bytes]]:
    """Return a log of so many manifests, and their bytes."""
    log, entries = Log(), []
    for number in range(count):
        data = Manifest(unit=UNIT, run="r1", at=f"{number}", **log.chained()).to_json()
        log.append(data)
        entries.append(data)
    return log, entries


class TestManifest:
    def test_it_comes_back(self):
        """Every field, for a commit."""
        rejected = Rejected(Origin("label", "p", 1, 2, "digest"), "decode", "why", "test:c9")
        unit = Unit("r1", 1, UNIT.checkpoint, UNIT.counts, (rejected,), read_whole=True)
        manifest = Manifest(
            number=2, unit=unit, run="r1", at="2026", plan_hash="h", pipeline="p", sink="s", made_with={"a": [1]},
            mode="append", format="jsonl", format_options={"x": 1.5}, objects=(OBJECT,), assets=("a",), removed=("b",),
            missing_assets=("c",), records={"count": 0, "root": "00"}, previous="p", log="l", tree=("t",), signer="k",
        )  # fmt: skip

        assert Manifest.from_json(manifest.to_json()) == manifest

    def test_it_is_canonical_and_short(self):
        """One text for one manifest; what says nothing is left out."""
        data = Manifest(number=1, run="r1", report={"exit_code": 0}).to_json()

        assert data == b'{"number":1,"report":{"exit_code":0},"run":"r1","version":2}'

    def test_an_event_is_of_a_newer_version(self):
        """A reader that knows no events says that it is too old, and takes all others."""
        held = Manifest(number=1, event=HOLD)

        assert (held.version, Manifest(number=1).version) == (3, 2)
        assert Manifest.from_json(held.to_json()) == held

    def test_what_was_written_anew_keeps_its_origin(self):
        """The plan and the format are those of the first manifest; the state has its records already."""
        first = Manifest(number=1, run="r1", plan_hash="h", format="jsonl", objects=(OBJECT,))
        again = Manifest(number=2, run="r2", objects=({**OBJECT, "of": first.made_by(OBJECT).of()},))

        assert again.made_by(again.objects[0]) == first.made_by(OBJECT)
        assert (first.made_by(OBJECT).number, first.made_by(OBJECT).plan_hash) == (1, "h")
        assert list(again.stored()) == []

    @pytest.mark.parametrize("text", ["\ud83d", "json-text:x", 'chat:\udfff"', "plain"])
    def test_every_text_survives(self, text):
        """Also one with a lone surrogate, which canonical JSON does not have."""
        made = {**OBJECT, "records": [[text, "", None, "", True]]}
        manifest = Manifest(number=1, objects=(made,), format_options={text: text})

        data = manifest.to_json()
        assert data.decode("utf-8")
        assert Manifest.from_json(data) == manifest
        assert parse(data)["objects"][0]["records"][0][0] == text

    def test_it_gives_what_was_stored(self):
        """For the local state."""
        (stored,) = Manifest(number=1, run="r1", plan_hash="h", objects=(OBJECT,)).stored()

        assert (stored.key, stored.location, stored.messages, stored.run) == (
            "test:c1", "part-1.jsonl", frozenset({"01234567"}), "r1",
        )  # fmt: skip

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 4}, {"number": "1"}, {"objects": 7}, {"objects": [{"name": 1}]}, {"unit": {"run": "r"}},
            {"unknown": 1}, {"report": []}, {"objects": [{**OBJECT, "records": [["k"]]}]},
            {"event": {}}, {"event": {**HOLD, "kind": "other"}}, {"event": {**HOLD, "keys": [1]}},
            {"event": {**HOLD, "tombstones": [{"key": "test:c1"}]}}, {"objects": [{**OBJECT, "of": {"number": 1}}]},
        ],
    )  # fmt: skip
    def test_something_else_is_refused(self, change):
        """A newer version, another type, a field that is not known."""
        value = {**json.loads(Manifest(number=1).to_json()), **change}

        with pytest.raises((ValueError, KeyError, TypeError)):
            Manifest.from_json(json.dumps(value).encode())

    def test_the_first_version_can_be_read(self):
        """As it was written before there was a log."""
        unit = (
            '{"checkpoint":{"fingerprint":"f","finished":true,"partition":"p","plan_hash":"h","position":1,"records":1,'
            '"run":"r1","sequence":1},"counts":{"dropped":0,"quarantined":0,"read":1,"stored":1,"unchanged":0},"number":1,'
            '"quarantined":[],"read_whole":true,"run":"r1"}'
        )
        data = (
            f'{{"format":"jsonl","format_options":{{}},"missing_assets":[],"mode":"append","number":1,"objects":[],'
            f'"pipeline":"p","plan_hash":"h","previous":"","removed":[],"sink":"s","unit":{unit},"version":1}}'
        )

        manifest = Manifest.from_json(data.encode())
        assert (manifest.run, manifest.unit.counts, manifest.version) == ("r1", Counts(1, 1), 1)


class TestLog:
    def test_it_is_a_merkle_tree_over_the_bytes(self):
        """Its head is the root over the manifests, its name comes from the first."""
        log, entries = chain(5)

        assert log.head().root == root_of([leaf_hash(e) for e in entries])
        assert log.head().origin == f"muniment/log/{hashlib.sha256(entries[0]).hexdigest()[:32]}"

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
    def test_the_last_manifest_is_enough_to_go_on(self, count):
        """No other one must be read."""
        log, entries = chain(count)

        assert Log.behind(Manifest.from_json(entries[-1]), entries[-1]) == log

    def test_each_names_the_one_before(self):
        """By its digest."""
        _, entries = chain(3)

        assert Manifest.from_json(entries[2]).previous == hashlib.sha256(entries[1]).hexdigest()

    def test_its_note_is_signed(self):
        """By the key that is given."""
        log, _ = chain(2)
        key = SigningKey("name", b"\1" * 32)

        signed = SignedHead.parse(log.note(key))
        assert signed.head == log.head() and signed.is_signed_by(key.verifier)
        assert SignedHead.parse(log.note(None)).signatures == ()


class TestRecordLeaf:
    def test_it_is_of_the_key_and_the_hash(self):
        """As documented, and another one where a record is taken away."""
        assert record_leaf("test:é", "ab") == leaf_hash('["test:é","ab"]'.encode())
        assert record_leaf("test:é", "ab", gone=True) == leaf_hash('["test:é","ab","gone"]'.encode())
