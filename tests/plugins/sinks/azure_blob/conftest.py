"""What tests of the sink `azure_blob` share: containers of their own, and sinks on them."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from muniment.secrets import Secret
from muniment_plugins.sinks.azure_blob import AzureBlob

KEY = "MUNIMENT_TEST_AZURE_KEY"


@pytest.fixture(autouse=True)
def _account_key(azurite, monkeypatch) -> None:
    monkeypatch.setenv(KEY, azurite.password)


@pytest.fixture
def service(azurite) -> Iterator[Any]:
    """A plain client, to look at the store without the code under test."""
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient(azurite.extra["endpoint"], credential=azurite.password) as client:
        yield client


@pytest.fixture
def container(service) -> str:
    name = f"test-{secrets.token_hex(6)}"
    service.create_container(name).close()
    return name


@pytest.fixture
def sink_on(azurite) -> Callable[..., AzureBlob]:
    def make(container: str, **options: Any) -> AzureBlob:
        defaults = {"account_url": azurite.extra["endpoint"], "account_key": Secret(f"env:{KEY}")}
        return AzureBlob(container=container, **{**defaults, **options})

    return make
