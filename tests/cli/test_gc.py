"""What killed runs left behind is removed, and nothing else."""

import json
import os
from pathlib import Path

import pytest

from muniment.lock import TargetLock

RUN = "20260102T030405-0a1b2c3d"


@pytest.fixture
def chats(muniment, make_export, folder):
    """Return a folder of files that holds an export."""
    assert muniment("import", make_export(), "--to", "chats", "-q").exit_code == 0
    return folder / "chats"


def leave(path: Path, data=b"half"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def staged(chats):
    return leave(chats / ".muniment" / "staging" / "0123456789abcdef.tmp")


def tree(path: Path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


class TestGc:
    def test_it_removes_what_was_never_finished(self, muniment, chats):
        """A staged file, and a part that no manifest names; the archive stays as it is."""
        before = tree(chats)
        left = [staged(chats), leave(chats / f"part-00000001-{RUN}.jsonl")]

        result = muniment("gc", "chats")

        assert result.stdout == "files: 2 leftovers removed (8 B)\n"
        assert result.exit_code == 0
        assert not any(f.exists() for f in left)
        assert tree(chats) == before

    def test_dry_run_removes_nothing(self, muniment, chats):
        """It names what it would remove."""
        staged(chats)
        before = tree(chats.parent)

        result = muniment("gc", "chats", "--dry-run")

        assert result.stdout == ("files: 1 leftover would be removed (4 B)\n  .muniment/staging/0123456789abcdef.tmp\n")
        assert tree(chats.parent) == before

    def test_json_says_the_same(self, muniment, chats):
        """For programs."""
        staged(chats)

        assert json.loads(muniment("gc", "chats", "--json").stdout) == [
            {
                "sink": "files",
                "dry_run": False,
                "removed": [{"where": ".muniment/staging/0123456789abcdef.tmp", "size": 4}],
                "kept": [],
            }
        ]

    def test_without_manifests_parts_are_kept(self, muniment, chats):
        """They are the archive, for all that anybody knows."""
        for manifest in (chats / ".muniment" / "manifests").iterdir():
            manifest.unlink()
        before = tree(chats)

        result = muniment("gc", "chats")

        assert result.exit_code == 3
        assert "no manifest says what belongs to this archive; restore `.muniment` from a copy" in result.stdout
        assert tree(chats) == before

    def test_a_missing_manifest_stops_it(self, muniment, chats, make_export):
        """What it named would look like a leftover."""
        (chats / ".muniment" / "manifests" / "00000001.json").unlink()
        before = tree(chats)

        result = muniment("gc", "chats")

        assert result.exit_code == 1
        assert "error: manifest `.muniment/manifests/00000001.json` is missing; restore it from a copy" in result.stderr
        assert tree(chats) == before

    def test_another_run_keeps_it_away(self, muniment, chats):
        """What is staged there may be its work."""
        left = staged(chats)
        lock = TargetLock(chats)
        lock.acquire()

        assert muniment("gc", "chats").exit_code == 11
        assert left.exists()
        lock.release()

    def test_of_an_archive_it_removes_killed_loads(self, muniment, make_export, folder):
        """The file that a first load fills, and what SQLite puts beside it."""
        left = [leave(folder / name) for name in (".archive.db.loading", ".archive.db.loading-journal")]

        result = muniment("gc", "archive.db")

        assert result.stdout == "sqlite: 2 leftovers removed (8 B)\n"
        assert not any(f.exists() for f in left)

    def test_where_nothing_is_it_says_so(self, muniment, chats):
        """And makes nothing."""
        assert muniment("gc", "chats").stdout == "files: nothing was left behind\n"
        assert muniment("gc", "nothing/here").exit_code == 0
        assert not os.path.exists("nothing")

    def test_a_bucket_is_only_collected_on_your_word(self, muniment, folder):
        """No lock there tells who is alive."""
        Path("pipeline.yaml").write_text(
            "version: 1\n"
            "source: {type: chatgpt_export, path: export.zip}\n"
            "sinks:\n"
            "  - {type: s3, bucket: chats, endpoint_url: 'http://127.0.0.1:9'}\n"
        )

        result = muniment("gc", "pipeline.yaml")

        assert result.exit_code == 1
        assert "no lock tells whether another run writes there now" in result.stderr
