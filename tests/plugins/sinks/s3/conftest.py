"""What tests of the sink `s3` share: buckets of their own, and sinks and storages on them."""

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from muniment.crypto import Encryption, create_key_file
from muniment.secrets import Secret
from muniment_plugins.sinks.s3 import S3

ACCESS, SECRET = "MUNIMENT_TEST_S3_ACCESS_KEY", "MUNIMENT_TEST_S3_SECRET_KEY"


def make_client(server: Any, **more: Any) -> Any:
    """Return a plain client, to look at a store without the code under test."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.extra["endpoint"],
        aws_access_key_id=server.user,
        aws_secret_access_key=server.password,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
        **more,
    )


def make_sink(server: Any, bucket: str, *, endpoint: str = "", **options: Any) -> S3:
    """Return a sink on a bucket; ``endpoint`` is where a proxy listens."""
    os.environ[ACCESS], os.environ[SECRET] = server.user, server.password
    defaults = {
        "endpoint_url": endpoint or server.extra["endpoint"],
        "path_style": True,
        "region": "us-east-1",
        "access_key_id": Secret(f"env:{ACCESS}"),
        "secret_access_key": Secret(f"env:{SECRET}"),
    }
    return S3(bucket=bucket, **{**defaults, **options})


@pytest.fixture
def client_of() -> Callable[..., Any]:
    return make_client


@pytest.fixture
def sink_on() -> Callable[..., S3]:
    return make_sink


@pytest.fixture
def make_bucket(seaweedfs) -> Callable[..., str]:
    """Return what makes an empty bucket of a random name, for a test that needs one of its own."""

    def make(server: Any = seaweedfs, **options: Any) -> str:
        name = f"test-{secrets.token_hex(6)}"
        make_client(server).create_bucket(Bucket=name, **options)
        return name

    return make


@pytest.fixture(scope="session")
def bucket(seaweedfs) -> str:
    """A bucket for all tests: each new one takes seven more volumes of the store."""
    name = f"test-{secrets.token_hex(6)}"
    make_client(seaweedfs).create_bucket(Bucket=name)
    return name


@pytest.fixture
def prefix() -> str:
    """A place in that bucket that is this test's alone."""
    return f"{secrets.token_hex(6)}/"


@pytest.fixture
def encryption(tmp_path) -> Encryption:
    """The key of an archive, in a file."""
    create_key_file(tmp_path / "archive.key")
    return Encryption(key=Secret(f"file:{tmp_path / 'archive.key'}"))


@pytest.fixture
def client(seaweedfs) -> Any:
    return make_client(seaweedfs)


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch) -> Iterator[None]:
    """What boto3 finds by itself is no part of these tests."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    yield


@pytest.fixture
def make_storage(seaweedfs, bucket, prefix) -> Iterator[Callable[..., Any]]:
    """Return what makes a session with this test's place; all are closed at the end."""
    made = []

    def make(**options: Any) -> Any:
        made.append(make_sink(seaweedfs, bucket, **{"prefix": prefix, **options}).storage())
        return made[-1]

    yield make
    for storage in made:
        storage.close()


@pytest.fixture
def storage(make_storage) -> Any:
    return make_storage()
