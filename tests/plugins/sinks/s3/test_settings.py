"""What goes with every object: encryption, class, tags."""

import base64
import os

import pytest

from muniment import ConfigError, Context
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.s3.settings import ObjectSettings

RECORDS = [make_record(f"c{i}") for i in range(3)]


def run_and_read(sink, tmp_path):
    assert archive(sink, RECORDS, state_dir=tmp_path).exit_code == 0
    with sink.storage() as storage:
        staged = storage.stage("large.bin")
        staged.write(bytes(9 * 2**20))
        staged.close()
        storage.sync()
        storage.publish(staged.token, "large.bin", if_absent=True)
        assert storage.exists("large.bin")
        with storage.open("large.bin") as stream:
            assert len(stream.read()) == 9 * 2**20
    with sink.open_target(Context(run="reader", state_dir=tmp_path)) as target:
        assert len(list(target.read_back())) == 3


def keys(client, bucket, prefix):
    return [c["Key"] for c in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]


class TestEncryption:
    def test_by_the_store(self, seaweedfs, bucket, prefix, sink_on, client, tmp_path):
        """AES256 on every object."""
        run_and_read(sink_on(seaweedfs, bucket, prefix=prefix, server_side_encryption="AES256"), tmp_path)

        for key in keys(client, bucket, prefix):
            assert client.head_object(Bucket=bucket, Key=key)["ServerSideEncryption"] == "AES256", key

    def test_by_a_key_of_the_customers(self, seaweedfs, bucket, prefix, sink_on, client, tmp_path, monkeypatch):
        """Without it the store gives nothing back, with another one neither."""
        monkeypatch.setenv("SSE_KEY", base64.b64encode(os.urandom(32)).decode())
        sink = sink_on(seaweedfs, bucket, prefix=prefix, customer_key=Secret("env:SSE_KEY"))
        run_and_read(sink, tmp_path)

        with pytest.raises(client.exceptions.ClientError):
            client.get_object(Bucket=bucket, Key=f"{prefix}large.bin")
        monkeypatch.setenv("SSE_KEY", base64.b64encode(os.urandom(32)).decode())
        with sink.storage() as storage, pytest.raises(Exception, match="grant|`customer_key`"):
            storage.open("large.bin").read()

    @pytest.mark.parametrize("value", ["short", base64.b64encode(b"1" * 31).decode(), "*" * 44])
    def test_a_key_must_have_32_bytes(self, seaweedfs, bucket, sink_on, monkeypatch, value):
        """The message does not repeat it."""
        monkeypatch.setenv("SSE_KEY", value)

        with pytest.raises(ConfigError) as caught:
            sink_on(seaweedfs, bucket, customer_key=Secret("env:SSE_KEY", "sinks[0].customer_key")).storage()
        assert str(caught.value) == "sinks[0].customer_key: `customer_key` must be 32 bytes in base64"

    def test_by_kms(self):
        """With a key or the account's own."""
        with_key = ObjectSettings(encryption="aws:kms", kms_key_id="alias/archive").of("a.jsonl")

        assert (with_key["ServerSideEncryption"], with_key["SSEKMSKeyId"]) == ("aws:kms", "alias/archive")
        assert "SSEKMSKeyId" not in ObjectSettings(encryption="aws:kms").of("a.jsonl")


class TestOthers:
    def test_class_tags_and_payer(self, seaweedfs, bucket, prefix, sink_on, client, tmp_path):
        """On every object; only manifests stay in a class that is read at once."""
        sink = sink_on(
            seaweedfs,
            bucket,
            prefix=prefix,
            storage_class="STANDARD_IA",
            tags={"team": "legal & co"},
            requester_pays=True,
        )
        run_and_read(sink, tmp_path)

        for key in keys(client, bucket, prefix):
            tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
            assert tags == [{"Key": "team", "Value": "legal & co"}], key
            found = client.head_object(Bucket=bucket, Key=key).get("StorageClass", "STANDARD")
            assert found == ("STANDARD" if ".muniment" in key else "STANDARD_IA"), key

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("a.html", "text/html"),
            ("a.json", "application/json"),
            ("a.json.gz", "application/octet-stream"),
            ("a", "application/octet-stream"),
        ],
    )
    def test_the_type_is_that_of_the_name(self, name, kind):
        """So that a browser shows what it can; packed bytes are bytes."""
        assert ObjectSettings().of(name)["ContentType"] == kind
