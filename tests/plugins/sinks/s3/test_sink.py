"""The sink `s3`: its options, two machines at one place, keys, and what it costs to import."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from muniment import Context, FatalError, PluginError, TargetBusyError
from muniment.canonical import to_json
from muniment.errors import ConfigError
from muniment.secrets import Secret
from muniment.structure import structure
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.s3 import S3
from muniment_plugins.sinks.s3.checksums import Check, checksum
from muniment_plugins.sinks.s3.settings import ObjectLock


def some(count, start=0):
    return [make_record(f"c{i}", title=f"Talk {i}") for i in range(start, start + count)]


def stored(sink, state_dir):
    with sink.open_target(Context(run="reader", state_dir=state_dir)) as target:
        return sorted(to_json((r.conversation, r.raw)) for r in target.read_back())


def plain(records):
    return sorted(to_json((r.conversation, r.raw)) for r in records)


class TestOptions:
    def test_come_from_a_pipeline_file(self):
        """Nested ones too."""
        sink = structure(
            S3,
            {"bucket": "our-archive", "prefix": "team/chats", "object_lock": {"mode": "compliance", "retain_days": 9}},
        )

        assert (sink.prefix, sink.object_lock) == ("team/chats/", ObjectLock(mode="compliance", retain_days=9))

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"bucket": "s3://b"}, "is no name of a bucket"),
            ({"bucket": "bbb", "prefix": "a/../b"}, "is no name"),
            ({"bucket": "bbb", "part_bytes": 1000}, "must be >= 5242880"),
            ({"bucket": "bbb", "concurrency": 0}, "must be >= 1"),
        ],
    )
    def test_are_refused_one_by_one(self, options, problem):
        """By their validators."""
        with pytest.raises(ConfigError, match=problem):
            structure(S3, options)

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"access_key_id": Secret("env:A")}, "`access_key_id` and `secret_access_key` belong together"),
            ({"session_token": Secret("env:A")}, "`session_token` needs `access_key_id` and `secret_access_key`"),
            (
                {"access_key_id": Secret("env:A"), "secret_access_key": Secret("env:B"), "profile": "p"},
                "`profile` and `access_key_id` exclude each other",
            ),
            ({"kms_key_id": "k"}, "`kms_key_id` needs `server_side_encryption: aws:kms`"),
            (
                {"customer_key": Secret("env:A"), "server_side_encryption": "AES256"},
                "`customer_key` and `server_side_encryption` exclude each other",
            ),
            ({"endpoint_url": "host:9000"}, "`endpoint_url` must look like `https://host:9000`"),
            (
                {"endpoint_url": "https://u:p@host"},
                "`endpoint_url` must not hold credentials; use `access_key_id` and `secret_access_key`",
            ),
            ({"endpoint_url": "https://host:9000", "prefix": "a"}, None),
        ],
    )
    def test_are_checked_together(self, options, problem):
        """One sentence each."""
        assert list(S3(bucket="our-archive", **options).check()) == ([problem] if problem else [])

    def test_none_changes_what_is_stored(self):
        """Another bucket or class of storage is the same archive: no plan hash changes."""
        import attrs

        own = {a.name for a in attrs.fields(S3) if a.metadata.get("identity", True)}

        assert own <= {"format", "format_options", "mode", "compression", "key", "part"}

    @pytest.mark.parametrize(
        ("options", "guarantee"),
        [
            ({}, "effectively once"),
            ({"conditional_writes": "off"}, "effectively once, only while one machine writes"),
            ({"conditional_writes": "off", "mode": "snapshot"}, "effectively once"),
            (
                {"conditional_writes": "auto"},
                "effectively once; only while one machine writes, where the store ignores conditional writes",
            ),
        ],
    )
    def test_say_what_is_guaranteed(self, options, guarantee):
        """With this configuration."""
        assert S3(bucket="our-archive", **options).guarantee == guarantee


class TestState:
    def test_is_named_after_the_place(self, tmp_path):
        """Two places never share it; the name shows which is which."""
        ctx = Context(run="r", state_dir=tmp_path)
        paths = [
            S3(bucket="our-archive", **options).state_path(ctx)
            for options in ({}, {"prefix": "a"}, {"prefix": "b"}, {"endpoint_url": "https://x"})
        ]

        assert len(set(paths)) == 4 and all(p.parent == tmp_path for p in paths)
        assert paths[1].name.startswith("s3-our-archive-a-")

    def test_is_only_a_cache(self, seaweedfs, bucket, prefix, sink_on, tmp_path):
        """Another machine, or this one without its state, finds everything in the bucket."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix)
        archive(sink, some(5), state_dir=tmp_path / "one")

        report = archive(sink, some(6), state_dir=tmp_path / "two")

        assert report.sinks["contract"].stored == 1
        assert stored(sink, tmp_path / "one") == plain(some(6))


class TestTwoRuns:
    def test_on_one_machine_the_second_is_told_at_once(self, seaweedfs, bucket, prefix, sink_on, tmp_path):
        """With exit code 11, and the lock ends with the first."""
        sink, ctx = sink_on(seaweedfs, bucket, prefix=prefix), Context(run="r", state_dir=tmp_path)
        with (
            sink.open_target(ctx),
            pytest.raises(TargetBusyError, match=f"another run on this machine writes to `s3://{bucket}/{prefix}`"),
        ):
            sink.open_target(ctx)

        sink.open_target(ctx).close()

    def test_on_several_machines_nothing_is_lost(self, seaweedfs, bucket, prefix, sink_on, tmp_path):
        """Four write at once: who loses a race is told, runs again, and all is stored once."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix)
        barrier = threading.Barrier(4)

        def machine(number):
            barrier.wait()
            for attempt in range(30):
                try:
                    return archive(sink, some(6, 4 * number), state_dir=tmp_path / str(number)) and attempt
                except TargetBusyError:
                    continue
            raise AssertionError("never won")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(machine, range(4)))

        assert stored(sink, tmp_path / "reader") == plain(some(18))


class TestKeys:
    def test_follow_the_template(self, seaweedfs, bucket, prefix, sink_on, client, tmp_path):
        """Below the prefix, with values that stay in their folder."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix, key="chats/{source}/{part}.jsonl.zst")
        archive(sink, some(2), state_dir=tmp_path)

        keys = [c["Key"].removeprefix(prefix) for c in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
        assert {k.split("/")[0] for k in keys} == {".muniment", "chats"}
        assert all(k.startswith("chats/test/") for k in keys if k[0] != ".")
        assert stored(sink, tmp_path) == plain(some(2))


class TestCheck:
    """Whether what came back is what was stored."""

    @pytest.mark.parametrize("name", ["sha256", "crc32c", "crc64nvme"])
    def test_of_a_whole_object(self, name):
        """In any pieces."""
        try:
            kind = checksum(name)
        except ConfigError:
            pytest.skip("nothing here computes it")
        for data, matches in ((b"abc" * 100, True), (b"abd" * 100, False)):
            check = Check({kind.field: kind.of(b"abc" * 100)})
            for start in range(0, len(data), 7):
                check.update(data[start : start + 7])
            assert check.matches() is matches

    @pytest.mark.parametrize("size", [1, 9, 10, 11, 20, 25])
    def test_of_an_object_in_parts(self, size):
        """Whose parts were ten bytes each."""
        kind, data = checksum("sha256"), bytes(range(size))
        expected = kind.of_parts([kind.of(data[i : i + 10]) for i in range(0, size, 10)])
        answer = {kind.field: expected, "Metadata": {"muniment-part-bytes": "10"}}
        for given, matches in ((data, True), (data[:-1] + b"!", False)):
            check = Check(answer)
            for start in range(0, size, 3):
                check.update(given[start : start + 3])
            assert check.matches() is matches

    def test_what_cannot_be_checked_passes(self):
        """A composite of unknown parts, an unknown kind, none at all."""
        for answer in ({}, {"ChecksumSHA256": "x-3"}, {"ChecksumSHA1": "x"}):
            check = Check(answer)
            check.update(b"1")
            assert check.matches()

    def test_crc64nvme_needs_a_package(self):
        """It is named."""
        try:
            checksum("crc64nvme")
        except ConfigError as error:
            assert str(error) == (
                "`checksum: crc64nvme` needs the package awscrt; run `pip install 'boto3[crt]'`"
                " or use `checksum: sha256`"
            )


def test_boto3_comes_when_it_is_needed():
    """Listing, planning and encoding do not pay for it."""
    code = (
        "import sys; from muniment_plugins.sinks.s3 import S3; sink = S3(bucket='bbb'); list(sink.check());"
        " sink.layout; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"


def test_a_missing_boto3_is_named(monkeypatch):
    """With what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(PluginError, match=r"^sink `s3` needs the module `boto3`, .*: pip install 'muniment\[s3\]'$"):
        S3(bucket="our-archive", region="xx-nowhere-1").storage().exists("a")


def test_an_object_of_too_many_parts_is_refused(make_storage, monkeypatch):
    """Before the store refuses it, and with the option that helps."""
    from muniment_plugins.sinks.s3 import upload

    monkeypatch.setattr(upload, "MAX_PARTS", 1)
    staged = make_storage().stage("a.bin")
    with pytest.raises(FatalError, match="more than 1 parts; raise `part_bytes`"):
        staged.write(bytes(17 * 2**20))
    staged.discard()
