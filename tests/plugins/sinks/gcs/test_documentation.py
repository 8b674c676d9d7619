"""The how-to page of the sink `gcs`: its pipelines run, its table of permissions is what the sink needs."""

import json
import re
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from muniment.cli import cli
from muniment.testing import make_record
from muniment.testing.runs import archive

PAGE = Path(__file__).parents[4] / "docs/how-to/gcs.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def exports(tmp_path, monkeypatch):
    """The sample export, where the page's pipelines look for it."""
    from importlib.resources import files

    monkeypatch.chdir(tmp_path)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/sample.zip").write_bytes((files("muniment.sample") / "chatgpt-export.zip").read_bytes())


def run_twice():
    return [
        json.loads(CliRunner().invoke(cli, ["run", "p.yaml", "--json"], prog_name="muniment").stdout)["sinks"]["gcs"]
        for _ in range(2)
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_its_pipelines_run(fake_gcs, new_bucket, exports, tmp_path, monkeypatch, number):
    """As they stand there, with the endpoint where each looks for it; twice, which changes nothing."""
    endpoint = fake_gcs.extra["endpoint"]
    bucket = new_bucket(endpoint)
    monkeypatch.setenv("ARCHIVE_BUCKET", bucket)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST" if number == 0 else "GCS_ENDPOINT", endpoint)
    (tmp_path / "p.yaml").write_text(blocks("yaml")[number])
    first, again = run_twice()

    assert first["stored"] == first["read"] == again["unchanged"] > 0
    listing = requests.get(f"{endpoint}/storage/v1/b/{bucket}/o", timeout=10).json()["items"]
    names = [o["name"] for o in listing]
    assert any(re.match(r"chats/parts/chatgpt/\d{4}/.*\.jsonl\.zst" if number == 0 else r".*\.md", n) for n in names)


@pytest.mark.parametrize("mode", ["append", "mirror", "snapshot"])
def test_its_table_of_permissions_is_enough(strict, sink_on, tmp_path, mode):
    """A run that changes something stored before, with no more than what the table says."""
    (row,) = re.findall(rf"^\| .*`{mode}`.*", PAGE.read_text(), re.MULTILINE)
    if mode == "append":
        strict.denied |= {"storage.objects.delete"} - set(re.findall(r"`(storage\.[\w.]+)`", row))
    requests.post(f"{strict.endpoint}/storage/v1/b", json={"name": "b"}, timeout=10)
    sink = sink_on(strict.endpoint, "b", mode=mode)
    for text in ("Hello", "Hello again"):
        archive(sink, [make_record("c1", [text])], state_dir=tmp_path)

    assert not strict.denied or mode == "append"
    assert strict.names("b")
