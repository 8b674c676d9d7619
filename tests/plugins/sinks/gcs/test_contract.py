"""The sink `gcs` under the contract of all sinks, on an emulator that honours preconditions and one that does not."""

from typing import ClassVar

import pytest

from muniment.testing import SinkContract


class TestGCSAppend(SinkContract):
    """Immutable parts."""

    locks: ClassVar[bool] = True

    @pytest.fixture
    def sink(self, fake_gcs, new_bucket, sink_on):
        endpoint = fake_gcs.extra["endpoint"]
        return sink_on(endpoint, new_bucket(endpoint), prefix="archive", mode="append", compression="zstd")


class TestGCSMirror(SinkContract):
    """One object per conversation."""

    locks: ClassVar[bool] = True

    @pytest.fixture
    def sink(self, fake_gcs, new_bucket, sink_on):
        endpoint = fake_gcs.extra["endpoint"]
        return sink_on(endpoint, new_bucket(endpoint), mode="mirror")


class TestGCSSnapshot(SinkContract):
    """One object, written anew."""

    locks: ClassVar[bool] = True
    accumulates: ClassVar[bool] = False

    @pytest.fixture
    def sink(self, fake_gcs, new_bucket, sink_on):
        endpoint = fake_gcs.extra["endpoint"]
        return sink_on(endpoint, new_bucket(endpoint), mode="snapshot", compression="gzip")


class TestGCSWithoutPreconditions(SinkContract):
    """A store that ignores preconditions, where one run at a time writes."""

    locks: ClassVar[bool] = True

    @pytest.fixture
    def sink(self, gcs_emulator, new_bucket, sink_on):
        endpoint = gcs_emulator.extra["endpoint"]
        return sink_on(endpoint, new_bucket(endpoint), mode="append", conditional_writes="auto")
