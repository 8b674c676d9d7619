"""Object lock: what is written cannot be removed, and nothing tries."""

from datetime import UTC, datetime, timedelta

import pytest

from muniment import ConfigError, Context
from muniment.crypto import Encryption, create_key_file
from muniment.errors import TargetBusyError
from muniment.purge import make_plan, run_plan
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment.verification import Inspection
from muniment_plugins.sinks.s3.settings import ObjectLock

RECORDS = [make_record(f"c{i}") for i in range(3)]


@pytest.fixture
def locking_bucket(make_bucket):
    return make_bucket(ObjectLockEnabledForBucket=True)


def retain_by_default(client, bucket):
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )


def heads(client, bucket):
    keys = [c["Key"] for c in client.list_objects_v2(Bucket=bucket)["Contents"]]
    return {key: client.head_object(Bucket=bucket, Key=key) for key in keys}


class TestObjectLock:
    @pytest.mark.parametrize("mode", ["governance", "compliance"])
    def test_every_object_is_kept(self, seaweedfs, locking_bucket, sink_on, client, tmp_path, mode):
        """Parts and manifests, large and small, as long as it was said; none can be removed before."""
        lock = ObjectLock(mode=mode, retain_days=2)
        sink = sink_on(seaweedfs, locking_bucket, object_lock=lock)
        archive(sink, RECORDS, state_dir=tmp_path)
        with sink.storage() as storage:
            staged = storage.stage("large.bin")
            staged.write(bytes(9 * 2**20))
            staged.close()
            storage.sync()
            storage.publish(staged.token, "large.bin", if_absent=True)

        found = heads(client, locking_bucket)
        assert len(found) == 7
        for key, head in found.items():
            assert head["ObjectLockMode"] == mode.upper(), key
            kept = head["ObjectLockRetainUntilDate"] - datetime.now(UTC)
            assert timedelta(days=1, hours=23) < kept <= timedelta(days=2)
            with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
                client.delete_object(Bucket=locking_bucket, Key=key, VersionId=head["VersionId"])

    def test_a_legal_hold(self, seaweedfs, locking_bucket, sink_on, client, tmp_path):
        """With a retention until a day, or without any."""
        until = datetime(2099, 1, 1, tzinfo=UTC)
        for lock in (ObjectLock(legal_hold=True), ObjectLock(mode="governance", retain_until=until, legal_hold=True)):
            sink = sink_on(seaweedfs, locking_bucket, object_lock=lock, prefix=lock.mode or "held")
            archive(sink, RECORDS, state_dir=tmp_path)

        for key, head in heads(client, locking_bucket).items():
            assert head["ObjectLockLegalHoldStatus"] == "ON", key
            assert (head.get("ObjectLockRetainUntilDate") == until) == key.startswith("governance")

    def test_the_default_of_the_bucket_holds(self, seaweedfs, locking_bucket, sink_on, client, tmp_path):
        """Without an option; runs go on behind each other, and no probe is kept."""
        retain_by_default(client, locking_bucket)
        sink = sink_on(seaweedfs, locking_bucket)
        archive(sink, RECORDS[:1], state_dir=tmp_path)
        archive(sink, RECORDS, state_dir=tmp_path)

        with sink.open_target(Context(run="reader", state_dir=tmp_path)) as target:
            assert len(list(target.read_back())) == 3
        found = heads(client, locking_bucket)
        assert len(found) == 9 and {h["ObjectLockMode"] for h in found.values()} == {"GOVERNANCE"}
        versions = client.list_object_versions(Bucket=locking_bucket)
        # Only the head of the log is written again, with each manifest.
        once = [v for v in versions["Versions"] if not v["Key"].endswith(".muniment/checkpoint")]
        assert len(once) == 8 and "DeleteMarkers" not in versions

    def test_nothing_locked_is_deleted(self, seaweedfs, locking_bucket, sink_on, client):
        """Not even behind a marker: cleaning up passes it by."""
        sink = sink_on(seaweedfs, locking_bucket, object_lock=ObjectLock(mode="governance", retain_days=1))
        with sink.storage() as storage:
            staged = storage.stage("a.bin")
            staged.write(b"1")
            staged.close()
            storage.publish(staged.token, "a.bin")
            storage.delete("a.bin")
            storage.sync()

        assert list(heads(client, locking_bucket)) == ["a.bin"]

    @pytest.mark.parametrize("mode", ["mirror", "snapshot"])
    def test_modes_that_replace_are_refused(self, seaweedfs, locking_bucket, sink_on, client, tmp_path, mode):
        """By the plan where an option says so, at the start of a run where the bucket does."""
        locked = sink_on(seaweedfs, locking_bucket, mode=mode, object_lock=ObjectLock(legal_hold=True))
        assert list(locked.check()) == [
            f"`object_lock` cannot go with `mode: {mode}`, which replaces objects; use `mode: append`"
        ]
        retain_by_default(client, locking_bucket)

        with pytest.raises(ConfigError, match=f"keeps every object for 1 days, and `mode: {mode}` replaces"):
            sink_on(seaweedfs, locking_bucket, mode=mode).open_target(Context(run="r", state_dir=tmp_path))

    def test_a_bucket_without_it_is_refused(self, seaweedfs, bucket, prefix, sink_on, tmp_path):
        """Before anything is written."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix, object_lock=ObjectLock(legal_hold=True))

        with pytest.raises(ConfigError, match=f"^bucket `{bucket}` at .* has no object lock; make a bucket with"):
            sink.open_target(Context(run="r", state_dir=tmp_path))

    def test_a_retention_that_is_over_is_refused(self, seaweedfs, locking_bucket, sink_on, tmp_path):
        """It would keep nothing."""
        over = ObjectLock(mode="governance", retain_until=datetime(2020, 1, 1, tzinfo=UTC))

        with pytest.raises(ConfigError, match="`object_lock.retain_until` is over"):
            sink_on(seaweedfs, locking_bucket, object_lock=over).open_target(Context(run="r", state_dir=tmp_path))

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"mode": "governance"}, "`object_lock.mode` needs either `retain_days` or `retain_until`"),
            ({"retain_days": 3}, "`object_lock` needs a `mode`: governance or compliance"),
            ({"mode": "governance", "retain_days": 0}, "`object_lock.retain_days` must be at least 1"),
            ({}, "`object_lock` needs a `mode` or `legal_hold: true`"),
            ({"legal_hold": True}, ""),
        ],
    )
    def test_options_that_do_not_fit(self, options, problem):
        """Are said together."""
        assert ObjectLock(**options).problem() == problem


class TestPurge:
    def test_what_the_bucket_locks_is_not_believed_deleted(self, seaweedfs, locking_bucket, sink_on, client, tmp_path):
        """Though no option of the sink tells of the lock."""
        retain_by_default(client, locking_bucket)
        sink = sink_on(seaweedfs, locking_bucket)
        archive(sink, RECORDS, state_dir=tmp_path)
        before = heads(client, locking_bucket)
        ctx = Context(state_dir=tmp_path, run="20260101T000000-00000001", path="sinks[0]")

        with sink.open_custody(ctx) as custody, pytest.raises(ConfigError, match="keeps what is deleted .object lock."):
            make_plan(custody, target="a", sink="", policy=None, keys=["test:c1"], reason="r", now=datetime.now(UTC))

        assert heads(client, locking_bucket).keys() == before.keys()

    def test_a_run_at_work_is_not_disturbed(self, seaweedfs, bucket, prefix, sink_on, tmp_path):
        """On this machine a lock says so."""
        sink = sink_on(seaweedfs, bucket, prefix=prefix)
        archive(sink, RECORDS, state_dir=tmp_path)
        ctx = Context(state_dir=tmp_path, run="20260101T000000-00000001", path="sinks[0]")

        with sink.open_target(ctx), pytest.raises(TargetBusyError):
            sink.open_custody(ctx)


class TestKeysOfConversations:
    @pytest.mark.parametrize("mode", ["compliance", pytest.param("governance", marks=pytest.mark.slow)])
    def test_a_locked_conversation_can_be_made_unreadable(
        self, seaweedfs, locking_bucket, sink_on, client, tmp_path, mode
    ):
        """Its part stays in every version, and no version is left of the key."""
        create_key_file(tmp_path / "archive.key")
        encryption = Encryption(key=Secret(f"file:{tmp_path / 'archive.key'}"), per="conversation")
        options = {"format": "jsonl", "compression": "zstd", "encryption": encryption}
        sink = sink_on(seaweedfs, locking_bucket, object_lock=ObjectLock(mode=mode, retain_days=2), **options)
        archive(sink, RECORDS, state_dir=tmp_path)
        ctx = Context(state_dir=tmp_path, run="20260101T000000-00000001", path="sinks[0]")
        before = heads(client, locking_bucket)
        head = None
        for number, name in enumerate(["test:c1", "test:c2"]):
            with sink.open_custody(ctx) as custody:
                head = head or custody.check()
                plan = make_plan(
                    custody, target="a", sink="", policy=None, keys=[name], reason="r", now=datetime.now(UTC)
                )
            ctx = Context(state_dir=tmp_path, run=f"20260101T000000-0000001{number}", path="sinks[0]")
            with sink.open_custody(ctx) as custody:
                assert run_plan(plan, custody, actor="ann", now=datetime.now(UTC)).shredded == 1

        listed = client.list_object_versions(Bucket=locking_bucket)
        versions = [v for v in (*listed["Versions"], *listed.get("DeleteMarkers", ())) if "/keys/" in v["Key"]]
        assert len(versions) == len({v["Key"] for v in versions}) == 2
        assert "ObjectLockMode" not in client.head_object(Bucket=locking_bucket, Key=versions[0]["Key"])
        after = heads(client, locking_bucket)
        assert all(after[k]["VersionId"] == h["VersionId"] for k, h in before.items() if "/" not in k)
        assert [f for f in sink.verify(ctx, Inspection(since=head)) if f.is_problem] == []
        with sink.open_target(ctx) as target:
            assert [r.key for r in target.read_back()] == ["test:c0"]

    def test_a_bucket_that_locks_everything_is_refused(self, seaweedfs, locking_bucket, sink_on, client, tmp_path):
        create_key_file(tmp_path / "archive.key")
        retain_by_default(client, locking_bucket)
        encryption = Encryption(key=Secret(f"file:{tmp_path / 'archive.key'}"), per="conversation")
        sink = sink_on(seaweedfs, locking_bucket, format="jsonl", encryption=encryption)
        with pytest.raises(ConfigError, match="keeps every object for 1 days"):
            archive(sink, RECORDS, state_dir=tmp_path)
