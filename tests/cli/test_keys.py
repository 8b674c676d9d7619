"""`key` and `decrypt`, as they are typed."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest

from muniment.crypto import Cost, Key, Keyring, Passphrase, decrypt_bytes, encrypt_bytes, read_key_file
from muniment.lock import TargetLock

WRONG_KEY = "error: no key that was given opens this; it was encrypted for other keys, or its header was changed\n"
TEXT = b"Where is the receipt for the roof?\n" * 1000
PHRASE = "correct horse battery"


@pytest.fixture
def keys(folder):
    """Return two keys, in `a.key` and `b.key`."""
    made = {}
    for name in ("a", "b"):
        made[name] = Key.new()
        (folder / f"{name}.key").write_text(made[name].text() + "\n")
        (folder / f"{name}.key").chmod(0o600)
    return made


@pytest.fixture
def encrypted(folder, keys):
    """Return a file that `a.key` opens."""
    path = folder / "chats.jsonl.enc"
    path.write_bytes(encrypt_bytes(TEXT, Keyring([keys["a"]]), content_type="application/x-ndjson"))
    return path


@pytest.fixture
def archive_folder(folder, keys):
    """Return a folder of three encrypted files and a plain one."""
    place = folder / "chats"
    (place / "deep").mkdir(parents=True)
    for name in ("1.enc", "2.enc", "deep/3.enc"):
        (place / name).write_bytes(encrypt_bytes(TEXT, Keyring([keys["a"]])))
    (place / "README.txt").write_text("plain")
    return place


def opens(path, *holders) -> bool:
    try:
        return decrypt_bytes(path.read_bytes(), Keyring(holders)) == TEXT
    except Exception as error:
        assert type(error).__name__ == "WrongKeyError"
        return False


class TestKeyNew:
    def test_makes_a_private_file_and_names_the_key(self, muniment, folder):
        result = muniment("key", "new", "archive.key")
        made = read_key_file(folder / "archive.key")

        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"made key {made.id} in archive.key; keep a copy of this file in another place\n"
        assert stat.S_IMODE((folder / "archive.key").stat().st_mode) == 0o600
        assert made.text() not in result.stdout

    def test_as_json(self, muniment, folder):
        result = muniment("key", "new", "archive.key", "--json")

        assert json.loads(result.stdout) == {"path": "archive.key", "key": read_key_file(folder / "archive.key").id}

    def test_refuses_to_overwrite(self, muniment, keys, folder):
        result = muniment("key", "new", "a.key")

        assert (result.exit_code, result.stderr) == (
            1,
            "error: there is a file `a.key` already; a key is never written over another\n",
        )
        assert read_key_file(folder / "a.key").id == keys["a"].id


class TestDecrypt:
    def test_writes_beside_without_the_ending(self, muniment, encrypted, folder):
        result = muniment("decrypt", encrypted.name, "--key", "a.key")

        assert (result.exit_code, result.stdout) == (0, "decrypted 35,000 bytes to chats.jsonl\n")
        assert (folder / "chats.jsonl").read_bytes() == TEXT

    def test_writes_where_it_is_told(self, muniment, encrypted, folder):
        result = muniment("decrypt", encrypted.name, "--key", "a.key", "--to", "out.jsonl", "--json")

        assert json.loads(result.stdout) == {
            "file": "chats.jsonl.enc",
            "to": "out.jsonl",
            "bytes": 35_000,
            "type": "application/x-ndjson",
            "whole": True,
        }
        assert (folder / "out.jsonl").read_bytes() == TEXT

    def test_writes_to_a_pipe(self, muniment, encrypted):
        result = muniment("decrypt", encrypted.name, "--key", "a.key", "--to", "-")

        assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, TEXT, "")

    def test_a_wrong_key_exits_12_with_one_sentence(self, muniment, encrypted, folder):
        """The same one, whatever the cause."""
        one = muniment("decrypt", encrypted.name, "--key", "b.key")
        data = bytearray(encrypted.read_bytes())
        data[data.index(b'"wrapped":"') + 40] ^= 1
        encrypted.write_bytes(data)
        other = muniment("decrypt", encrypted.name, "--key", "a.key")

        assert (one.exit_code, one.stdout, one.stderr) == (12, "", WRONG_KEY)
        assert other.exit_code in (1, 12)
        assert not (folder / "chats.jsonl").exists()

    def test_a_changed_slot_is_a_wrong_key(self, muniment, encrypted):
        data = encrypted.read_bytes()
        place = data.index(b'"wrapped":"') + 40
        encrypted.write_bytes(data[:place] + (b"A" if data[place : place + 1] != b"A" else b"B") + data[place + 1 :])

        result = muniment("decrypt", encrypted.name, "--key", "a.key")

        assert (result.exit_code, result.stderr) == (12, WRONG_KEY)

    def test_takes_any_key_that_fits(self, muniment, encrypted):
        assert muniment("decrypt", encrypted.name, "--key", "b.key", "--key", "a.key", "-q").exit_code == 0

    def test_takes_the_key_of_the_environment(self, muniment, encrypted, monkeypatch):
        monkeypatch.setenv("MUNIMENT_KEY_FILE", "a.key")

        assert muniment("decrypt", encrypted.name).exit_code == 0

    def test_asks_for_a_passphrase(self, muniment, folder):
        (folder / "x.enc").write_bytes(encrypt_bytes(TEXT, Keyring([Passphrase(PHRASE, Cost(19456, 2, 1))])))

        right = muniment("decrypt", "x.enc", "--passphrase", "ask", input=f"{PHRASE}\n")
        wrong = muniment("decrypt", "x.enc", "--passphrase", "ask", "--to", "y", input="battery horse\n")

        assert (right.exit_code, right.stdout) == (0, "decrypted 35,000 bytes to x\n")
        assert (wrong.exit_code, PHRASE in right.output) == (12, False)

    def test_a_passphrase_is_never_an_argument(self, muniment, encrypted):
        """It would stand in the list of processes; the refusal does not repeat it."""
        result = muniment("decrypt", encrypted.name, "--passphrase", PHRASE)

        assert result.exit_code == 2
        assert "write `ask`, `env:NAME` or `file:PATH`, never the passphrase itself" in result.stderr
        assert PHRASE not in result.output

    def test_says_that_a_key_is_missing(self, muniment, encrypted):
        result = muniment("decrypt", encrypted.name)

        assert result.exit_code == 2
        assert result.stderr.startswith("error: a key is missing; give `--key PATH` or `--passphrase ask`\n")

    def test_asks_where_to_when_the_name_does_not_say(self, muniment, encrypted):
        encrypted.rename("chats.bin")

        result = muniment("decrypt", "chats.bin", "--key", "a.key")

        assert result.exit_code == 2
        assert result.stderr.startswith("error: say where to write with --to: the name does not end in `.enc`\n")

    def test_of_a_damaged_file_writes_nothing(self, muniment, encrypted, folder):
        encrypted.write_bytes(encrypted.read_bytes()[:-1])

        result = muniment("decrypt", encrypted.name, "--key", "a.key")

        assert (result.exit_code, result.stderr) == (
            1,
            "error: the encrypted data is damaged at byte 32768 of what it holds\n",
        )
        assert sorted(os.listdir(folder)) == ["a.key", "b.key", "chats.jsonl.enc"]

    def test_of_a_damaged_file_recovers_the_beginning_on_request(self, muniment, encrypted, folder):
        encrypted.write_bytes(encrypted.read_bytes()[:-1])

        result = muniment("decrypt", encrypted.name, "--key", "a.key", "--allow-partial-recovery")

        assert (result.exit_code, result.stdout, result.stderr) == (
            3,
            "recovered 32,768 bytes to chats.jsonl.partial; the rest is lost\n",
            "chats.jsonl.enc is damaged: only its beginning could be verified\n",
        )
        assert (folder / "chats.jsonl.partial").read_bytes() == TEXT[:32_768]

    def test_says_what_is_not_encrypted(self, muniment, keys, folder):
        (folder / "plain.enc").write_text("plain")

        result = muniment("decrypt", "plain.enc", "--key", "a.key")

        assert (result.exit_code, result.stderr) == (1, "error: this is not encrypted by muniment\n")

    def test_a_key_service_is_named_with_its_key(self, muniment, encrypted):
        wrong = muniment("decrypt", encrypted.name, "--service", "kms")
        missing = muniment("decrypt", encrypted.name, "--service", "nowhere:archive")

        assert (wrong.exit_code, missing.exit_code) == (2, 78)
        assert "write `SERVICE:KEY`, not `kms`" in wrong.stderr
        assert missing.stderr == "error: no key service `nowhere` is installed; install the plugin that brings it\n"


class TestKeyAdd:
    def test_lets_another_key_open_them(self, muniment, archive_folder, keys):
        result = muniment("key", "add", "--key", "a.key", "--recipient", "b.key", "chats")

        assert (result.exit_code, result.stdout) == (0, "rewritten 3, right already 0, not encrypted 1, failed 0\n")
        for path in archive_folder.rglob("*.enc"):
            assert opens(path, keys["a"])
            assert opens(path, keys["b"])

    def test_adds_a_passphrase(self, muniment, encrypted, monkeypatch):
        monkeypatch.setenv("PHRASE", PHRASE)

        result = muniment("key", "add", "--key", "a.key", "--passphrase", "env:PHRASE", encrypted.name)

        assert result.exit_code == 0, result.output
        assert opens(encrypted, Passphrase(PHRASE))

    def test_asks_for_a_new_passphrase_twice(self, muniment, encrypted):
        typed = f"{PHRASE}\n{PHRASE} staple\n{PHRASE}\n{PHRASE}\n"

        result = muniment("key", "add", "--key", "a.key", "--passphrase", "ask", encrypted.name, input=typed)

        assert result.exit_code == 0, result.output
        assert opens(encrypted, Passphrase(PHRASE))

    def test_refuses_a_weak_passphrase(self, muniment, encrypted, monkeypatch):
        monkeypatch.setenv("PHRASE", "hunter2")

        result = muniment("key", "add", "--key", "a.key", "--passphrase", "env:PHRASE", encrypted.name)

        assert result.exit_code == 2
        assert result.stderr.startswith("error: a passphrase has at least 12 characters; six random words are a good")

    def test_twice_changes_nothing(self, muniment, archive_folder):
        command = ("key", "add", "--key", "a.key", "--recipient", "b.key", "chats")
        muniment(*command)

        assert muniment(*command).stdout == "rewritten 0, right already 3, not encrypted 1, failed 0\n"


class TestKeyRotate:
    def test_replaces_a_key(self, muniment, archive_folder, keys):
        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "chats", "--json")

        assert json.loads(result.stdout) == {"rewritten": 3, "unchanged": 0, "skipped": 1, "failed": []}
        for path in archive_folder.rglob("*.enc"):
            assert (opens(path, keys["a"]), opens(path, keys["b"])) == (False, True)

    def test_encrypts_anew(self, muniment, encrypted, keys):
        before = encrypted.read_bytes()

        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "--re-encrypt", encrypted.name)

        assert (result.exit_code, result.stdout) == (0, "rewritten 1, right already 0, not encrypted 0, failed 0\n")
        assert (opens(encrypted, keys["a"]), opens(encrypted, keys["b"])) == (False, True)
        assert before[-1000:] not in encrypted.read_bytes()

    def test_goes_on_behind_a_file_that_neither_opens(self, muniment, archive_folder, keys):
        stranger = archive_folder / "1.enc"
        stranger.write_bytes(encrypt_bytes(TEXT, Keyring([Key.new()])))

        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "chats")

        assert (result.exit_code, result.stdout) == (12, "rewritten 2, right already 0, not encrypted 1, failed 1\n")
        assert result.stderr == f"error: chats/1.enc: {WRONG_KEY.removeprefix('error: ')}"

    def test_names_what_is_damaged(self, muniment, archive_folder):
        path = archive_folder / "1.enc"
        path.write_bytes(path.read_bytes()[:200])

        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "chats", "--json")

        assert result.exit_code == 1
        assert json.loads(result.stdout)["failed"] == [
            {
                "path": "chats/1.enc",
                "reason": "the header of the encrypted data is refused: it is cut off",
            }
        ]

    def test_a_named_file_must_be_encrypted(self, muniment, keys, folder):
        (folder / "plain.txt").write_text("plain")

        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "plain.txt")

        assert (result.exit_code, result.stderr) == (1, "error: plain.txt: this is not encrypted by muniment\n")

    def test_waits_for_no_run(self, muniment, archive_folder):
        """One that writes to the folder holds it."""
        lock = TargetLock(archive_folder)
        lock.acquire()
        try:
            result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "chats")
        finally:
            lock.release()

        assert (result.exit_code, result.stderr) == (
            11,
            "error: another run writes to `chats`; wait until it has finished\n",
        )

    def test_needs_both_keys(self, muniment, encrypted):
        for given, missing in (("--old", "--new"), ("--new", "--old")):
            result = muniment("key", "rotate", given, "a.key", encrypted.name)

            assert result.exit_code == 2
            assert f"a key is missing; give `{missing} PATH` or `{missing}-passphrase ask`" in result.stderr


class TestSecrecy:
    def test_no_error_shows_a_key(self, muniment, encrypted, keys, folder, monkeypatch):
        """Whatever goes wrong, and with the traceback too."""
        monkeypatch.setenv("MUNIMENT_DEBUG", "1")
        encrypted.write_bytes(encrypted.read_bytes()[:-1])
        shown = ""
        for command in (
            ("decrypt", encrypted.name, "--key", "a.key"),
            ("decrypt", encrypted.name, "--key", "b.key"),
            ("decrypt", encrypted.name, "--key", "a.key", "--to", "missing/out"),
            ("key", "rotate", "--old", "a.key", "--new", "b.key", "--re-encrypt", encrypted.name),
        ):
            result = muniment(*command)
            assert result.exit_code
            shown += result.output
        secret = keys["a"].text().partition(":")[2]

        assert secret[:12] not in shown
        assert keys["a"]._data.hex()[:12] not in shown

    def test_help_loads_no_cryptography(self):
        code = (
            "import sys; from muniment.cli import cli\n"
            "try: cli.main(['decrypt', '--help'], standalone_mode=False)\n"
            "finally: print('loaded', 'cryptography' in sys.modules, 'muniment.crypto' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert done.stdout.splitlines()[-1] == "loaded False False"


def test_the_how_to_is_what_happens(muniment, folder):
    """Its commands, in their order."""
    (folder / "archive.key").unlink(missing_ok=True)
    made = muniment("key", "new", "archive.key")
    key = read_key_file(folder / "archive.key")
    (folder / "chats").mkdir()
    (folder / "chats" / "part-1.jsonl.zst.enc").write_bytes(encrypt_bytes(TEXT, Keyring([key])))
    muniment("key", "new", "safe.key")
    muniment("key", "new", "archive-2.key")
    commands = [
        "decrypt chats/part-1.jsonl.zst.enc --key archive.key",
        "key add --key archive.key --recipient safe.key ./chats",
        "key rotate --old archive.key --new archive-2.key ./chats",
        "key rotate --re-encrypt --old archive.key --new archive-2.key --new safe.key ./chats",
    ]

    assert re.fullmatch(
        r"made key [0-9a-f]{16} in archive.key; keep a copy of this file in another place\n", made.stdout
    )
    assert [muniment(*command.split()).exit_code for command in commands] == [0] * len(commands)
