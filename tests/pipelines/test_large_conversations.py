"""A conversation of a hundred thousand messages is archived whole, in bounded memory and linear time."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from muniment.objects import decompressing

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")

MEGABYTES = 1_000_000
# Of this process alone: what `getrusage` says may be of the one that started it.
RUN = """
import json, re, sys, time
from muniment.cli import main
try:
    main()
except SystemExit as end:
    with open("/proc/self/status") as status:
        peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) * 1024
    print(json.dumps({"code": end.code or 0, "peak_bytes": peak, "cpu_seconds": time.process_time()}))
"""
SINKS = {
    "sqlite": "{type: sqlite, path: archive.db}",
    "jsonl": "{type: files, path: files, format: jsonl, compression: zstd}",
    "markdown": "{type: files, path: files, format: markdown, mode: mirror, compression: zstd}",
}


@frozen
class Cost:
    code: int
    peak_bytes: int
    cpu_seconds: float


def chain(count: int, text: str) -> Iterator[bytes]:
    """Yield an export of one conversation: each message is the answer to the one before."""
    yield b'[{"title":"chain","create_time":1.5,"conversation_id":"chain","mapping":{'
    for i in range(count):
        node = {
            "id": f"node-{i:07d}",
            "message": {
                "id": f"node-{i:07d}",
                "author": {"role": ("user", "assistant")[i % 2]},
                "create_time": 1700000000 + i,
                "content": {"content_type": "text", "parts": [f"message {i} {text}"]},
            },
            "parent": f"node-{i - 1:07d}" if i else None,
            "children": [f"node-{i + 1:07d}"] if i < count - 1 else [],
        }
        yield b'%s"node-%07d":%s' % (b"," if i else b"", i, json.dumps(node).encode())
    yield b'},"current_node":"node-%07d"}]' % (count - 1)


def run(folder: Path, sink: str, **options: Any) -> Cost:
    """Archive `conversations.json` in ``folder`` in a process of its own."""
    given = "".join(f", {k}: {v}" for k, v in options.items())
    Path(folder, "p.yaml").write_text(
        f"version: 1\nsource: {{type: chatgpt_export, path: conversations.json{given}}}\n"
        f"sinks: [{SINKS[sink]}]\nengine: {{type: local}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN, "run", "p.yaml", "--quiet"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def write(folder: Path, count: int, text: str = "says something") -> int:
    path = Path(folder, "conversations.json")
    with path.open("wb") as file:
        file.writelines(chain(count, text))
    return path.stat().st_size


def stored_line(folder: Path) -> dict[str, Any]:
    (path,) = Path(folder, "files").rglob("*.jsonl.zst")
    with path.open("rb") as file, decompressing(file, path.name) as stream:
        return json.loads(stream.read())


def assert_whole(record: dict[str, Any], count: int) -> None:
    assert [m["id"] for m in record["messages"]] == [f"node-{i:07d}" for i in range(count)]
    assert [m["id"] for m in record["raw"]["messages"]] == [f"node-{i:07d}" for i in range(count)]
    said = [n["message"]["content"]["parts"] for n in record["raw"]["messages"]]
    assert [[p["content"] for p in m["parts"]] for m in record["messages"]] == said


class TestAHundredThousandMessages:
    @pytest.mark.parametrize("sink", SINKS)
    def test_they_take_less_than_their_bytes_six_times(self, sink, tmp_path):
        """27 MB of JSON, and what Python and an archive take anyway."""
        write(tmp_path, 100_000)

        cost = run(tmp_path, sink)

        assert cost.code == 0
        assert cost.peak_bytes < 180 * MEGABYTES, cost

    def test_every_message_is_stored_once(self, tmp_path):
        """In the order of the tree, each beside its raw JSON; and searchable."""
        write(tmp_path, 20_000, "says \u6f22\u5b57 and \U0001f600 " + "x" * 60)

        assert (run(tmp_path, "jsonl").code, run(tmp_path, "sqlite").code) == (0, 0)

        assert_whole(stored_line(tmp_path), 20_000)
        with sqlite3.connect(tmp_path / "archive.db") as archive:
            count = "SELECT count(*), count(DISTINCT id) FROM messages"
            assert archive.execute(count).fetchone() == (20_000, 20_000)
            found = "SELECT count(*) FROM messages_fts WHERE messages_fts MATCH '19999'"
            assert archive.execute(found).fetchone() == (1,)
        archive.close()

    def test_it_grows_by_what_is_new(self, tmp_path):
        """A later export of a large conversation is merged with what is stored."""
        for count in (20_000, 20_010, 20_010):
            write(tmp_path, count, "x" * 100)
            assert run(tmp_path, "sqlite").code == 0

        with sqlite3.connect(tmp_path / "archive.db") as archive:
            assert archive.execute("SELECT count(*) FROM messages").fetchone() == (20_010,)
            assert archive.execute("SELECT count(*) FROM versions").fetchone() == (1,)
        archive.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestAMillionMessages:
    @pytest.mark.parametrize("sink", ["sqlite", "jsonl"])
    def test_they_take_less_than_a_gigabyte_and_a_minute(self, sink, tmp_path):
        """Who allows them; 290 MB are above what is allowed without being told."""
        size = write(tmp_path, 1_000_000)

        cost = run(tmp_path, sink, max_conversation_bytes=2 * size)

        assert cost.code == 0
        assert cost.peak_bytes < 2**30, cost
        # What else this machine does is no fault of the archive.
        assert cost.cpu_seconds < 60, cost

    def test_time_is_linear(self, tmp_path):
        costs = []
        for count in (100_000, 200_000):
            write(tmp_path, count)
            costs.append(run(tmp_path, "jsonl").cpu_seconds)
            for path in Path(tmp_path).rglob("*"):
                if path.is_file():
                    path.unlink()

        assert costs[1] < 2.6 * costs[0], costs
