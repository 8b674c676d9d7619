"""Files: rewritten and decrypted whole or not at all, whatever happens meanwhile."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from muniment.crypto import Key, Keyring, add_recipients, decrypt_bytes, encrypt_bytes, replace_keys
from muniment.crypto import header as headers
from muniment.crypto.files import (
    decrypt_file,
    files_below,
    is_encrypted_file,
    reencrypt_file,
    rewrap_file,
)
from muniment.errors import DamagedError, FatalError, InputError, TargetBusyError, WrongKeyError

OLD, NEW = Key.new(), Key.new()
OLD_RING, NEW_RING = Keyring([OLD]), Keyring([NEW])
MESSAGE = os.urandom(40_000)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "part-1.jsonl.enc"
    path.write_bytes(encrypt_bytes(MESSAGE, OLD_RING, content_type="application/x-ndjson", about={"a": "b"}))
    path.chmod(0o600)
    return path


def body_of(path) -> bytes:
    with path.open("rb") as file:
        headers.read(file)
        return file.read()


def rotate(path, old=OLD_RING, new=NEW_RING) -> bool:
    return rewrap_file(path, lambda stream: replace_keys(stream, old, new))


def opens(path, keyring) -> bool:
    try:
        return decrypt_bytes(path.read_bytes(), keyring) == MESSAGE
    except WrongKeyError:
        return False


class TestRotating:
    def test_changes_who_opens_it_and_not_the_body(self, path):
        before = body_of(path)

        assert rotate(path)

        assert (opens(path, OLD_RING), opens(path, NEW_RING)) == (False, True)
        assert body_of(path) == before

    def test_keeps_what_the_header_says_for_good(self, path):
        with path.open("rb") as file:
            before = headers.read(file).fixed
        rotate(path)
        with path.open("rb") as file:
            assert headers.read(file).fixed == before

    def test_twice_is_once(self, path):
        rotate(path)
        before = path.read_bytes()

        assert not rotate(path)
        assert path.read_bytes() == before

    def test_leaves_other_keys_in_place(self, path):
        safe = Keyring([Key.new()])
        rewrap_file(path, lambda stream: add_recipients(stream, OLD_RING, safe))

        rotate(path)

        assert (opens(path, OLD_RING), opens(path, NEW_RING), opens(path, safe)) == (False, True, True)

    def test_goes_on_where_both_open_it(self, path):
        """As after `key add`."""
        rewrap_file(path, lambda stream: add_recipients(stream, OLD_RING, NEW_RING))

        assert rotate(path)
        assert (opens(path, OLD_RING), opens(path, NEW_RING)) == (False, True)

    def test_keeps_mode_and_times(self, path):
        path.chmod(0o640)
        os.utime(path, ns=(10**18, 10**18 + 7))

        rotate(path)

        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_mtime_ns == 10**18 + 7

    def test_changes_nothing_without_a_key(self, path):
        before = path.read_bytes()

        with pytest.raises(WrongKeyError):
            rotate(path, Keyring([Key.new()]), Keyring([Key.new()]))
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]

    def test_waits_for_nobody(self, path):
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            with pytest.raises(TargetBusyError, match="^somebody else rewrites `"):
                rotate(path)

    def test_a_file_that_was_replaced_meanwhile_is_not_lost(self, path):
        """A mirror that is written to puts a new file there."""
        newer = encrypt_bytes(b"newer", OLD_RING)

        def during(stream):
            made = replace_keys(stream, OLD_RING, NEW_RING)
            other = path.with_name("other")
            other.write_bytes(newer)
            other.rename(path)
            return made

        with pytest.raises(TargetBusyError, match="^somebody else has just replaced `"):
            rewrap_file(path, during)
        assert path.read_bytes() == newer
        assert os.listdir(path.parent) == [path.name]

    def test_a_reader_goes_on_with_what_it_opened(self, path):
        with path.open("rb") as file:
            start = file.read(100)
            rotate(path)
            data = start + file.read()

        assert decrypt_bytes(data, OLD_RING) == MESSAGE

    def test_follows_a_link_to_the_file(self, path, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(path)

        rotate(link)

        assert link.is_symlink()
        assert opens(path, NEW_RING)

    def test_a_name_of_any_length_is_rewritten(self, path):
        long = path.rename(path.with_name("x" * 255))

        assert rotate(long)


class TestAdding:
    def test_lets_another_key_open_it_too(self, path):
        before = body_of(path)

        assert rewrap_file(path, lambda stream: add_recipients(stream, OLD_RING, NEW_RING))

        assert (opens(path, OLD_RING), opens(path, NEW_RING)) == (True, True)
        assert body_of(path) == before

    def test_twice_is_once(self, path):
        rewrap_file(path, lambda stream: add_recipients(stream, OLD_RING, NEW_RING))

        assert not rewrap_file(path, lambda stream: add_recipients(stream, OLD_RING, NEW_RING))


class TestReencrypting:
    def test_makes_the_old_key_of_the_file_useless(self, path):
        """Who kept it has what was there before, and nothing of what is there now."""
        with path.open("rb") as file:
            old_header = headers.read(file)
        before, dek = body_of(path), OLD_RING.open(old_header)

        reencrypt_file(path, OLD_RING, NEW_RING)
        with path.open("rb") as file:
            header = headers.read(file)

        assert (opens(path, OLD_RING), opens(path, NEW_RING)) == (False, True)
        assert body_of(path)[:100] != before[:100]
        assert NEW_RING.open(header) != dek
        assert (header.fixed.content_type, header.fixed.about) == ("application/x-ndjson", {"a": "b"})

    def test_a_damaged_file_stays_as_it_is(self, path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

        with pytest.raises(DamagedError):
            reencrypt_file(path, OLD_RING, NEW_RING)
        assert path.read_bytes() == data
        assert os.listdir(path.parent) == [path.name]

    def test_shuts_nobody_out_by_accident(self, path):
        safe = Key.new()
        rewrap_file(path, lambda stream: add_recipients(stream, OLD_RING, Keyring([safe])))

        with pytest.raises(FatalError) as caught:
            reencrypt_file(path, OLD_RING, NEW_RING)
        assert str(caught.value) == (
            f"`{path}` is also encrypted for key `{safe.id}`, which would be shut out;"
            " name every key that is to open it"
        )
        reencrypt_file(path, OLD_RING, Keyring([NEW, safe]))
        assert opens(path, Keyring([safe]))


KILLED = """
import sys, time
from pathlib import Path
from muniment.crypto import Keyring, read_key_file, replace_keys
from muniment.crypto.files import files_below, reencrypt_file, rewrap_file
folder, what = Path(sys.argv[1]), sys.argv[2]
old, new = (Keyring([read_key_file(folder.parent / name)]) for name in ("old.key", "new.key"))
print("ready", flush=True)
while True:
    for path in files_below(folder):
        if what == "headers":
            rewrap_file(path, lambda stream: replace_keys(stream, old, new))
        else:
            reencrypt_file(path, old, new)
    old, new = new, old
"""


class TestKilled:
    """By SIGKILL, at any moment."""

    @pytest.mark.parametrize(("what", "kills"), [
        ("headers", 6), ("bodies", 6),
        pytest.param("headers", 100, marks=pytest.mark.slow), pytest.param("bodies", 100, marks=pytest.mark.slow),
    ])  # fmt: skip
    def test_every_file_opens_with_the_old_key_or_the_new(self, tmp_path, what, kills):
        folder = tmp_path / "chats"
        folder.mkdir()
        for key, name in ((OLD, "old.key"), (NEW, "new.key")):
            (tmp_path / name).write_text(key.text())
            (tmp_path / name).chmod(0o600)
        for number in range(4):
            (folder / f"{number}.enc").write_bytes(encrypt_bytes(MESSAGE, OLD_RING))
        for number in range(kills):
            command = [sys.executable, "-c", KILLED, str(folder), what]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
                assert worker.stdout.readline() == b"ready\n"
                time.sleep(0.001 * (number * 7 % 23))
                worker.send_signal(signal.SIGKILL)
            for path in files_below(folder):
                assert opens(path, Keyring([OLD, NEW]))
        left = [name for name in os.listdir(folder) if not name.endswith(".enc")]

        assert len(left) <= 4
        for path in files_below(folder):
            reencrypt_file(path, OLD_RING, NEW_RING)
        assert sorted(os.listdir(folder)) == [f"{number}.enc" for number in range(4)]


class TestBelow:
    def test_finds_files_and_no_work_in_progress(self, tmp_path):
        for name in ("b.enc", "a/c.txt", ".muniment/quarantine/1.enc", ".muniment/staging/1.tmp", ".abc.rewriting"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(headers.MAGIC if name.endswith(".enc") else b"")
        (tmp_path / "link.enc").symlink_to(tmp_path / "b.enc")

        found = {path.relative_to(tmp_path).as_posix(): is_encrypted_file(path) for path in files_below(tmp_path)}

        assert found == {"b.enc": True, "a/c.txt": False, ".muniment/quarantine/1.enc": True}


class TestDecrypting:
    def test_appears_whole_and_private(self, path, tmp_path):
        before = os.umask(0)
        try:
            made = decrypt_file(path, OLD_RING, tmp_path / "out")
        finally:
            os.umask(before)

        assert (tmp_path / "out").read_bytes() == MESSAGE
        assert (made.size, made.content_type, made.whole) == (40_000, "application/x-ndjson", True)
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600

    @pytest.mark.parametrize("cut", [1, 17, 16400, 20_000, 40_000])
    def test_of_a_damaged_file_nothing_appears(self, path, tmp_path, cut):
        path.write_bytes(path.read_bytes()[:-cut])

        with pytest.raises(DamagedError):
            decrypt_file(path, OLD_RING, tmp_path / "out")
        assert os.listdir(tmp_path) == [path.name]

    def test_what_was_verified_is_recovered_under_another_name(self, path, tmp_path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

        made = decrypt_file(path, OLD_RING, tmp_path / "out", broken="recover")

        assert (made.whole, made.size, made.path) == (False, 32_768, str(tmp_path / "out.partial"))
        assert (tmp_path / "out.partial").read_bytes() == MESSAGE[:32_768]
        assert not (tmp_path / "out").exists()

    def test_writes_over_nothing(self, path, tmp_path):
        (tmp_path / "out").write_text("mine")

        with pytest.raises(FatalError, match="already; it is not overwritten$"):
            decrypt_file(path, OLD_RING, tmp_path / "out")
        assert (tmp_path / "out").read_text() == "mine"

    def test_takes_the_place_of_an_attempt_that_was_killed(self, path, tmp_path):
        (tmp_path / "out.part").symlink_to(tmp_path / "elsewhere")

        decrypt_file(path, OLD_RING, tmp_path / "out")

        assert not (tmp_path / "elsewhere").exists()
        assert sorted(os.listdir(tmp_path)) == ["out", path.name]

    def test_a_full_disk_leaves_nothing(self, path):
        """And says so, whatever write it was that failed."""
        with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError) as caught:
            decrypt_file(path, OLD_RING, full)
        assert caught.value.errno == errno.ENOSPC

    @pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root mounts a small disk")
    @pytest.mark.parametrize("kilobytes", [4, 16, 32])
    def test_a_small_disk_leaves_nothing(self, path, tmp_path, kilobytes):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        try:
            with pytest.raises(FatalError, match="the disk is full; free some space"):
                decrypt_file(path, OLD_RING, disk / "out")
            assert os.listdir(disk) == []
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_to_a_stream_nothing_goes_before_the_end_was_verified(self, path, tmp_path):
        path.write_bytes(path.read_bytes()[:-1])

        with (tmp_path / "out").open("wb") as out, pytest.raises(DamagedError):
            decrypt_file(path, OLD_RING, out)
        assert (tmp_path / "out").read_bytes() == b""

    def test_what_cannot_be_read_is_said(self, tmp_path):
        with pytest.raises(InputError, match="` cannot be read: no such file or directory$"):
            decrypt_file(tmp_path / "none", OLD_RING, tmp_path / "out")
