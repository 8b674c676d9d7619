"""What people said is nowhere outside of what is encrypted: in no file, name, database, log, nor open file.

`CANARY_KILLS=200 pytest -m 'slow or not slow' tests/canary` kills more often.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from canary.maximal import Canaries, write_export
from canary.rooms import Room
from canary.scanner import Scanner
from muniment.crypto import create_key_file

KILLS = int(os.environ.get("CANARY_KILLS", "10"))

SINKS = {
    "append": "type: files, path: out, compression: zstd",
    "mirror": "type: files, path: out, mode: mirror, format: markdown",
    "parquet": "type: files, path: out, format: parquet",
    "snapshot": "type: files, path: out.json.enc, mode: snapshot, format: json",
    "sqlite": "type: sqlite, path: archive.db",
}
PIPELINE = """\
version: 1
source: {{type: chatgpt_export, path: {export}, chunk_bytes: 16384}}
transforms: {transforms}
sinks:
  - {{{sink}, unit: {{max_records: 2}}, on_plan_change: keep{encryption}}}
engine: {engine}
"""
ENCRYPTION = 'encryption: {{key: "${{secret:file:{folder}/archive.key}}"}}'
LOCAL, POOL = "{type: local}", "{type: pool, workers: 2}"
QUARANTINED = 3
NOT_ARCHIVED = ("broken", "second mapping", "no conversation", "stray", "chat.html", "user", "group_chats", "library")

RULES = """
def refuse(record):
    raise ValueError(f"cannot handle {record.conversation.title}: {record.conversation}")
"""


@dataclass
class Given:
    """What runs are given: the folder of two exports, a key, a plugin's module; and the canaries in them."""

    canaries: Canaries
    folder: Path

    def room(self, root: Path) -> Room:
        exports = tuple(self.folder.glob("*.zip"))
        return Room(root, Scanner(self.canaries.marker, self.canaries.digests()), exports)

    def write_pipelines(self, room: Room, sink: str, *, key: bool = True, engine: str = LOCAL) -> None:
        """Write `first.yaml`, `second.yaml`, and `refusing.yaml`, which archives nothing."""
        encryption = ENCRYPTION.format(folder=self.folder)
        options = SINKS[sink] if key else SINKS[sink].replace(".enc", "")
        for name, export in (("first", "first"), ("second", "second"), ("refusing", "second")):
            refusing = f'[{{type: map, function: "my_rules:refuse", path: {self.folder}}}]'
            text = PIPELINE.format(
                export=self.folder / f"{export}.zip",
                transforms=refusing if name == "refusing" else "[]",
                sink=options.replace("path: ", "path: refused-" if name == "refusing" else "path: "),
                encryption=f", {encryption}" if key else "",
                engine=engine,
            )
            path = room.work / f"{name}.yaml"
            path.write_text(text + (f"quarantine: {{{encryption}}}\n" if key else ""))
            path.chmod(0o600)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Return two exports, of which the second is newer, and a key."""
    given = Given(Canaries(), tmp_path_factory.mktemp("given"))
    write_export(given.folder / "first.zip", given.canaries, conversations=6)
    write_export(given.folder / "second.zip", given.canaries, conversations=2)
    create_key_file(given.folder / "archive.key")
    (given.folder / "my_rules.py").write_text(RULES)
    return given


def look_around(room: Room) -> None:
    """Run everything that reports, in full; twice, for what is there already, and with the newer export."""
    room.variables["MUNIMENT_DEBUG"] = "1"
    for name in ("first", "first", "second", "refusing"):
        room.run("validate", f"{name}.yaml", code=0)
        room.run("plan", f"{name}.yaml", code=0)
        room.run("run", f"{name}.yaml", code=QUARANTINED)
    for command in ("status", "gc", "verify"):
        room.run(command, "first.yaml")
    for name in ("first", "refusing"):
        room.run("quarantine", "list", f"{name}.yaml", code=0)
        if "encryption" in (room.work / "first.yaml").read_text():
            # Elsewhere it tells keys and digests of what is to be found again.
            room.run("quarantine", "list", f"{name}.yaml", "--json", code=0)


class TestPlain:
    """Without encryption the canaries are found: so the silence below says something."""

    @pytest.mark.parametrize("sink", ["append", "sqlite"])
    def test_what_is_archived_is_found(self, sink: str, tmp_path: Path, given: Given) -> None:
        """Each of them, whatever it was the name of; and nothing of what was put aside."""
        places = given.canaries.places
        room = given.room(tmp_path / "room")
        given.write_pipelines(room, sink, key=False)
        for name in ("first", "second"):
            room.run("run", f"{name}.yaml", code=QUARANTINED)

        seen = {int(number) for finding in room.scanner.folder(room.root) for number in finding.which.split()}

        missing = [place for n, place in enumerate(places) if n not in seen]
        assert [p for p in missing if not any(word in p for word in NOT_ARCHIVED)] == []
        assert [places[n] for n in seen if places[n].startswith(("broken", "second mapping", "no conversation"))] == []

    @pytest.mark.slow
    @pytest.mark.parametrize("sink", SINKS)
    def test_nothing_is_told(self, sink: str, tmp_path: Path, given: Given) -> None:
        """What people said is in the archive, and not on the screen."""
        room = given.room(tmp_path / "room")
        given.write_pipelines(room, sink, key=False)
        look_around(room)

        assert room.lines() == []


class TestEncrypted:
    @pytest.mark.parametrize("sink", SINKS)
    def test_a_run_leaves_nothing(self, sink: str, tmp_path: Path, given: Given) -> None:
        """Nor does the next one."""
        room = given.room(tmp_path / "room")
        given.write_pipelines(room, sink)
        for name in ("first", "second"):
            room.run("run", f"{name}.yaml", code=QUARANTINED)

        assert room.findings() == []

    @pytest.mark.slow
    @pytest.mark.parametrize("engine", [LOCAL, POOL], ids=["local", "pool"])
    @pytest.mark.parametrize("sink", SINKS)
    def test_nothing_is_told(self, sink: str, engine: str, tmp_path: Path, given: Given) -> None:
        """Nor left behind, by everything that runs and reports."""
        room = given.room(tmp_path / "room")
        given.write_pipelines(room, sink, engine=engine)
        look_around(room)

        assert room.findings() == []

    @pytest.mark.slow
    @pytest.mark.parametrize("sink", SINKS)
    def test_killed_runs_leave_nothing(self, sink: str, tmp_path: Path, given: Given) -> None:
        """Not even in the files that were open, with a name or without one."""
        room = given.room(tmp_path / "room")
        given.write_pipelines(room, sink)
        killed = room.kill_often("run", "first.yaml", rounds=KILLS, seed=KILLS)
        for name in ("first", "second"):
            room.run("run", f"{name}.yaml", code=QUARANTINED)

        assert room.findings() == []
        assert killed >= KILLS / 4
