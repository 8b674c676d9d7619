"""Which commands are compared, and what is muniment held to?"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
MUNIMENT = str(Path(sys.executable).with_name("muniment"))
MEMORY_LIMIT_MB = 200.0

Task = str  # what is made: the same for everything that is compared


@dataclass(frozen=True)
class Inputs:
    """The same export as a zip and as the `conversations.json` within, unpacked in its own folder."""

    zip: Path
    json: Path


@dataclass(frozen=True)
class Job:
    """A contender.

    ``command`` gives the command line from the inputs and an empty folder; ``limit`` is the greatest
    allowed share of the yardstick's wall time.  ``needs`` are programs; without them it is left out.
    """

    name: str
    task: Task
    command: Callable[[Inputs, Path], list[str]]
    ours: bool = False
    yardstick: bool = False
    limit: float | None = None
    needs: tuple[str, ...] = ()
    environment: Callable[[Inputs, Path], dict[str, str]] = field(default=lambda inputs, out: {})

    @property
    def is_available(self) -> bool:
        return all(shutil.which(program) for program in self.needs)


SQLITE, JSONL, MARKDOWN = "zip → SQLite + full text", "zip → JSONL.zst", "zip → Markdown files"


def _ours(target: str, workers: int, *options: str) -> Callable[[Inputs, Path], list[str]]:
    def command(inputs: Inputs, out: Path) -> list[str]:
        to = str(out / target)
        return [MUNIMENT, "import", str(inputs.zip), "--to", to, "--workers", str(workers), "--quiet",
                "--allow-incomplete", *options]  # fmt: skip

    return command


def _script(name: str, target: str) -> Callable[[Inputs, Path], list[str]]:
    path = HERE / "yardsticks" / name
    runner = sys.executable if path.suffix == ".py" else "/bin/sh"
    return lambda inputs, out: [runner, str(path), str(inputs.zip), str(out / target)]


def _at_home(inputs: Inputs, out: Path) -> dict[str, str]:
    return {"HOME": str(out), "XDG_DATA_HOME": str(out), "XDG_CONFIG_HOME": str(out)}


JOBS = (
    Job("muniment, 1 process", SQLITE, _ours("archive.db", 1), ours=True, limit=0.8),
    Job("muniment, 2 processes", SQLITE, _ours("archive.db", 2), ours=True, limit=0.6),
    Job("ijson + executemany + FTS rebuild", SQLITE, _script("ijson_sqlite_fts.py", "archive.db"), yardstick=True),
    Job("json + sqlite3 + FTS trigger", SQLITE, _script("json_sqlite_fts.py", "archive.db")),
    Job(
        "navig-chats", SQLITE, lambda inputs, out: ["navig-chats", "import", str(inputs.zip)],
        needs=("navig-chats",), environment=_at_home,
    ),
    Job(
        "chatgpt-to-sqlite (no search)", SQLITE,
        lambda inputs, out: ["chatgpt-to-sqlite", "export", str(inputs.json), str(out / "archive.db")],
        needs=("chatgpt-to-sqlite",),
    ),
    Job("muniment, 1 process", JSONL, _ours("archive.jsonl.zst", 1), ours=True, limit=0.4),
    Job("muniment, 2 processes", JSONL, _ours("archive.jsonl.zst", 2), ours=True, limit=0.4),
    Job(
        "jq + zstd", JSONL, _script("jq_jsonl_zst.sh", "archive.jsonl.zst"),
        yardstick=True, needs=("unzip", "jq", "zstd"),
    ),
    Job("muniment, 1 process", MARKDOWN, _ours("chats", 1, "--format", "markdown"), ours=True, limit=0.4),
    Job("muniment, 2 processes", MARKDOWN, _ours("chats", 2, "--format", "markdown"), ours=True, limit=0.4),
    Job("json script", MARKDOWN, _script("json_markdown.py", "chats"), yardstick=True),
    Job(
        "convoviz", MARKDOWN,
        lambda inputs, out: ["convoviz", "-z", str(inputs.zip), "-o", str(out), "--outputs", "markdown", "-I", "-q"],
        needs=("convoviz",), environment=_at_home,
    ),
    Job(
        "chat-history", MARKDOWN, lambda inputs, out: ["chat-history", "export", "--out", str(out / "chats")],
        needs=("chat-history",),
        environment=lambda inputs, out: {
            **_at_home(inputs, out), "CHAT_HISTORY_DATA_DIR": str(out),
            "CHAT_HISTORY_CHATGPT_PATH": str(inputs.json.parent),
        },
    ),
)  # fmt: skip
