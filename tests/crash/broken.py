"""Writers that break a promise, each its own: what a crash suite must find, or it finds nothing.

    python broken.py FLAW EXPORT FOLDER ACKS

They write the same layout as `files` does, a part and a manifest for each unit, and go on behind the last
manifest.  ``none`` breaks nothing.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from checker import conversations_of, key_of

FLAWS = {
    "none": "breaks nothing",
    "no fsync": "renames what it has not flushed",
    "in place": "writes under the final name",
    "checkpoint first": "notes a unit as stored, then stores it",
    "no last unit": "ends without its last unit",
    "no checkpoint": "forgets how far it was, and stores it again",
}
UNIT = 3


class Writer:
    """Stores an export, unit by unit."""

    def __init__(self, flaw: str, folder: Path, acks: Path) -> None:
        self.flaw = flaw
        self.folder = folder
        self.acks = acks
        self.manifests = folder / ".muniment" / "manifests"
        self.staging = folder / ".muniment" / "staging"

    def run(self, export: Path) -> None:
        self.manifests.mkdir(parents=True, exist_ok=True)
        self.staging.mkdir(exist_ok=True)
        for leftover in self.staging.iterdir():
            leftover.unlink()
        numbers = [json.loads(f.read_bytes()) for f in sorted(self.manifests.glob("*.json"))]
        done = 0 if self.flaw == "no checkpoint" else sum(m["count"] for m in numbers)
        if self.flaw != "checkpoint first":
            named = {made["name"] for manifest in numbers for made in manifest["objects"]}
            for orphan in set(self.folder.glob("part-*")) - {self.folder / name for name in named}:
                orphan.unlink()
        conversations = conversations_of(export)
        number = len(numbers)
        while done < len(conversations):
            some = conversations[done : done + UNIT]
            done += len(some)
            number += 1
            if self.flaw == "no last unit" and done == len(conversations):
                return
            self.store(number, some)
            with self.acks.open("a") as file:
                file.write(json.dumps(["committed", done]) + "\n")

    def store(self, number: int, conversations: list[dict]) -> None:
        lines = [json.dumps(_record(c)).encode() + b"\n" for c in conversations]
        data = b"".join(lines)
        name = f"part-{number:08}.jsonl"
        manifest = self.manifest(number, name, data, conversations)
        steps = [(self.folder / name, data), (self.manifests / f"{number:08}.json", manifest)]
        for path, content in reversed(steps) if self.flaw == "checkpoint first" else steps:
            self.put(path, content)

    def manifest(self, number: int, name: str, data: bytes, conversations: list[dict]) -> bytes:
        before = self.manifests / f"{number - 1:08}.json"
        made = {
            "name": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "records": [[key_of(c), hashlib.sha256(json.dumps(c).encode()).hexdigest()] for c in conversations],
        }
        return json.dumps(
            {
                "number": number, "mode": "append", "objects": [made], "removed": [], "count": len(conversations),
                "previous": hashlib.sha256(before.read_bytes()).hexdigest() if number > 1 else "",
            }
        ).encode()  # fmt: skip

    def put(self, path: Path, data: bytes) -> None:
        part = path if self.flaw == "in place" else self.staging / path.name
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for start in range(0, len(data), 4096):
            os.write(descriptor, data[start : start + 4096])
            # A disk takes its time; the interpreter's start must not be most of it.
            time.sleep(0.0005)
        if self.flaw != "no fsync":
            os.fsync(descriptor)
        os.close(descriptor)
        part.rename(path)
        if self.flaw != "no fsync":
            for folder in (path.parent, self.folder):
                descriptor = os.open(folder, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)


def _record(conversation: dict) -> dict:
    nodes = [n for n in (conversation.get("mapping") or {}).values() if n.get("message")]
    return {"id": key_of(conversation), "raw": {"messages": nodes}}


if __name__ == "__main__":
    flaw, export, folder, acks = sys.argv[1:]
    Writer(flaw, Path(folder), Path(acks)).run(Path(export))
