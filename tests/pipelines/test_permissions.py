"""What muniment writes is its owner's alone: files 0600, folders 0700, whatever the umask."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from muniment.cli import cli
from muniment.crypto import create_key_file

CONVERSATION = {
    "id": "c1", "conversation_id": "c1", "title": "Soup", "create_time": 1735700000.0, "update_time": 1735700060.0,
    "current_node": "m1",
    "mapping": {
        "m1": {"id": "m1", "parent": None, "children": [], "message": {
            "id": "m1", "author": {"role": "user"}, "create_time": 1735700000.5,
            "content": {"content_type": "multimodal_text", "parts": [
                "A soup?", {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file-1"}]},
        }},
    },
}  # fmt: skip
SINKS = {
    "append": "type: files, path: new/a/out",
    "mirror": "type: files, path: new/a/out, mode: mirror, format: markdown",
    "snapshot": "type: files, path: new/a/out.json, mode: snapshot, format: json",
    "parquet": "type: files, path: new/a/out, format: parquet",
    "sqlite": "type: sqlite, path: new/a/archive.db",
    "duckdb": 'type: sql, url: "duckdb:///{folder}/new.duckdb"',
    "encrypted files": 'type: files, path: new/a/out, encryption: {{key: "${{secret:file:archive.key}}"}}',
    "encrypted sqlite": 'type: sqlite, path: new/a/archive.db, encryption: {{key: "${{secret:file:archive.key}}"}}',
}
PIPELINE = """\
version: 1
source: {{type: chatgpt_export, path: export.zip}}
sinks:
  - {{{sink}}}
quarantine: {{encryption: {{key: "${{secret:file:archive.key}}"}}}}
"""


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: None) -> Path:
    """Return a folder with an export, of which one conversation cannot be archived, and a key."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("export.zip", "w") as z:
        z.writestr("conversations.json", json.dumps([CONVERSATION, "no conversation"]))
        z.writestr("file-1.dat", b"\x89PNG\r\n\x1a\n and so on")
    create_key_file(Path("archive.key"))
    return tmp_path


def muniment(*arguments: object, code: int = 0) -> None:
    done = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="muniment")
    assert done.exit_code == code, done.output


def program(*arguments: object, code: int = 0) -> None:
    """Run it as a program of its own, whose umask it sets itself."""
    command = [sys.executable, "-c", "from muniment.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


def open_to_others(folder: Path, *, but: tuple[str, ...] = ("export.zip", "p.yaml")) -> list[str]:
    """Return what has another mode than 0600, as a file, or 0700, as a folder."""
    return [
        f"{path.relative_to(folder)}: {mode:o}"
        for path in sorted(folder.rglob("*"))
        if (mode := path.lstat().st_mode & 0o7777) != (0o700 if path.is_dir() else 0o600) and path.name not in but
    ]


@pytest.mark.parametrize("sink", SINKS)
def test_a_run_writes_for_its_owner_alone(sink: str, folder: Path) -> None:
    """The target, its state, locks and quarantine; also the folders above it that were missing."""
    text = PIPELINE.format(sink=SINKS[sink].format(folder=folder))
    (folder / "p.yaml").write_text(text)
    for _ in range(2):
        muniment("run", "p.yaml", "--quiet", code=3)

    assert open_to_others(folder) == []


def test_what_is_made_while_it_runs_is_its_owners_alone(folder: Path) -> None:
    """Logs of databases too, which only a killed run leaves to be seen."""
    rules = "import os, glob, sys\ndef look(record):\n    os.kill(os.getpid(), 9)\n"
    (folder / "my_rules.py").write_text(rules)
    (folder / "my_rules.py").chmod(0o600)
    program("import", "export.zip", "--to", "new/archive.db", "--quiet", code=3)
    sinks = [SINKS[s].format(folder=folder) for s in ("duckdb", "append")] + ["type: sqlite, path: new/archive.db"]
    text = PIPELINE.format(sink="}\n  - {".join(f"{s}, on_plan_change: keep, name: s{n}" for n, s in enumerate(sinks)))
    (folder / "p.yaml").write_text(f"{text}transforms: [{{type: map, function: 'my_rules:look'}}]\n")
    program("run", "p.yaml", "--quiet", code=-9)

    assert [p.name for p in folder.glob("new/archive.db-*")]
    assert open_to_others(folder) == []


def test_commands_write_for_their_owner_alone(folder: Path) -> None:
    """Whatever is named to be written to."""
    muniment("import", "export.zip", "--to", "new/a/archive.db", "--quiet", code=3)
    muniment("import", "export.zip", "--to", "other.db", "--quiet", code=3)
    muniment("export", "new/a/archive.db", "--to", "new/b/all.jsonl.zst", "--quiet")
    muniment("export", "new/a/archive.db", "--to", "new/b/chats", "--format", "markdown", "--quiet")
    muniment("export", "new/a/archive.db", "--bagit", "--to", "new/bag", "--quiet")
    muniment("key", "new", "second.key")
    muniment("key", "new", "sign.key", "--signing", "archive.example.org")
    muniment("schema", "--out", "schema.json")
    muniment("verify", "new/a/archive.db", "--save-checkpoint", "checkpoint", "--quiet")
    muniment("purge", "plan", "other.db", "--conversation", "chatgpt:c1", "--reason", "r", "--out", "purge.json")
    muniment("demo", "--dir", "new/demo", "--quiet")

    assert open_to_others(folder) == []


def test_decrypting_writes_for_its_owner_alone(folder: Path) -> None:
    """It is the text that was kept from others."""
    sink = SINKS["encrypted files"].format()
    (folder / "p.yaml").write_text(PIPELINE.format(sink=sink))
    muniment("run", "p.yaml", "--quiet", code=3)
    part = next(p for p in (folder / "new/a/out").glob("**/*.jsonl*.enc"))
    muniment("decrypt", part, "--key", "archive.key", "--to", "plain.jsonl", "--quiet")
    muniment("key", "new", "second.key")
    muniment("key", "add", "--key", "archive.key", "--recipient", "second.key", "new/a/out", "--quiet")

    assert open_to_others(folder) == []


class TestPlantedLinks:
    """Somebody who can write to the folder has put a link where something will be written."""

    @pytest.fixture
    def victim(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("victim") / "file"
        path.write_text("mine")
        return path

    @pytest.mark.parametrize(
        ("name", "command"),
        [
            ("second.key", ["key", "new", "second.key"]),
            ("sign.key", ["key", "new", "sign.key", "--signing", "a"]),
            ("schema.json", ["schema", "--out", "schema.json"]),
            ("purge.json", ["purge", "plan", "archive.db", "--keep-days", "0", "--reason", "r", "--out", "purge.json"]),
            ("checkpoint", ["verify", "archive.db", "--save-checkpoint", "checkpoint"]),
            ("all.jsonl", ["export", "archive.db", "--to", "all.jsonl"]),
            ("chats/c1.md", ["export", "archive.db", "--to", "chats", "--format", "markdown"]),
            (".archive.db.lock", ["import", "export.zip", "--to", "archive.db"]),
        ],
        ids=lambda v: v if isinstance(v, str) else "",
    )
    def test_nothing_is_written_through_them(self, folder: Path, victim: Path, name: str, command: list[str]) -> None:
        """What the link leads to stays as it was."""
        muniment("import", "export.zip", "--to", "archive.db", "--quiet", code=3)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(victim)
        CliRunner().invoke(cli, command)

        assert victim.read_text() == "mine"
