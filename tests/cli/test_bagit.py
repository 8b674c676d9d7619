"""`export --bagit`: a hand-over that other programs can check."""

import hashlib
import json
import re

import pytest


@pytest.fixture
def bag(muniment, archive, folder):
    result = muniment("export", archive.name, "--bagit", "--to", "bag")
    assert result.exit_code == 0, result.output
    return folder / "bag"


def listed(path):
    """Return what a manifest of a bag says: digest by name."""
    lines = (line.split("  ", 1) for line in path.read_text().splitlines())
    return {name: digest for digest, name in lines}


class TestBag:
    def test_every_file_of_the_payload_is_listed_with_its_digest(self, bag):
        """As RFC 8493 demands, no file more and none less."""
        found = {
            p.relative_to(bag).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in bag.rglob("*")
            if p.is_file()
        }
        payload = {name: digest for name, digest in found.items() if name.startswith("data/")}

        assert (bag / "bagit.txt").read_bytes() == b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
        assert listed(bag / "manifest-sha256.txt") == payload
        assert listed(bag / "tagmanifest-sha256.txt") == {
            name: found[name] for name in ("bag-info.txt", "bagit.txt", "manifest-sha256.txt")
        }

    def test_it_says_what_it_is(self, bag):
        """Size and number of the payload's files, date, program."""
        info = dict(line.split(": ", 1) for line in (bag / "bag-info.txt").read_text().splitlines())
        files = [p for p in (bag / "data").rglob("*") if p.is_file()]

        assert info["Payload-Oxum"] == f"{sum(p.stat().st_size for p in files)}.{len(files)}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", info["Bagging-Date"])
        assert info["Bag-Software-Agent"].startswith("muniment ")

    def test_its_records_are_an_archive_that_is_sound(self, muniment, bag):
        """JSON Lines with manifests of their own, and no cache of ours."""
        report = json.loads(muniment("verify", "bag/data/archive", "--json").stdout)

        assert (report["sound"], report["records"]) == (True, 3)
        assert not list(bag.rglob("state.db*"))

    def test_the_proof_of_the_archive_goes_with_it(self, muniment, archive, bag):
        """Its manifests, receipts and checkpoint as they are."""
        checkpoint = json.loads(muniment("verify", archive.name, "--json").stdout)["checkpoint"]

        assert (bag / "data/proof/checkpoint").read_text() == checkpoint
        assert sorted(p.name for p in (bag / "data/proof/manifests").iterdir()) == ["00000001.json", "00000002.json"]
        assert len((bag / "data/proof/receipts.jsonl").read_text().splitlines()) == 3

    def test_a_folder_that_is_not_empty_is_refused(self, muniment, archive, bag):
        result = muniment("export", archive.name, "--bagit", "--to", "bag")

        assert result.exit_code == 1
        assert "`bag` is not empty; name a new folder for the bag" in result.stderr

    def test_it_has_one_format(self, muniment, archive):
        result = muniment("export", archive.name, "--bagit", "--to", "bag", "--format", "csv")

        assert result.exit_code == 2
