"""The sink `s3` under the contract of all sinks, on a real store."""

from typing import ClassVar

import pytest

from muniment.testing.sink_contract import SinkContract


class TestS3Append(SinkContract):
    """Immutable parts."""

    locks: ClassVar[bool] = True
    fills_gaps: ClassVar[bool] = False

    @pytest.fixture
    def sink(self, seaweedfs, bucket, prefix, sink_on):
        return sink_on(seaweedfs, bucket, prefix=prefix, mode="append", compression="zstd")


class TestS3Mirror(SinkContract):
    """One object per conversation."""

    locks: ClassVar[bool] = True
    fills_gaps: ClassVar[bool] = False

    @pytest.fixture
    def sink(self, seaweedfs, bucket, prefix, sink_on):
        return sink_on(seaweedfs, bucket, prefix=prefix, mode="mirror")


class TestS3Snapshot(SinkContract):
    """One object, written anew."""

    locks: ClassVar[bool] = True
    fills_gaps: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False

    @pytest.fixture
    def sink(self, seaweedfs, bucket, prefix, sink_on):
        return sink_on(seaweedfs, bucket, prefix=prefix, mode="snapshot", compression="gzip")


class TestS3Encrypted(SinkContract):
    """Immutable parts that only a key opens."""

    locks: ClassVar[bool] = True
    fills_gaps: ClassVar[bool] = False

    @pytest.fixture
    def sink(self, seaweedfs, bucket, prefix, sink_on, encryption):
        return sink_on(seaweedfs, bucket, prefix=prefix, mode="append", compression="zstd", encryption=encryption)


@pytest.mark.slow
class TestS3EncryptedMirror(SinkContract):
    """One object per conversation, under a name that tells nothing."""

    locks: ClassVar[bool] = True
    fills_gaps: ClassVar[bool] = False

    @pytest.fixture
    def sink(self, seaweedfs, bucket, prefix, sink_on, encryption):
        return sink_on(seaweedfs, bucket, prefix=prefix, mode="mirror", encryption=encryption)
