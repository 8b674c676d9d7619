"""The how-to page of the sink `azure_blob`: its pipeline runs."""

import json
import re
from pathlib import Path

from click.testing import CliRunner

from muniment.cli import cli

PAGE = Path(__file__).parents[4] / "docs/how-to/azure-blob.md"


def test_its_pipeline_runs(azurite, service, container, tmp_path, monkeypatch):
    """As it stands there; twice, which changes nothing."""
    from importlib.resources import files

    (pipeline,) = [b for b in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "version:" in b]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.extra["connection_string"])
    monkeypatch.setenv("ARCHIVE_CONTAINER", container)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(pipeline)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/sample.zip").write_bytes((files("muniment.sample") / "chatgpt-export.zip").read_bytes())
    first, again = (
        json.loads(CliRunner().invoke(cli, ["run", "p.yaml", "--json"], prog_name="muniment").stdout)["sinks"]
        for _ in range(2)
    )

    assert first["azure_blob"]["stored"] == first["azure_blob"]["read"] == again["azure_blob"]["unchanged"] > 0
    names = [b.name for b in service.get_container_client(container).list_blobs()]
    assert any(re.match(r"chats/parts/chatgpt/\d{4}/.*\.jsonl\.zst", n) for n in names)
