"""What a run finds out about a store before it writes, and what it makes of it."""

import json

import pytest

from muniment import ConfigError, Context
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.s3.client import RefusedError
from muniment_plugins.sinks.s3.probe import ConditionFindings, LockFindings, find_conditions, find_lock


def ask(sink):
    storage = sink.storage()
    bucket = storage.bucket
    try:
        return find_conditions(bucket, storage.checksum, storage.settings, find_lock(bucket))
    finally:
        storage.close()


def everything(client, bucket, prefix=""):
    """Return what a place holds: keys, versions and markers, uploads."""
    versions = client.list_object_versions(Bucket=bucket, Prefix=prefix)
    return (
        [v["Key"] for v in versions.get("Versions", [])],
        [v["Key"] for v in versions.get("DeleteMarkers", [])],
        [u["Key"] for u in client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])],
    )


class TestFindConditions:
    def test_a_store_that_honours_them(self, seaweedfs, bucket, prefix, sink_on, client):
        """In a new place, and nothing is left of the question."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix)

        assert ask(sink) == ConditionFindings(put=True, complete=True)
        assert everything(client, bucket, prefix) == ([], [], [])

    def test_a_bucket_with_versions(self, seaweedfs, make_bucket, sink_on, client):
        """Not even a version or a marker is left."""
        bucket = make_bucket()
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

        assert ask(sink_on(seaweedfs, bucket)) == ConditionFindings(put=True, complete=True)
        assert everything(client, bucket) == ([], [], [])

    def test_an_archive_is_asked_by_its_first_manifest(self, seaweedfs, bucket, prefix, sink_on, client, tmp_path):
        """Its bytes stay what they are."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix)
        archive(sink, [make_record("c0")], state_dir=tmp_path)
        key = f"{prefix}.muniment/manifests/00000001.json"
        before = client.get_object(Bucket=bucket, Key=key)["Body"].read()

        assert ask(sink) == ConditionFindings(put=True, complete=True)
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == before
        assert len(everything(client, bucket, prefix)[0]) == 4

    def test_who_may_only_read_is_not_asked(self, seaweedfs, make_bucket, sink_on, client, tmp_path):
        """An archive can be verified without the right to write to it."""
        bucket = make_bucket()
        sink = sink_on(seaweedfs, bucket)
        archive(sink, [make_record("c0")], state_dir=tmp_path)
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

        with sink.open_target(Context(run="r", state_dir=tmp_path)) as target:
            assert [r.conversation.id for r in target.read_back()] == ["c0"]

    def test_a_default_retention_postpones_the_question(self, seaweedfs, make_bucket, sink_on, client):
        """The probe's own object would be kept for its length."""
        bucket = make_bucket(ObjectLockEnabledForBucket=True)
        _retain(client, bucket)

        assert ask(sink_on(seaweedfs, bucket)) == ConditionFindings(None, complete=False)
        assert everything(client, bucket) == ([], [], [])


class TestFindLock:
    def test_a_plain_bucket_has_none(self, seaweedfs, bucket, sink_on):
        """And says so."""
        assert find_lock(sink_on(seaweedfs, bucket)._bucket()) == LockFindings(False)

    def test_a_bucket_may_have_a_default(self, seaweedfs, make_bucket, sink_on, client):
        """With its length."""
        bucket = make_bucket(ObjectLockEnabledForBucket=True)
        assert find_lock(sink_on(seaweedfs, bucket)._bucket()) == LockFindings(True)
        _retain(client, bucket)

        assert find_lock(sink_on(seaweedfs, bucket)._bucket()) == LockFindings(True, "1 days")


def _retain(client, bucket):
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )


WRONG = ["rclone_s3", "swift_s3"]


class TestWrongStores:
    @pytest.mark.parametrize("name", WRONG)
    def test_are_refused(self, name, request, client_of, sink_on, tmp_path):
        """Those that ignore the condition, and those that answer 501; nothing is left behind."""
        server = request.getfixturevalue(name)
        client_of(server).create_bucket(Bucket="refused")
        sink = sink_on(server, "refused")

        with pytest.raises(ConfigError, match="does not honour `If-None-Match: .*`, .* set `conditional_writes: auto`"):
            sink.open_target(Context(run="r", state_dir=tmp_path))
        assert not client_of(server).list_objects_v2(Bucket="refused").get("Contents")

    @pytest.mark.parametrize("name", WRONG)
    def test_serve_one_writer_when_told_so(self, name, request, client_of, sink_on, tmp_path):
        """`auto` goes on with a look instead of a condition; the second run finds everything."""
        server = request.getfixturevalue(name)
        client_of(server).create_bucket(Bucket="auto")
        sink = sink_on(server, "auto", conditional_writes="auto")
        records = [make_record(f"c{i}") for i in range(5)]

        archive(sink, records, state_dir=tmp_path, max_unit_records=2)
        with sink.storage() as storage:
            staged = storage.stage("large.bin")
            staged.write(bytes(9 * 2**20))
            staged.close()
            storage.sync()
            storage.publish(staged.token, "large.bin")
            assert len(storage.open("large.bin").read()) == 9 * 2**20
        again = archive(sink, records, state_dir=tmp_path / "other")

        assert again.sinks["contract"].unchanged == 5
        with sink.open_target(Context(run="r", state_dir=tmp_path)) as target:
            assert sorted(r.conversation.id for r in target.read_back()) == [f"c{i}" for i in range(5)]

    @pytest.mark.parametrize("name", WRONG)
    def test_take_snapshots(self, name, request, client_of, sink_on, tmp_path):
        """Which need no condition."""
        server = request.getfixturevalue(name)
        client_of(server).create_bucket(Bucket="snapshot")
        sink = sink_on(server, "snapshot", mode="snapshot")

        assert archive(sink, [make_record("c0")], state_dir=tmp_path).exit_code == 0


def test_ceph_keeps_the_manifest_conditional(ceph_s3, client_of, sink_on, tmp_path):
    """It ignores the condition of CompleteMultipartUpload only, on which nothing relies."""
    client_of(ceph_s3).create_bucket(Bucket="ceph")
    sink = sink_on(ceph_s3, "ceph")

    assert ask(sink) == ConditionFindings(put=True, complete=False)
    assert archive(sink, [make_record("c0")], state_dir=tmp_path).exit_code == 0


def test_off_asks_nothing(seaweedfs, bucket, prefix, sink_on, client, tmp_path):
    """And looks before it writes."""
    sink = sink_on(seaweedfs, bucket, prefix=prefix, conditional_writes="off")
    with sink.open_target(Context(run="r", state_dir=tmp_path)) as target:
        storage = target.storage
        for body in (b"1", b"2"):
            staged = storage.stage("a.bin")
            staged.write(body)
            staged.close()
            if body == b"1":
                storage.publish(staged.token, "a.bin", if_absent=True)
                storage.publish(staged.token, "a.bin", if_absent=True)
        with pytest.raises(FileExistsError):
            storage.publish(staged.token, "a.bin", if_absent=True)

    assert [c["Key"] for c in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]] == [f"{prefix}a.bin"]


def test_a_refusal_carries_its_code():
    """For whoever expects one."""
    assert RefusedError("412").code == "412"
