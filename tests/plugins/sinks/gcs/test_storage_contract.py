"""The storage of the sink `gcs` under the contract of all storages, on three servers that each lack something else."""

from typing import ClassVar

import pytest
import requests

from muniment.testing import StorageContract


class GCSStorageContract(StorageContract):
    """What holds on every server."""

    large_bytes: ClassVar[int] = 18 * 2**20

    def test_it_names_what_was_abandoned(self) -> None:
        """Google lists no resumable uploads, and ends them by itself; small objects wait in their token alone."""
        pytest.skip("does not apply: nothing is left that could be named")


class TestOnFakeGCS(GCSStorageContract):
    """A server that honours preconditions."""

    @pytest.fixture
    def storage_factory(self, fake_gcs, new_bucket, sink_on):
        endpoint = fake_gcs.extra["endpoint"]
        return sink_on(endpoint, new_bucket(endpoint), prefix="chats").storage


class TestOnEmulator(GCSStorageContract):
    """A server that ignores preconditions."""

    many: ClassVar[int] = 120

    @pytest.fixture
    def storage_factory(self, gcs_emulator, new_bucket, sink_on):
        endpoint = gcs_emulator.extra["endpoint"]
        return sink_on(endpoint, new_bucket(endpoint), conditional_writes="auto").storage

    def test_of_many_publishers_of_an_absent_name_one_wins(self) -> None:
        """The page says so: only while one machine writes."""
        pytest.skip("does not apply: this server ignores preconditions")


class TestOnStrictServer(GCSStorageContract):
    """A server that refuses what the documentation says is refused."""

    @pytest.fixture
    def storage_factory(self, strict, sink_on):
        requests.post(f"{strict.endpoint}/storage/v1/b", json={"name": "b"}, timeout=10)
        strict.page_size = 100
        return sink_on(strict.endpoint, "b", prefix="chats").storage
