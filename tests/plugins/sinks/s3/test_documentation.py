"""The how-to page of the sink `s3`: its pipelines run, its policy names every call."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from muniment.cli import cli
from muniment_plugins.sinks.s3.errors import ACTIONS

PAGE = Path(__file__).parents[4] / "docs/how-to/s3.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_its_pipelines_run(seaweedfs, make_bucket, client, tmp_path, monkeypatch, number):
    """As they stand there, with the credentials where they look for them; twice, which changes nothing."""
    from importlib.resources import files

    bucket = make_bucket()
    for name, value in {
        "ARCHIVE_BUCKET": bucket,
        "AWS_ENDPOINT_URL_S3" if number == 0 else "S3_ENDPOINT": seaweedfs.extra["endpoint"],
        "AWS_ACCESS_KEY_ID" if number == 0 else "S3_ACCESS_KEY_ID": seaweedfs.user,
        "AWS_SECRET_ACCESS_KEY" if number == 0 else "S3_SECRET_ACCESS_KEY": seaweedfs.password,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(blocks("yaml")[number])
    (tmp_path / "exports").mkdir()
    sample = (files("muniment.sample") / "chatgpt-export.zip").read_bytes()
    (tmp_path / "exports/sample.zip").write_bytes(sample)

    first, again = (
        json.loads(CliRunner().invoke(cli, ["run", "p.yaml", "--json"], prog_name="muniment").stdout)["sinks"]["s3"]
        for _ in range(2)
    )

    assert first["stored"] == first["read"] == again["unchanged"] > 0
    keys = [c["Key"] for c in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert any(re.match(r"chats/parts/chatgpt/\d{4}/.*\.jsonl\.zst" if number == 0 else r".*\.md", k) for k in keys)


def test_its_policy_names_every_call():
    """Whoever grants what stands there grants enough."""
    (policy,) = map(json.loads, blocks("json"))
    granted = {action for s in policy["Statement"] for action in s["Action"]}

    assert {re.match(r"s3:\w+", action)[0] for action in ACTIONS.values()} == granted
