"""One run keeps the same records in six places, each a real server or a real file."""

import hashlib
import json
import secrets
from pathlib import Path

import boto3
import psycopg
import pytest
from botocore.config import Config
from click.testing import CliRunner
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

import muniment
from muniment import Context
from muniment.canonical import to_json
from muniment.cli import cli
from muniment.config import load
from muniment.plugins import load_registry

SAMPLE = Path(muniment.__file__).parent / "sample" / "chatgpt-export.zip"


@pytest.fixture
def name():
    return f"six-{secrets.token_hex(4)}"


@pytest.fixture
def database(postgresql, name):
    """Return the URL of an empty database."""
    base = f"postgresql://{postgresql.user}@{postgresql.address}"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{base}/{name}"


@pytest.fixture
def s3_sink(seaweedfs, name, monkeypatch):
    """Return the options of a sink into an empty bucket."""
    monkeypatch.setenv("S3_USER", seaweedfs.user)
    monkeypatch.setenv("S3_PASSWORD", seaweedfs.password)
    boto3.client(
        "s3", endpoint_url=f"http://{seaweedfs.address}", region_name="us-east-1", aws_access_key_id=seaweedfs.user,
        aws_secret_access_key=seaweedfs.password, config=Config(s3={"addressing_style": "path"}),
    ).create_bucket(Bucket=name)  # fmt: skip
    return {
        "type": "s3", "bucket": name, "endpoint_url": f"http://{seaweedfs.address}", "path_style": True,
        "region": "us-east-1", "key": "chats/{source}/{part}.jsonl.zst",
        "access_key_id": "${secret:env:S3_USER}", "secret_access_key": "${secret:env:S3_PASSWORD}",
    }  # fmt: skip


@pytest.fixture
def gcs_sink(fake_gcs, name):
    """Return the options of a sink into an empty bucket."""
    endpoint = fake_gcs.extra["endpoint"]
    options = {"api_endpoint": endpoint}
    storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options).create_bucket(name)
    return {"type": "gcs", "bucket": name, "endpoint_url": endpoint, "anonymous": True}


@pytest.fixture
def pipeline(tmp_path, name, database, mongodb, s3_sink, gcs_sink):
    sinks = [
        {"type": "files", "path": str(tmp_path / "files"), "format": "jsonl", "compression": "zstd"},
        {"type": "sqlite", "path": str(tmp_path / "archive.db")},
        {"type": "sql", "url": database},
        {"type": "mongodb", "uri": f"mongodb://{mongodb.address}/?directConnection=true", "database": name},
        s3_sink,
        gcs_sink,
    ]
    source = {"type": "chatgpt_export", "path": str(SAMPLE)}
    path = tmp_path / "pipeline.yaml"
    path.write_text(json.dumps({"version": 1, "source": source, "sinks": sinks, "allow_incomplete": True}))
    return path


def muniment_run(pipeline):
    result = CliRunner().invoke(cli, ["run", str(pipeline), "--json"], prog_name="muniment")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def held(pipeline):
    """Return what each sink gives back: every record as JSON by its key, and each asset's digest."""
    plan = load(pipeline, load_registry())
    places = {}
    for path in plan.sinks:
        ctx = Context(run="read", path=path.step.path, state_dir=plan.state_dir, plan_hash=plan.hash_of(path))
        with path.step.component.open_target(ctx) as target:
            records = list(target.read_back())
            assets = {a.sha256: a for r in records for a in r.conversation.assets if a.sha256}
            digests = set()
            for asset in assets.values():
                with target.open_asset(asset) as stream:
                    digests.add(hashlib.sha256(stream.read()).hexdigest())
            assert digests == set(assets)
            places[path.name] = ({r.key: to_json((r.conversation, r.raw)) for r in records}, digests)
    return places


def test_six_sinks_store_the_same_records(pipeline):
    """Record by record, raw JSON and files included; the second run changes nothing anywhere."""
    report = muniment_run(pipeline)

    counts = list(report["sinks"].values())
    assert len(counts) == 6 and all(c == counts[0] and c["stored"] == c["read"] > 0 for c in counts)
    places = held(pipeline)
    first = places.pop("files")
    assert len(first[0]) == counts[0]["stored"] and first[1]
    for name, place in places.items():
        assert place == first, name

    again = muniment_run(pipeline)

    assert all(c["unchanged"] == c["read"] == counts[0]["read"] for c in again["sinks"].values())
