"""`verify`: what it says of sound archives, and of others."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from muniment.cli.group import CORE_COMMANDS

PIPELINE = """\
version: 1
source: {type: chatgpt_export, path: export.zip}
sinks:
  - {type: sqlite, path: archive.db, proof: {key: "${secret:file:sign.key}"}}
  - {type: files, path: ./chats, format: jsonl, proof: {key: "${secret:file:sign.key}"}}
"""


@pytest.fixture
def chats(muniment, export, folder):
    """Return a folder of parts that holds the three conversations."""
    assert muniment("import", export, "--to", "chats", "-q").exit_code == 0
    return folder / "chats"


@pytest.fixture
def signed(muniment, export, folder):
    """Return a pipeline that was run and signs, and its public key."""
    public = json.loads(muniment("key", "new", "sign.key", "--signing", "example.org", "--json").stdout)["public_key"]
    (folder / "pipeline.yaml").write_text(PIPELINE)
    result = muniment("run", "pipeline.yaml", "-q")
    assert result.exit_code == 0, result.output
    return public


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestSound:
    def test_an_archive(self, muniment, archive):
        result = muniment("verify", archive.name)

        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines() == [
            "sqlite: 3 objects and 3 records against 2 manifests: sound",
            "  not signed: who can write to the archive could have made all of it anew",
        ]

    def test_a_folder(self, muniment, chats):
        result = muniment("verify", "chats", "--json")
        report = json.loads(result.stdout)

        assert result.exit_code == 0, result.output
        assert (report["sound"], report["objects"], report["records"], report["manifests"]) == (True, 1, 3, 2)
        assert report["checkpoint"] == (chats / ".muniment/checkpoint").read_text()

    def test_every_sink_of_a_pipeline_and_who_signed(self, muniment, signed):
        result = muniment("verify", "pipeline.yaml", "--public-key", signed)

        assert result.exit_code == 0, result.output
        assert [line for line in result.stdout.splitlines() if "signed" in line] == [f"  signed by {signed}"] * 2

    def test_nothing_is_written(self, muniment, archive, chats, folder):
        before = files_of(folder)
        for target in (archive.name, "chats"):
            assert muniment("verify", target, "-q").exit_code == 0

        assert files_of(folder) == before

    def test_a_sample_says_so(self, muniment, archive):
        result = muniment("verify", archive.name, "--sample", "1")

        assert result.exit_code == 0, result.output
        assert "  a sample: 2 objects were not read" in result.stdout

    def test_a_mirror_for_reading_is_compared_by_digests(self, muniment, export):
        assert muniment("import", export, "--to", "pages", "--format", "markdown", "-q").exit_code == 0
        result = muniment("verify", "pages")

        assert result.exit_code == 0, result.output
        assert "3 objects were compared by their digest only" in result.stdout


class TestUnsound:
    def test_a_changed_part(self, muniment, chats):
        (part,) = chats.glob("part-*")
        part.write_bytes(part.read_bytes().replace(b"lentils", b"lentilS", 1))
        result = muniment("verify", "chats")

        assert result.exit_code == 1
        assert result.stdout.splitlines()[0] == f"changed {part.name}: its content is not what was stored"

    def test_a_missing_part_an_extra_one_and_their_manifest(self, muniment, chats):
        (part,) = chats.glob("part-*")
        part.rename(chats / "else.jsonl")
        (chats / ".muniment/manifests/00000001.json").unlink()
        report = json.loads(muniment("verify", "chats", "--json").stdout)

        assert [(f["kind"], f["where"]) for f in report["findings"]] == [
            ("missing", ".muniment/manifests/00000001.json"),
            ("extra", "else.jsonl"),
        ]

    def test_a_changed_record(self, muniment, archive):
        with closing(sqlite3.connect(archive)) as connection:
            connection.execute("UPDATE records SET record=x'00' WHERE conversation=2")
            connection.commit()
        result = muniment("verify", archive.name, "-q")

        assert result.exit_code == 1
        assert result.stdout == "changed record `chatgpt:c2`: its content is not what was stored\n"

    def test_swapped_records(self, muniment, archive):
        with closing(sqlite3.connect(archive)) as connection:
            (one, two) = (r[0] for r in connection.execute("SELECT record FROM records WHERE conversation<3"))
            connection.execute("UPDATE records SET record=? WHERE conversation=1", (two,))
            connection.execute("UPDATE records SET record=? WHERE conversation=2", (one,))
            connection.commit()
        result = muniment("verify", archive.name, "-q")

        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            "swapped record `chatgpt:c1`: it has the content of `chatgpt:c2`",
            "swapped record `chatgpt:c2`: it has the content of `chatgpt:c1`",
        ]

    def test_text_that_its_record_does_not_say(self, muniment, archive):
        with closing(sqlite3.connect(archive)) as connection:
            connection.execute("UPDATE parts SET text='forged' WHERE no=1")
            connection.commit()
        result = muniment("verify", archive.name, "-q")

        assert result.exit_code == 1
        assert result.stdout == "changed record `chatgpt:c1`: its rows in `parts` are not what its record says\n"

    def test_another_signer(self, muniment, signed, folder):
        other = json.loads(muniment("key", "new", "other.key", "--signing", "example.org", "--json").stdout)
        result = muniment("verify", "pipeline.yaml", "--sink", "files", "--public-key", other["public_key"], "-q")

        assert result.exit_code == 1
        assert result.stdout.startswith("unsigned .muniment/checkpoint: it has no valid signature of `example.org+")

    def test_a_signature_that_was_taken_off(self, muniment, signed, folder):
        path = folder / "chats/.muniment/checkpoint"
        path.write_text(path.read_text().split("\n\n")[0] + "\n\n")

        assert muniment("verify", "chats", "-q").exit_code == 1


class TestRollback:
    @pytest.mark.parametrize("target", ["archive.db", "chats"])
    def test_an_older_copy_is_found_with_a_kept_checkpoint(
        self, muniment, export, make_export, folder, target, a_conversation
    ):
        muniment("import", export, "--to", target, "-q")
        older = files_of(folder)
        muniment("import", make_export([a_conversation("c9", "New", "One", "Two")], "new.zip"), "--to", target, "-q")
        assert muniment("verify", target, "--save-checkpoint", "kept", "-q").exit_code == 0
        assert muniment("verify", target, "--since", "kept", "-q").exit_code == 0
        for path in sorted((folder / target).rglob("*"), reverse=True):
            if path.is_file():
                path.unlink()
        for name, data in older.items():
            (folder / name).write_bytes(data)

        assert muniment("verify", target, "-q").exit_code == 0
        result = muniment("verify", target, "--since", "kept", "-q")
        assert result.exit_code == 1
        assert "rolled back archive: it had 4 manifests when the checkpoint was kept, and has 2 now" in result.stdout

    def test_another_archive_is_told_from_the_one_that_was_meant(self, muniment, export, folder):
        muniment("import", export, "--to", "one.db", "-q")
        muniment("import", export, "--to", "two.db", "-q")
        muniment("verify", "one.db", "--save-checkpoint", "kept", "-q")
        result = muniment("verify", "two.db", "--since", "kept", "-q")

        assert result.exit_code == 1
        assert result.stdout.startswith("swapped archive: the checkpoint is of another archive")


class TestRefusals:
    def test_there_is_nothing(self, muniment, folder):
        result = muniment("verify", "none.db")

        assert result.exit_code == 1
        assert "there is no archive `none.db`" in result.stderr

    def test_a_folder_of_something_else(self, muniment, folder):
        (folder / "things").mkdir()
        (folder / "things/a.txt").write_text("x")
        result = muniment("verify", "things")

        assert result.exit_code == 1
        assert "it holds no manifests, so there is nothing to verify" in result.stderr

    def test_a_snapshot(self, muniment, export):
        muniment("import", export, "--to", "all.jsonl", "-q")
        result = muniment("verify", "all.jsonl")

        assert result.exit_code == 78
        assert "is one file, written whole, without manifests" in result.stderr

    @pytest.mark.parametrize("size", ["0", "x", "101%", "-1"])
    def test_a_sample_of_no_size(self, muniment, archive, size):
        assert muniment("verify", archive.name, f"--sample={size}").exit_code == 2

    def test_a_public_key_that_is_none(self, muniment, archive):
        result = muniment("verify", archive.name, "--public-key", "nobody")

        assert result.exit_code == 2
        assert "is neither a public key nor a file that holds one" in result.stderr


class TestRegistration:
    def test_plugins_cannot_take_its_name(self):
        from muniment.offers import CORE_COMMANDS as TAKEN

        assert "verify" in CORE_COMMANDS["Archive"] and "verify" in TAKEN
