"""Storages: staged, then published whole; confined, private, durable."""

import contextlib
import errno
import os
import re
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.errors import FatalError
from muniment.local_storage import LocalStorage, explain
from muniment.storage import check_name
from muniment.testing import StorageContract
from muniment.testing.memory_storage import MemoryPlace, MemoryStorage


@pytest.fixture
def local(tmp_path):
    with LocalStorage(tmp_path / "root") as storage:
        yield storage


def put(storage, name, data=b"data", **options):
    staged = storage.stage(name)
    staged.write(data)
    staged.close()
    storage.sync()
    storage.publish(staged.token, name, **options)
    storage.sync()


def read(storage, name):
    with storage.open(name) as stream:
        return stream.read()


class TestLocalContract(StorageContract):
    @pytest.fixture
    def storage_factory(self, tmp_path):
        return lambda: LocalStorage(tmp_path / "root")


class TestMemoryContract(StorageContract):
    @pytest.fixture
    def storage_factory(self):
        place = MemoryPlace()
        return lambda: MemoryStorage(place)


class TestCheckName:
    @given(st.text("a./\\\0", max_size=8))
    def test_what_it_lets_pass_stays_inside(self, name):
        """Joined to a folder and normalised, the path is still in the folder."""
        with contextlib.suppress(ValueError):
            check_name(name)

            assert os.path.normpath(f"/place/{name}").startswith("/place/")


class TestLocalStorage:
    @pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277])
    def test_files_are_private_whatever_the_umask(self, tmp_path, umask):
        """Files are 0600 and folders 0700, the new ones above the root too."""
        before = os.umask(umask)
        try:
            with LocalStorage(tmp_path / "new" / "root") as storage:
                put(storage, "a/b/c")
        finally:
            os.umask(before)

        for path in (tmp_path / "new").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)

    def test_it_leaves_a_folder_that_is_there(self, tmp_path):
        """What the user made keeps its mode."""
        tmp_path.chmod(0o755)
        with LocalStorage(tmp_path) as storage:
            put(storage, "a")

        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755

    def test_it_follows_no_link_below_the_root(self, local, tmp_path):
        """A link planted in place of a folder or a file is refused, and what it points to stays."""
        put(local, "x")
        (tmp_path / "outside").mkdir()
        (tmp_path / "root" / "a").symlink_to(tmp_path / "outside")
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "root" / "b").symlink_to(tmp_path / "secret")

        with pytest.raises(FatalError, match="a symbolic link or a file stands where a folder belongs"):
            put(local, "a/c")
        with pytest.raises(FatalError, match="symbolic link"):
            local.open("b")
        put(local, "b", b"new")
        assert list((tmp_path / "outside").iterdir()) == []
        assert (tmp_path / "secret").read_text() == "secret"

    def test_it_keeps_staged_files_apart_by_prefix(self, tmp_path):
        """Two single files in one folder do not take each other's staged files for their own."""
        with LocalStorage(tmp_path, staging=".a.json.") as one, LocalStorage(tmp_path, staging=".b.json.") as two:
            token = one.stage("a.json").token
            two.stage("b.json").close()

            assert [s.name for s in one.staged()] == [token]

    def test_many_files_come_back(self, local):
        """Beyond a handful they are synced together."""
        tokens = []
        for i in range(40):
            staged = local.stage(f"{i % 12}/{i}")
            staged.write(b"%d" % i)
            staged.close()
            tokens.append(staged.token)
        local.sync()
        for i, token in enumerate(tokens):
            local.publish(token, f"{i % 12}/{i}")
        local.sync()

        assert {s.name for s in local.list()} == {f"{i % 12}/{i}" for i in range(40)}

    def test_it_holds_few_folders_open(self, local):
        """A hundred folders of assets do not exhaust the file descriptors."""
        before = len(os.listdir("/proc/self/fd"))
        for i in range(100):
            put(local, f"assets/{i}/x")

        assert len(os.listdir("/proc/self/fd")) - before < 80
        assert len(list(local.list("assets/"))) == 100

    def test_it_closes_what_it_opened(self, tmp_path):
        """No descriptor outlives a session, an unfinished one neither."""
        before = len(os.listdir("/proc/self/fd"))
        with LocalStorage(tmp_path / "root") as storage:
            put(storage, "a/b")
            storage.stage("c").close()

        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_folder_that_cannot_be_made_is_explained(self, tmp_path):
        """A file in the way is named."""
        (tmp_path / "root").write_text("a file")
        with LocalStorage(tmp_path / "root") as storage, pytest.raises(FatalError) as caught:
            storage.stage("a")

        assert str(caught.value) == (
            f"`{tmp_path}/root/a` cannot be used: a symbolic link or a file stands where a folder belongs; move it away"
        )

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
    def test_a_full_disk_is_explained(self, tmp_path):
        """The message says what to do, and what was there is still there."""
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False)
        if mounted.returncode:
            pytest.skip("mounting is not allowed here")
        try:
            with LocalStorage(tmp_path / "root") as storage:
                put(storage, "a", b"x" * 1000)
                staged = storage.stage("b")
                with pytest.raises(FatalError, match="the disk is full; free some space"):
                    staged.write(b"x" * 100_000)
                staged.discard()

                assert read(storage, "a") == b"x" * 1000 and list(storage.staged()) == []
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)


class TestExplain:
    @pytest.mark.parametrize(
        ("number", "remedy"),
        [
            (errno.EDQUOT, "free some space"),
            (errno.EROFS, "choose a folder that you may write to"),
            (errno.EIO, "check the disk"),
            (errno.EMFILE, "raise the limit"),
        ],
    )
    def test_it_says_what_to_do(self, tmp_path, number, remedy):
        """Each cause has its remedy."""
        message = str(explain(OSError(number, os.strerror(number)), tmp_path))

        assert re.match(f"`{re.escape(str(tmp_path))}` cannot be used: .*{remedy}", message)
