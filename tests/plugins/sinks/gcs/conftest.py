"""What tests of the sink `gcs` share: buckets of their own, sinks and storages on them, a strict server."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from muniment_plugins.sinks.gcs import GCS


def make_sink(endpoint: str, bucket: str, **options: Any) -> GCS:
    """Return a sink on a bucket of an emulator."""
    return GCS(bucket=bucket, **{"endpoint_url": endpoint, "anonymous": True, **options})


def make_bucket(endpoint: str) -> str:
    """Make an empty bucket of a random name."""
    name = f"test-{secrets.token_hex(6)}"
    requests.post(f"{endpoint}/storage/v1/b?project=test", json={"name": name}, timeout=10).raise_for_status()
    return name


@pytest.fixture
def sink_on() -> Callable[..., GCS]:
    return make_sink


@pytest.fixture
def new_bucket() -> Callable[[str], str]:
    return make_bucket


@pytest.fixture
def strict() -> Iterator[Any]:
    """The project's own server: it refuses what Google's refuses, and the emulators do not."""
    import importlib.util

    path = Path(__file__).with_name("strict_server.py")
    spec = importlib.util.spec_from_file_location("muniment_test_strict_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.StrictServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch) -> None:
    """What the client library finds by itself is no part of these tests."""
    for name in [n for n in os.environ if n.startswith(("GOOGLE_", "STORAGE_EMULATOR", "GCLOUD"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", os.devnull)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
