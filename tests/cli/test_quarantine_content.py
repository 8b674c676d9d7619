"""What could not be archived is kept, encrypted, until every sink has it."""

import base64
import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

RULES = """
from pathlib import Path

def check(record):
    if Path("broken").exists() and "Soup" in (record.conversation.title or ""):
        raise ValueError("lentils")
    return record

def check_files(record):
    return check(record) if not Path("files_work").exists() else record
"""

PIPELINE = """
version: 1
source: {{type: chatgpt_export, path: {export}}}
{transforms}
sinks:
  - {{type: sqlite, path: archive.db, on_plan_change: keep}}
  - type: files
    path: chats
    on_plan_change: keep
    {files_transforms}
quarantine:
  encryption: {{key: "${{secret:file:quarantine.key}}"}}
"""
CHECK = "transforms: [{type: map, function: 'rules_of_quarantine:check'}]"
CHECK_FILES = "transforms: [{type: map, function: 'rules_of_quarantine:check_files'}]"

CANARY = "A soup with lentils?"


@pytest.fixture
def place(folder, muniment, monkeypatch):
    """Return a folder with a key, rules that refuse the soup while the file `broken` is there, and a pipeline."""
    (folder / "rules_of_quarantine.py").write_text(RULES)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "rules_of_quarantine", raising=False)
    (folder / "broken").touch()
    assert muniment("key", "new", "quarantine.key").exit_code == 0
    return folder


@pytest.fixture
def pipeline(place, export):
    """Return a function that writes the pipeline file."""

    def write(transforms=CHECK, files_transforms="", export=export.name):
        text = PIPELINE.format(export=export, transforms=transforms, files_transforms=files_transforms)
        (place / "pipeline.yaml").write_text(text)

    write()
    return write


@pytest.fixture
def refused(muniment, pipeline, place):
    """Return the folder after a run that could not archive the soup."""
    result = muniment("run", "pipeline.yaml", "-q")
    assert result.exit_code == 3, result.output
    return place


@pytest.fixture
def small_disk(place):
    """Return a file system of its own, of 64 KiB."""
    folder = place / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path):
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def entries(muniment):
    return json.loads(muniment("quarantine", "list", "pipeline.yaml", "--json").stdout)


def kept(place):
    folder = place / ".muniment" / "pipeline" / "quarantine"
    return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def retry(muniment, *more):
    result = muniment("quarantine", "retry", "pipeline.yaml", "--json", *more)
    return result.exit_code, json.loads(result.stdout)


def counts(report, sink):
    c = report["sinks"][sink]
    assert c["read"] == c["stored"] + c["unchanged"] + c["dropped"] + c["quarantined"]
    return c["read"], c["stored"], c["unchanged"], c["quarantined"]


def titles(muniment, target):
    result = muniment("export", target, "--to", "out.jsonl", "-q")
    assert result.exit_code == 0, result.output
    text = Path("out.jsonl").read_text()
    Path("out.jsonl").unlink()
    return sorted(json.loads(line)["title"] for line in text.splitlines())


ALL = ["Soup", "Tax return", "归档"]


class TestKeeping:
    def test_one_file_for_an_entry_of_two_sinks(self, muniment, refused):
        """It is named by the entry, and only its owner may read it."""
        found = entries(muniment)

        (file,) = kept(refused)
        assert [(e["sink"], e["owed"], e["content"]) for e in found] == [
            ("sqlite", ["sqlite", "files"], True),
            ("files", ["sqlite", "files"], True),
        ]
        assert {e["id"] for e in found} == {file.name.removesuffix(".enc")}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_the_content_is_what_the_input_holds(self, muniment, refused, export):
        """Verbatim: the bytes of the range that the entry names, with their digest."""
        import hashlib
        import zipfile

        entry = entries(muniment)[0]
        shown = muniment("quarantine", "show", "pipeline.yaml", entry["id"][:6], "--content", "--json")
        data = zipfile.ZipFile(export).read("conversations.json")[entry["start"] : entry["end"]]

        assert json.loads(shown.stdout)["text"] == data.decode()
        assert entry["digest"] == hashlib.sha256(data).hexdigest()

    def test_a_terminal_gets_no_escape_sequence(self, muniment, place, pipeline, make_export, a_conversation):
        make_export([a_conversation("c1", "Soup", "\x1b[2J evil \u202e")])
        muniment("run", "pipeline.yaml", "-q")
        path = place / "conversations.json"
        path.write_text('[{"conversation_id": "x", "title": "\x1b[2J\u202e", "mapping": !}, {"mapping": {}}]')
        pipeline(export=path.name)
        muniment("run", "pipeline.yaml", "-q")

        for entry in entries(muniment):
            shown = muniment("quarantine", "show", "pipeline.yaml", entry["id"], "--content").stdout
            assert "\x1b" not in shown
            assert "\u202e" not in shown

    def test_another_key_may_be_named(self, muniment, refused):
        """The wrong one opens nothing."""
        muniment("key", "new", "other.key")
        entry = entries(muniment)[0]["id"]
        show = ("quarantine", "show", "pipeline.yaml", entry, "--content", "--key")

        assert "lentils" in muniment(*show, "quarantine.key").stdout
        assert muniment(*show, "other.key").exit_code == 12

    def test_what_cannot_be_decoded_is_kept_as_it_is(self, muniment, place, pipeline, conversations):
        """Two `mapping` in one conversation: nobody knows which one is meant."""
        texts = [json.dumps(c) for c in conversations]
        texts[1] = texts[1].replace('"mapping":', '"mapping": {}, "mapping":')
        (place / "conversations.json").write_text("[" + ",\n".join(texts) + "]")
        pipeline(export="conversations.json")
        muniment("run", "pipeline.yaml", "-q")
        entry = entries(muniment)[0]

        shown = muniment("quarantine", "show", "pipeline.yaml", entry["id"], "--content")

        assert (entry["stage"], shown.stdout) == ("decode", texts[1] + "\n")

    def test_the_tools_for_encrypted_files_know_it(self, muniment, refused):
        """`decrypt` opens it without the pipeline file, and `key rotate` gives it another key."""
        (file,) = kept(refused)
        shown = muniment("quarantine", "show", "pipeline.yaml", entries(muniment)[0]["id"], "--content").stdout
        muniment("key", "new", "next.key")

        rotated = muniment("key", "rotate", "--old", "quarantine.key", "--new", "next.key", file.parent)
        muniment("decrypt", file, "--key", "next.key", "--to", "plain")

        head, _, data = (refused / "plain").read_bytes().partition(b"\n")
        assert rotated.exit_code == 0, rotated.output
        assert json.loads(head)["id"] == entries(muniment)[0]["id"]
        assert data.decode() + "\n" == shown

    def test_without_encryption_only_the_place_is_kept(self, muniment, place, pipeline):
        text = (place / "pipeline.yaml").read_text()
        (place / "pipeline.yaml").write_text(text[: text.index("quarantine:\n")])
        muniment("run", "pipeline.yaml", "-q")

        assert [e["content"] for e in entries(muniment)] == [False, False]
        assert kept(place) == []

    def test_nothing_is_plain_on_the_disk(self, muniment, refused):
        """Not in the state, the archive, the folder of files, or what a killed run would leave."""
        result = muniment("quarantine", "list", "pipeline.yaml")

        words = CANARY.encode()
        forms = [words, CANARY.encode("utf-16-le"), base64.b64encode(words)[:-4], words.hex().encode()]
        for file in refused.rglob("*"):
            if file.is_file() and file.name not in ("export.zip", "rules_of_quarantine.py"):
                assert not any(form in file.read_bytes() for form in forms), file
        assert "soup" not in result.output.lower()

    def test_in_worker_processes(self, muniment, pipeline, place):
        """Each opens its keys once, and nothing plain comes back."""
        result = muniment("run", "pipeline.yaml", "--workers", "2", "-q")

        assert result.exit_code == 3, result.output
        assert len(kept(place)) == 1
        assert all(e["content"] for e in entries(muniment))

    def test_a_folder_that_cannot_be_written_fails_the_run(self, muniment, pipeline, place):
        """Nothing passes: the next run finds everything to do."""
        folder = place / ".muniment" / "pipeline" / "quarantine"
        folder.parent.mkdir(parents=True)
        folder.touch()

        failed = muniment("run", "pipeline.yaml", "-q")
        folder.unlink()
        again = muniment("run", "pipeline.yaml", "--json")

        assert failed.exit_code == 1
        assert "what could not be archived cannot be kept either" in failed.stderr
        assert again.exit_code == 3
        assert counts(json.loads(again.stdout), "sqlite") == (3, 2, 0, 1)
        assert len(kept(place)) == 1

    def test_a_full_disk_fails_the_run(self, muniment, pipeline, place, small_disk):
        """It says so, and the next run finds everything to do."""
        text = (place / "pipeline.yaml").read_text()
        (place / "pipeline.yaml").write_text(text.replace("quarantine:\n", f"quarantine:\n  path: {small_disk}/kept\n"))
        fill(small_disk / "ballast")

        failed = muniment("run", "pipeline.yaml", "-q")
        (small_disk / "ballast").unlink()
        again = muniment("run", "pipeline.yaml", "--json")

        assert failed.exit_code == 1
        assert "the disk is full; free some space and run the same command again" in failed.stderr
        assert again.exit_code == 3
        assert counts(json.loads(again.stdout), "sqlite") == (3, 2, 0, 1)
        assert len(list((small_disk / "kept").glob("*.enc"))) == 1


class TestRetry:
    def test_without_the_input(self, muniment, refused, export):
        """The current plan is run on what was kept; then nothing is owed, and nothing is kept."""
        export.unlink()
        (refused / "broken").unlink()

        code, report = retry(muniment)

        assert code == 0
        assert (report["resolved"], report["left"]) == (2, 0)
        assert counts(report, "sqlite") == counts(report, "files") == (1, 1, 0, 0)
        assert entries(muniment) == []
        assert kept(refused) == []
        assert titles(muniment, "archive.db") == titles(muniment, "chats") == ALL

    def test_what_stands_beside_it_is_found_while_the_input_is_there(self, muniment, refused):
        """The account, for one, is in another file of the export."""
        (refused / "broken").unlink()
        retry(muniment)
        muniment("export", "archive.db", "--to", "out.jsonl", "-q")

        assert {json.loads(line).get("account") for line in Path("out.jsonl").read_text().splitlines()} == {"user-1"}

    def test_the_next_run_finds_nothing_to_do(self, muniment, refused):
        """How far the input was read stays known."""
        (refused / "broken").unlink()
        retry(muniment)

        report = json.loads(muniment("run", "pipeline.yaml", "--json").stdout)

        assert counts(report, "sqlite") == (3, 0, 3, 0)
        assert report["bytes_read"] == 0

    def test_the_archives_verify(self, muniment, refused):
        (refused / "broken").unlink()
        retry(muniment)

        assert muniment("verify", "pipeline.yaml").exit_code == 0

    def test_what_fails_again_stays(self, muniment, refused):
        """However often."""
        before = kept(refused)

        for _ in range(2):
            code, report = retry(muniment)

            assert (code, report["resolved"], report["left"]) == (3, 0, 2)
            assert counts(report, "sqlite") == (1, 0, 0, 1)
        assert kept(refused) == before
        assert len(entries(muniment)) == 2

    def test_twice(self, muniment, refused):
        """The second finds nothing."""
        (refused / "broken").unlink()
        retry(muniment)

        assert retry(muniment) == (0, {"quarantined": 0, "retried": 0})
        assert titles(muniment, "chats") == ALL

    def test_only_the_sinks_that_owe_it(self, muniment, pipeline, place):
        """What one sink has is not given to it again; the content stays until the other has it, too."""
        pipeline(transforms="", files_transforms=CHECK_FILES)
        assert muniment("run", "pipeline.yaml", "-q").exit_code == 3
        assert [e["owed"] for e in entries(muniment)] == [["files"]]
        first = retry(muniment)
        (place / "files_work").touch()

        code, report = retry(muniment)

        assert (first[0], code) == (3, 0)
        assert set(report["sinks"]) == {"files"}
        assert kept(place) == []
        assert titles(muniment, "archive.db") == titles(muniment, "chats") == ALL

    def test_two_sinks_of_which_one_still_fails(self, muniment, pipeline, place):
        """One is resolved, the other keeps its entry and the content."""
        pipeline(transforms="", files_transforms=CHECK_FILES)
        text = (place / "pipeline.yaml").read_text()
        both = text.replace("{type: sqlite, path: archive.db,", f"{{type: sqlite, path: archive.db, {CHECK},")
        (place / "pipeline.yaml").write_text(both)
        muniment("run", "pipeline.yaml", "-q")
        (place / "files_work").touch()

        code, report = retry(muniment)

        assert (code, report["resolved"], report["left"]) == (3, 1, 1)
        assert counts(report, "sqlite") == (1, 0, 0, 1)
        assert counts(report, "files") == (1, 1, 0, 0)
        assert [e["sink"] for e in entries(muniment)] == ["sqlite"]
        assert len(kept(place)) == 1

    def test_a_newer_version_supersedes_it(self, muniment, refused, make_export, conversations, a_conversation):
        """It is resolved though the rules still refuse the old one, and named."""
        newer = a_conversation("c2", "Stew", "A soup with lentils?", "Take lentils.", "More?", time=1767400000.0)
        make_export([conversations[0], newer, conversations[2]])
        muniment("run", "pipeline.yaml", "-q")
        entry = entries(muniment)[0]["id"]

        code, report = retry(muniment)

        assert code == 0
        assert report["superseded"] == {"sqlite": [entry], "files": [entry]}
        assert counts(report, "sqlite") == counts(report, "files") == (1, 0, 1, 0)
        assert entries(muniment) == kept(refused) == []
        assert titles(muniment, "archive.db") == ["Stew", "Tax return", "归档"]

    def test_people_are_told_what_was_superseded(self, muniment, refused, make_export, conversations, a_conversation):
        newer = a_conversation("c2", "Stew", "A soup with lentils?", "Take lentils.", "More?", time=1767400000.0)
        make_export([conversations[0], newer, conversations[2]])
        muniment("run", "pipeline.yaml", "-q")
        entry = entries(muniment)[0]["id"]

        lines = muniment("quarantine", "retry", "pipeline.yaml").stdout.splitlines()

        said = f"  superseded 1: 1 quarantined record is stored in a newer version ({entry})"
        assert lines.count(said) == 2
        assert lines[-1] == "resolved 2, still quarantined 0"

    def test_an_older_version_supersedes_nothing(self, muniment, refused, make_export, conversations, a_conversation):
        older = a_conversation("c2", "Stew", "A soup with lentils?", time=1700000000.0)
        make_export([conversations[0], older, conversations[2]])
        muniment("run", "pipeline.yaml", "-q")

        code, report = retry(muniment)

        assert (code, report["left"], report["superseded"]) == (3, 2, {})

    def test_a_normal_run_that_resolves_deletes_too(self, muniment, refused):
        """It reads the input again, for an entry of it is open."""
        (refused / "broken").unlink()

        assert muniment("run", "pipeline.yaml", "-q").exit_code == 0
        assert kept(refused) == []

    def test_what_nothing_was_kept_of_needs_the_input(self, muniment, pipeline, place, export):
        """A pipeline that began to keep content later: as without."""
        text = (place / "pipeline.yaml").read_text()
        (place / "pipeline.yaml").write_text(text[: text.index("quarantine:\n")])
        muniment("run", "pipeline.yaml", "-q")
        (place / "pipeline.yaml").write_text(text)
        (place / "broken").unlink()

        code, report = retry(muniment)

        assert (code, report["left"]) == (0, 0)
        assert titles(muniment, "chats") == ALL

    @pytest.fixture
    def mixed(self, muniment, pipeline, place, conversations):
        """Return an export of which one conversation is refused by the rules, and one is no JSON."""
        texts = [json.dumps(c) for c in conversations]
        texts[0] = texts[0].replace('"parts": ["How do I file my tax return?"]', '"parts": [!]')
        (place / "conversations.json").write_text("[" + ",\n".join(texts) + "]")
        pipeline(export="conversations.json")
        assert muniment("run", "pipeline.yaml", "-q").exit_code == 3
        assert sorted((e["stage"], e["content"]) for e in entries(muniment)) == [
            ("read", False), ("read", False), ("transform", True), ("transform", True),
        ]  # fmt: skip
        (place / "broken").unlink()
        return place / "conversations.json"

    def test_some_was_kept_and_the_input_is_gone(self, muniment, mixed):
        """What was kept is stored; the rest stays open, and it is said why."""
        mixed.unlink()

        result = muniment("quarantine", "retry", "pipeline.yaml", "--json")
        report = json.loads(result.stdout)

        assert (result.exit_code, report["resolved"], report["left"]) == (3, 2, 2)
        assert result.stderr.startswith("note: of some entries no content was kept, and their input cannot be read: ")
        assert counts(report, "sqlite") == counts(report, "files") == (2, 1, 0, 1)
        assert {e["stage"] for e in entries(muniment)} == {"read"}
        assert titles(muniment, "archive.db") == titles(muniment, "chats") == ["Soup", "归档"]

    def test_some_was_kept_and_the_input_is_there(self, muniment, mixed):
        """It is read again for the rest."""
        code, report = retry(muniment)

        assert (code, report["resolved"], report["left"]) == (3, 2, 2)
        assert {e["stage"] for e in entries(muniment)} == {"read"}
        assert titles(muniment, "archive.db") == titles(muniment, "chats") == ["Soup", "归档"]

    @pytest.mark.parametrize("keeps", [True, False])
    def test_a_snapshot_stays_as_it_is(self, muniment, pipeline, place, keeps):
        """It holds no entries: nothing is owed to it, and it is no sink of a retry."""
        snapshot = "  - {type: files, name: whole, path: whole.jsonl, mode: snapshot, on_plan_change: keep}\n"
        text = (place / "pipeline.yaml").read_text().replace("quarantine:\n", f"{snapshot}quarantine:\n")
        (place / "pipeline.yaml").write_text(text if keeps else text[: text.index("quarantine:\n")])
        muniment("run", "pipeline.yaml", "-q")
        before = (place / "whole.jsonl").read_bytes()
        (place / "broken").unlink()

        code, report = retry(muniment)

        assert (code, set(report["sinks"])) == (0, {"sqlite", "files"})
        assert before.count(b"\n") == 2
        assert (place / "whole.jsonl").read_bytes() == before

    def test_damaged_content_is_told_and_the_input_read(self, muniment, refused):
        """Nothing of it is trusted."""
        (file,) = kept(refused)
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
        (refused / "broken").unlink()

        code, report = retry(muniment)

        assert code == 0
        assert report["findings"] == {"damaged_quarantine_content": 1}
        assert titles(muniment, "chats") == ALL

    def test_another_key_opens_nothing(self, muniment, refused):
        (refused / "quarantine.key").unlink()
        muniment("key", "new", "quarantine.key")

        assert muniment("quarantine", "retry", "pipeline.yaml").exit_code == 12
        assert len(entries(muniment)) == 2


class TestEncryptedSinks:
    """Nothing of a conversation is plain anywhere, in whatever form."""

    @pytest.fixture
    def encrypted(self, muniment, pipeline, place):
        muniment("key", "new", "archive.key")
        text = (place / "pipeline.yaml").read_text()
        secret = "encryption: {key: '${secret:file:archive.key}'}"
        text = text.replace("path: archive.db,", f"path: archive.db, {secret},")
        (place / "pipeline.yaml").write_text(text.replace("path: chats\n", f"path: chats\n    {secret}\n"))
        result = muniment("run", "pipeline.yaml", "-q")
        assert result.exit_code == 3, result.output
        return place

    def test_after_a_run_and_a_retry(self, muniment, encrypted, export):
        """The sinks are encrypted, too."""
        self.check(encrypted)
        export.unlink()
        (encrypted / "broken").unlink()

        code, report = retry(muniment)

        assert code == 0
        assert counts(report, "sqlite") == counts(report, "files") == (1, 1, 0, 0)
        assert kept(encrypted) == entries(muniment) == []
        assert muniment("verify", "pipeline.yaml").exit_code == 0
        self.check(encrypted)

    def test_superseded(self, muniment, encrypted, make_export, conversations, a_conversation):
        """Pseudonyms are compared with pseudonyms."""
        newer = a_conversation("c2", "Stew", "A soup with lentils?", "Take lentils.", "More?", time=1767400000.0)
        make_export([conversations[0], newer, conversations[2]])
        muniment("run", "pipeline.yaml", "-q")

        code, report = retry(muniment)

        assert code == 0
        assert {sink: len(ids) for sink, ids in report["superseded"].items()} == {"sqlite": 1, "files": 1}

    def check(self, place):
        for text in (CANARY, "red lentils"):
            words = text.encode()
            forms = [words, text.encode("utf-16-le"), base64.b64encode(words)[:-4], words.hex().encode()]
            for file in place.rglob("*"):
                if file.is_file() and file.name not in ("export.zip", "rules_of_quarantine.py"):
                    assert not any(form in file.read_bytes() for form in forms), file


class TestOrphans:
    def test_gc_removes_content_that_no_entry_needs(self, muniment, refused):
        """Such as a run left that was killed between commit and deletion."""
        (file,) = kept(refused)
        orphan = file.with_name("0123456789abcdef.enc")
        orphan.write_bytes(file.read_bytes())

        dry = muniment("gc", "pipeline.yaml", "--dry-run")
        result = muniment("gc", "pipeline.yaml", "--json")

        assert "  0123456789abcdef.enc" in dry.stdout.splitlines()
        assert json.loads(result.stdout)[-1]["removed"] == [{"where": orphan.name, "size": 0}]
        assert kept(refused) == [file]

    def test_so_does_a_retry(self, muniment, refused):
        (file,) = kept(refused)
        file.with_name("0123456789abcdef.enc").write_bytes(file.read_bytes())

        retry(muniment)

        assert kept(refused) == [file]

    def test_what_another_pipeline_keeps_there_stays(self, muniment, refused):
        """Two may share a folder."""
        (file,) = kept(refused)
        text = (refused / "pipeline.yaml").read_text()
        other = text.replace("archive.db", "other.db").replace("chats", "others")
        shared = other.replace("quarantine:\n", "quarantine:\n  path: .muniment/pipeline/quarantine\n")
        (refused / "other.yaml").write_text(shared)
        (refused / "broken").unlink()
        muniment("run", "other.yaml", "-q")

        assert muniment("gc", "other.yaml").exit_code == 0
        assert kept(refused) == [file]
