"""SIGKILL an import at random points, resume it, and compare with one that nobody disturbed.

    python tests/crash/kill.py --kills 100 --top-ups 40 --json-mb 10

A kill hits a first load or a top-up of an existing archive; in both cases the run after it must end
with an archive whose content equals that of an uninterrupted run, as `checker` sees it.
"""

import argparse
import copy
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "benchmarks")]

from checker import digests  # noqa: E402
from generate import generate  # noqa: E402

PIPELINE = """\
version: 1
source: {{type: chatgpt_export, path: {export}, chunk_bytes: 65536}}
sinks:
  - {{type: sqlite, path: archive.db, unit: {{max_records: 20}}}}
allow_incomplete: true
"""


def newer_export(base: Path, path: Path, rng: random.Random) -> None:
    """Write an export that continues every fifth conversation of ``base``, drops some, adds some."""
    with zipfile.ZipFile(base) as z, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        conversations = json.loads(z.read("conversations.json"))
        kept = [c for i, c in enumerate(conversations) if i % 17]
        for conversation in kept[::5]:
            leaf = conversation["current_node"]
            node = copy.deepcopy(conversation["mapping"][leaf])
            node["id"] = node["message"]["id"] = f"{rng.getrandbits(128):032x}"
            node["parent"], node["children"] = leaf, []
            conversation["mapping"][node["id"]] = node
            conversation["current_node"] = node["id"]
            conversation["update_time"] += 60
        for conversation in kept[1::7]:
            new = copy.deepcopy(conversation)
            new["id"] = new["conversation_id"] = f"{rng.getrandbits(128):032x}"
            kept.append(new)
        out.writestr("conversations.json", json.dumps(kept))
        for name in z.namelist():
            if not name.startswith("conversations"):
                out.writestr(name, z.read(name))


def command(folder: Path, export: Path) -> list[str]:
    (folder / "pipeline.yaml").write_text(PIPELINE.format(export=json.dumps(str(export))))
    return [str(Path(sys.executable).with_name("muniment")), "run", str(folder / "pipeline.yaml"), "--quiet"]


def timed_run(folder: Path, export: Path) -> float:
    start = time.monotonic()
    subprocess.run(command(folder, export), check=True)
    return time.monotonic() - start


def killed_run(folder: Path, export: Path, seconds: float) -> bool:
    """Kill a run after ``seconds``; return False if it had ended by then."""
    with subprocess.Popen(command(folder, export)) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--top-ups", type=int, default=40, help="how many of the kills hit a top-up")
    parser.add_argument("--json-mb", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="muniment-kill-") as name:
        work = Path(name)
        base, newer = work / "base.zip", work / "newer.zip"
        generate(base, json_bytes=int(args.json_mb * 1e6), seed=args.seed)
        newer_export(base, newer, rng)
        clean = work / "clean"
        clean.mkdir()
        load_seconds = timed_run(clean, base)
        shutil.copy(clean / "archive.db", work / "base.db")
        loaded = digests(clean / "archive.db")
        top_up_seconds = timed_run(clean, newer)
        topped_up = digests(clean / "archive.db")
        assert loaded != topped_up
        wrong = hits = 0
        for number in range(args.kills):
            top_up = number < args.top_ups
            folder = work / f"kill-{number}"
            folder.mkdir()
            export, seconds, expected = (newer, top_up_seconds, topped_up) if top_up else (base, load_seconds, loaded)
            if top_up:
                shutil.copy(work / "base.db", folder / "archive.db")
            while True:
                # An attempt that ended before its kill would prove nothing: it is made again, shorter.
                hit = killed_run(folder, export, rng.uniform(0.02, 0.98) * seconds)
                if hit:
                    break
                (folder / "archive.db").unlink()
                if top_up:
                    shutil.copy(work / "base.db", folder / "archive.db")
                seconds *= 0.95
            hits += 1
            timed_run(folder, export)
            found = digests(folder / "archive.db")
            left = sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
            if found != expected or left:
                wrong += 1
                differ = {k for k in expected if found.get(k) != expected[k]}
                print(f"kill {number} ({'top-up' if top_up else 'load'}): differs in {differ}, left {left}")
            shutil.rmtree(folder)
        print(f"{hits} kills, {args.top_ups} of them in a top-up: {wrong} archives differ")
        return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
