"""`S3Storage` on a real store: whole or absent, checked all the way, bounded in memory."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from muniment import FatalError

MIB = 2**20
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB]


def put(storage, name, data, *, if_absent=False):
    staged = stage(storage, name, data)
    storage.sync()
    storage.publish(staged.token, name, if_absent=if_absent)
    storage.sync()
    return staged


def stage(storage, name, data, step=MIB):
    staged = storage.stage(name)
    for start in range(0, len(data), step):
        staged.write(data[start : start + step])
    staged.close()
    return staged


def read(storage, name):
    with storage.open(name) as stream:
        return stream.read()


def uploads(client, bucket, prefix):
    return client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])


class TestPublish:
    @pytest.mark.parametrize("size", SIZES)
    def test_gives_back_every_byte(self, storage, size):
        """At the sizes where an object becomes an upload, and an upload gets another part."""
        data = os.urandom(size)

        put(storage, "a/b.bin", data)

        assert read(storage, "a/b.bin") == data

    @pytest.mark.parametrize("size", [10, 9 * MIB])
    def test_shows_nothing_before(self, storage, make_storage, size):
        """What is staged, closed and synced is seen by nobody."""
        staged = stage(storage, "a.bin", bytes(size))
        storage.sync()

        assert not storage.exists("a.bin") and not list(make_storage().list())
        storage.publish(staged.token, "a.bin")
        storage.sync()
        assert [(s.name, s.size) for s in make_storage().list()] == [("a.bin", size)]

    @pytest.mark.parametrize("size", [10, 9 * MIB])
    def test_takes_a_token_from_another_session(self, storage, make_storage, size):
        """A token is all that it needs."""
        staged = stage(storage, "a.bin", bytes(size))
        storage.sync()
        token = str(staged.token)
        storage.close()

        other = make_storage()
        other.publish(token, "a.bin", if_absent=True)

        assert len(read(other, "a.bin")) == size

    @pytest.mark.parametrize("size", [10, 9 * MIB])
    def test_if_absent_refuses_a_name_that_is_taken(self, storage, size):
        """What stands there stays, and what was staged is still there to be removed or published."""
        put(storage, "a.bin", b"first")
        staged = stage(storage, "a.bin", bytes(size))
        storage.sync()

        with pytest.raises(FileExistsError):
            storage.publish(staged.token, "a.bin", if_absent=True)
        assert read(storage, "a.bin") == b"first"
        storage.publish(staged.token, "a.bin")
        assert len(read(storage, "a.bin")) == size

    @pytest.mark.parametrize("size", [10, 9 * MIB])
    def test_if_absent_knows_its_own(self, storage, size):
        """Published twice, because an answer was lost, is published."""
        staged = put(storage, "a.bin", bytes(size), if_absent=True)

        storage.publish(staged.token, "a.bin", if_absent=True)

    @pytest.mark.parametrize("size", [100, 3 * MIB])
    def test_if_absent_has_one_winner(self, make_storage, size):
        """Of eight at once one gets the number of a manifest, and its bytes are what stands there."""
        name = ".muniment/manifests/00000002.json"
        sessions = [make_storage() for _ in range(8)]
        barrier, won = threading.Barrier(8), []

        def race(number):
            staged = stage(sessions[number], name, bytes([number]) * size)
            sessions[number].sync()
            barrier.wait()
            try:
                sessions[number].publish(staged.token, name, if_absent=True)
                won.append(number)
            except FileExistsError:
                staged.discard()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(race, range(8)))

        assert len(won) == 1
        assert read(sessions[0], name) == bytes(won) * size

    def test_replaces_without_if_absent(self, storage):
        """The later one stands."""
        put(storage, "a.bin", b"one")
        put(storage, "a.bin", b"two")

        assert read(storage, "a.bin") == b"two"

    def test_no_other_name_is_taken(self, storage):
        """A token belongs to the name that it was staged for."""
        staged = stage(storage, "a.bin", b"1")

        storage.publish(staged.token, "b.bin")
        with pytest.raises(ValueError, match="staged as `a.bin`"):
            storage.sync()

    def test_a_thousand_small_ones_are_one_request_each(self, storage, client, bucket, prefix):
        """Nothing of them is an upload, and listing goes over pages."""
        names = {f"many/{i:04}" for i in range(1005)}
        staged = {name: stage(storage, name, name.encode()) for name in names}
        storage.sync()
        assert uploads(client, bucket, prefix) == []
        for name, one in staged.items():
            storage.publish(one.token, name)
        storage.sync()

        assert {s.name for s in storage.list("many/")} == names
        assert read(storage, "many/0777") == b"many/0777"

    def test_what_does_not_fit_becomes_an_upload(self, storage, client, bucket, prefix):
        """Tokens hold 32 MiB between two syncs, whatever the number of objects; the rest waits in the store."""
        staged = [stage(storage, f"{i:02}", os.urandom(MIB)) for i in range(35)]
        storage.sync()

        assert len(uploads(client, bucket, prefix)) == 3
        for i, one in enumerate(staged):
            storage.publish(one.token, f"{i:02}")
        storage.sync()
        assert len(list(storage.list())) == 35


class TestStaged:
    def test_discard_leaves_nothing(self, storage, client, bucket, prefix):
        """In the middle of an upload, behind it, and twice."""
        staged = storage.stage("a.bin")
        staged.write(bytes(9 * MIB))
        staged.discard()
        closed = stage(storage, "b.bin", bytes(9 * MIB))
        storage.sync()
        closed.discard()
        closed.discard()

        assert uploads(client, bucket, prefix) == []

    def test_delete_by_token_leaves_nothing(self, storage, client, bucket, prefix):
        """An upload is aborted; what was published by then stays."""
        gone = stage(storage, "a.bin", bytes(9 * MIB))
        kept = put(storage, "b.bin", bytes(9 * MIB))
        storage.delete(gone.token)
        storage.delete(kept.token)
        storage.sync()

        assert uploads(client, bucket, prefix) == []
        assert [s.name for s in storage.list()] == ["b.bin"]

    def test_only_old_uploads_count_as_left_behind(self, make_storage, client, bucket, prefix):
        """Those of a run on another machine are younger than what is removed."""
        storage = make_storage()
        storage_of_later = make_storage(abort_uploads_after_days=0)
        stage(storage, "a.bin", bytes(9 * MIB))
        storage.sync()

        assert list(storage.staged()) == []
        (left,) = storage_of_later.staged()
        assert json.loads(left.name)["key"] == "a.bin"
        storage_of_later.delete(left.name)
        assert uploads(client, bucket, prefix) == []

    def test_a_name_stays_inside(self, storage):
        """Neither absolute nor with dots."""
        for name in ("../a", "/a", "a//b", ""):
            with pytest.raises(ValueError, match="no name"):
                storage.stage(name)
        with pytest.raises(FatalError, match="more than 1024 bytes; shorten `prefix` or `key`"):
            storage.stage("/".join(["x" * 200] * 6))


class TestDelete:
    def test_is_harmless_where_there_is_nothing(self, storage):
        """Twice is once."""
        put(storage, "a.bin", b"1")
        storage.delete("a.bin")
        storage.delete("a.bin")
        storage.sync()

        assert not storage.exists("a.bin")
        with pytest.raises(FileNotFoundError):
            storage.open("a.bin")


class TestPrefix:
    def test_keeps_to_its_own(self, make_storage, client, bucket, prefix):
        """What stands outside is neither listed nor touched; keys are what the docs say."""
        client.put_object(Bucket=bucket, Key=f"{prefix}in-other/x", Body=b"1")
        client.put_object(Bucket=bucket, Key=f"{prefix}in/", Body=b"")
        storage = make_storage(prefix=f"{prefix}in")
        put(storage, "a.bin", b"1")

        assert [s.name for s in storage.list()] == ["a.bin"]
        assert client.get_object(Bucket=bucket, Key=f"{prefix}in/a.bin")["Body"].read() == b"1"


class TestChecksums:
    @pytest.mark.parametrize("size", [10, 9 * MIB])
    def test_the_store_keeps_sha256(self, storage, client, bucket, prefix, size):
        """Of the object, or of the digests of its parts."""
        data = os.urandom(size)
        put(storage, "a.bin", data)

        found = client.head_object(Bucket=bucket, Key=f"{prefix}a.bin", ChecksumMode="ENABLED")["ChecksumSHA256"]
        assert found == storage.checksum.of(data) if size == 10 else found.endswith("-2")

    @pytest.mark.parametrize("size", [10, 9 * MIB])
    def test_the_store_keeps_crc32c_of_the_whole(self, make_storage, client, bucket, prefix, size):
        """Also of an object in parts."""
        pytest.importorskip("google_crc32c")
        storage, data = make_storage(checksum="crc32c"), os.urandom(size)
        put(storage, "a.bin", data)

        found = client.head_object(Bucket=bucket, Key=f"{prefix}a.bin", ChecksumMode="ENABLED")["ChecksumCRC32C"]
        assert found == storage.checksum.of(data)
        assert read(storage, "a.bin") == data


MEASURE = """
import json, os, resource, sys
from muniment.secrets import Secret
from muniment_plugins.sinks.s3 import S3
sink = S3(access_key_id=Secret("env:A"), secret_access_key=Secret("env:B"), **json.loads(sys.argv[1]))
with sink.storage() as storage:
    storage.exists("warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    staged = storage.stage("big.bin")
    for number in range(64):
        staged.write(os.urandom(2**20))
    staged.close()
    storage.sync()
    storage.publish(staged.token, "big.bin")
    storage.sync()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_bounded(seaweedfs, bucket, prefix):
    """64 MiB pass through four parts of 5 MiB: the process grows by those and little else."""
    options = {
        "bucket": bucket, "prefix": prefix, "endpoint_url": seaweedfs.extra["endpoint"], "path_style": True,
        "region": "us-east-1", "part_bytes": 5 * MIB,
    }  # fmt: skip
    keys = {"A": seaweedfs.user, "B": seaweedfs.password}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(options)], env={**os.environ, **keys}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40 * 1024  # KiB


def test_a_stream_ends_in_an_error_where_bytes_are_missing_or_wrong(storage, monkeypatch):
    """What the store says that it holds is compared with what came."""
    from muniment_plugins.sinks.s3 import read as reading

    data = hashlib.sha256(b"x").digest() * 3
    put(storage, "a.bin", data)
    original = reading._Reading._get

    def lying(self, **parameters):
        answer = original(self, **parameters)
        return {**answer, "ChecksumSHA256": storage.checksum.of(b"something else")}

    monkeypatch.setattr(reading._Reading, "_get", lying)
    with storage.open("a.bin") as stream, pytest.raises(FatalError, match="`a.bin` is damaged"):
        stream.read()
