"""A run and a retry that keep content, killed at every opening, renaming and removal of a file: nothing is
lost, nothing doubled, nothing left over."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

RULES = """
from pathlib import Path

def check(record):
    if Path("broken").exists() and record.conversation.title in ("b", "d"):
        raise ValueError("no")
    return record
"""
PIPELINE = """
version: 1
source: {type: chatgpt_export, path: export.zip, chunk_bytes: 600}
transforms: [{type: map, function: 'rules_of_killed:check'}]
sinks:
  - {type: sqlite, path: archive.db, on_plan_change: keep, unit: {max_records: 2}}
  - {type: files, path: chats, on_plan_change: keep, unit: {max_records: 2}}
quarantine:
  encryption: {key: "${secret:file:quarantine.key}"}
"""

# Runs a command in a fork, which ends itself with SIGKILL at the n-th event in the folder; 0: never.
SERVER = """
import os, signal, sys
import muniment.cli, muniment.pipeline, muniment.quarantine_retry, muniment.config
import muniment_plugins.sinks.sqlite.archive, muniment_plugins.sinks.files
import muniment_plugins.sources.chatgpt_export.read, muniment_plugins.sources.chatgpt_export.decode

def child(folder, at, args):
    os.chdir(folder)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    seen = 0

    def hook(event, values):
        nonlocal seen
        if event in ("open", "os.rename", "os.remove", "os.link", "sqlite3.connect"):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    if at:
        sys.addaudithook(hook)
    try:
        muniment.cli.cli.main(args, prog_name="muniment")
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(99)

for line in sys.stdin:
    folder, at, *args = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if not pid:
        child(folder, int(at), args)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Server:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, folder, *args, at=0):
        self.process.stdin.write("\t".join(map(str, (folder, at, *args))) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.communicate()


@pytest.fixture(scope="module")
def server():
    found = Server()
    yield found
    found.close()


def conversation(name):
    mapping = {
        "root": {"id": "root", "parent": None, "children": ["m"], "message": None},
        "m": {"id": "m", "parent": "root", "children": [], "message": {
            "id": "m", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["canary-51c0 " * 20]},
        }},
    }  # fmt: skip
    return {"conversation_id": name, "title": name, "update_time": 1735700000.5, "mapping": mapping}


@pytest.fixture(scope="module")
def template(tmp_path_factory, server):
    """Return a folder in which nothing has run yet."""
    folder = tmp_path_factory.mktemp("killed") / "work"
    folder.mkdir()
    (folder / "rules_of_killed.py").write_text(RULES)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "broken").touch()
    with zipfile.ZipFile(folder / "export.zip", "w") as z:
        z.writestr("conversations.json", json.dumps([conversation(c) for c in "abcde"]))
    assert server.run(folder, "key", "new", "quarantine.key") == 0
    return folder


@pytest.fixture(scope="module")
def refused(template, server):
    """Return a folder after a run that could not archive two conversations."""
    folder = copy(template, "refused")
    assert server.run(folder, "run", "pipeline.yaml") == 3
    return folder


def copy(folder, name):
    return Path(shutil.copytree(folder, folder.parent / name))


def stored(folder):
    """Return the titles in both targets, as SQL and files say them."""
    with sqlite3.connect(folder / "archive.db") as connection:
        in_database = sorted(r[0] for r in connection.execute("SELECT title FROM conversations"))
    connection.close()
    lines = [line for part in (folder / "chats").rglob("*.jsonl") for line in part.read_text().splitlines()]
    return in_database, sorted(json.loads(line)["title"] for line in lines)


def files_of(folder):
    kept = folder / ".muniment" / "pipeline" / "quarantine"
    return sorted(str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file()) if kept.is_dir() else []


def plain_texts(folder):
    """Return the files beside the archives that hold a word of a conversation."""
    kept = (folder / ".muniment").rglob("*")
    return [p for p in kept if p.is_file() and b"canary" in p.read_bytes()]


def moments(step, first=1):
    """Yield numbers of events."""
    at = first
    while True:
        yield at
        at += step


def killed(server, template, name, args, step):
    """Yield folders in which a command was killed at an event, until it was not any more."""
    for at in moments(step):
        folder = copy(template, f"{name}-{at}")
        code = server.run(folder, *args, at=at)
        if code != -signal.SIGKILL:
            shutil.rmtree(folder)
            assert at > 1
            return
        yield folder
        shutil.rmtree(folder)


def check_end(server, folder):
    assert stored(folder) == (list("abcde"), list("abcde"))
    assert server.run(folder, "verify", "pipeline.yaml") == 0
    # What a kill between commit and deletion has left goes with the next one.
    assert server.run(folder, "quarantine", "retry", "pipeline.yaml") == 0
    assert files_of(folder) == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", [53, pytest.param(1, marks=pytest.mark.slow)])
class TestKilled:
    def test_a_run(self, server, template, step):
        """The next run has both entries once, and their content."""
        for folder in killed(server, template, f"run{step}", ("run", "pipeline.yaml"), step):
            assert plain_texts(folder) == []
            assert server.run(folder, "run", "pipeline.yaml") == 3
            assert stored(folder) == (list("ace"), list("ace"))
            assert len([f for f in files_of(folder) if f.endswith(".enc")]) == 2

            (folder / "broken").unlink()
            (folder / "export.zip").unlink()
            assert server.run(folder, "quarantine", "retry", "pipeline.yaml") == 0
            check_end(server, folder)

    def test_a_retry(self, server, refused, step):
        """The next retry does what was left, without the input."""
        (refused / "broken").unlink(missing_ok=True)
        for folder in killed(server, refused, f"retry{step}", ("quarantine", "retry", "pipeline.yaml"), step):
            (folder / "export.zip").unlink()
            assert server.run(folder, "quarantine", "retry", "pipeline.yaml") == 0
            check_end(server, folder)
