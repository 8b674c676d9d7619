"""The sink `files` with folders, limits, tables and the view of the latest: whole, private, resumed when killed."""

import json
import lzma
import math
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import frozen

from muniment import Asset, Context
from muniment.canonical import record_from_json, record_to_json
from muniment.config.pipeline import parse
from muniment.engine.local import Local
from muniment.local_storage import LocalStorage
from muniment.objects import decompressing
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.plugins import load_registry
from muniment.sinks.objects import PartLimits
from muniment.testing import ListSource, SinkContract, make_record
from muniment_plugins.sinks.files import Files

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "files.md"
RUN = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")


class Silent:
    def call_run_event(self, event):
        pass


def archive(sink, records, *, max_unit_records=4, chunk_records=2):
    path = SinkPath(step=Step("files", "sinks[0]", sink), name="files", max_unit_records=max_unit_records)
    step = Step("list", "source", ListSource(records=tuple(records), chunk_records=chunk_records))
    return run(Plan(name="t", sources=(step,), sinks=(path,), engine=Local()), Silent()).sinks["files"]


def some(count=6):
    return [
        make_record(f"c{i}", title=f"Talk {i}", created_at=datetime(2025, 1 + i % 3, 5, tzinfo=UTC), account="a@b.c")
        for i in range(count)
    ]


def lines(records):
    return sorted(map(record_to_json, records))


def stored(sink):
    with sink.open_target(Context(run="reader")) as target:
        return lines(target.read_back())


def listing(folder):
    """Return the files of a folder, with the run's id left out."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".muniment" not in p.parts)
    return sorted(RUN.sub("RUN", str(p.relative_to(folder))) for p in files)


class FilesContract(SinkContract):
    locks = True
    options: ClassVar[dict[str, object]] = {}

    @pytest.fixture
    def sink(self, tmp_path):
        sink = Files(path=tmp_path / "place" / "chats", **self.options)
        assert list(sink.check()) == []
        return sink


class TestFolders(FilesContract):
    """Parts by account and month, small, with a view beside."""

    options: ClassVar = {
        "key": "chats/{account}/{year_month}/{part}.jsonl.zst", "part": PartLimits(max_records=2), "latest": True,
    }  # fmt: skip


class TestMirrorInFolders(FilesContract):
    options: ClassVar = {"format": "json", "mode": "mirror", "key": "{year}/{title}-{id}.json.xz"}


class TestParquet(FilesContract):
    options: ClassVar = {"format": "parquet"}


class TestLayouts:
    def test_folders_by_date(self, tmp_path):
        """A value is one folder, whatever it holds."""
        archive(Files(path=tmp_path, key="chats/{source}/{account}/{year}/{month}/{part}.jsonl.xz"), some(4))

        assert listing(tmp_path) == [
            "chats/test/a%40b.c/2025/01/part-00000001-RUN.jsonl.xz",
            "chats/test/a%40b.c/2025/02/part-00000001-RUN-2.jsonl.xz",
            "chats/test/a%40b.c/2025/03/part-00000001-RUN-3.jsonl.xz",
        ]
        (first, _) = lzma.decompress(next(tmp_path.glob("chats/*/*/*/01/*")).read_bytes()).splitlines()
        assert json.loads(first)["id"] == "c0"

    def test_pages_by_date(self, tmp_path):
        """One file per conversation, in folders; links lead to the assets."""
        asset = Asset(id="f", name="cat.png", sha256="ab" * 32)
        sink = Files(path=tmp_path, format="markdown", key="{year}/{month}/{title}-{id}.md")
        archive(sink, [make_record("c9", title="../x", assets=(asset,)), *some(1)])

        assert [re.sub("-[0-9a-f]{12}", "", n) for n in listing(tmp_path)] == ["2025/01/Talk 0.md", "2026/01/x.md"]
        assert sink.layout.links(asset) == f"../../assets/ab/{'ab' * 32}.png"

    def test_small_parts(self, tmp_path):
        """A unit may be many parts; each begins with a fresh compressor."""
        archive(Files(path=tmp_path, compression="xz", part=PartLimits(max_records=3)), some(7), max_unit_records=5)

        assert listing(tmp_path) == [
            "part-00000001-RUN-2.jsonl.xz",
            "part-00000001-RUN.jsonl.xz",
            "part-00000002-RUN.jsonl.xz",
        ]
        assert stored(Files(path=tmp_path)) == lines(some(7))

    def test_the_latest_of_each(self, tmp_path):
        """Beside the parts, which keep every version."""
        sink = Files(path=tmp_path, compression="zstd", latest=True)
        archive(sink, some(3))
        newer = make_record(
            "c0", ("Hello", "Hi there", "More"), account="a@b.c", updated_at=datetime(2030, 1, 1, tzinfo=UTC)
        )
        archive(sink, [newer])

        assert listing(tmp_path) == ["latest.jsonl.zst", *["part-00000001-RUN.jsonl.zst"] * 2]
        with open(tmp_path / "latest.jsonl.zst", "rb") as raw, decompressing(raw, ".zst") as stream:
            latest = [record_from_json(line, None) for line in stream]
        assert lines(latest) == lines([newer, *some(3)[1:]]) == stored(Files(path=tmp_path))

    def test_everything_is_private(self, tmp_path):
        """Folders that a value names, too."""
        before = os.umask(0)
        try:
            archive(Files(path=tmp_path / "new", key="chats/{account}/{part}.jsonl", latest=True), some())
        finally:
            os.umask(before)

        for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


class TestPaths:
    @pytest.mark.parametrize(
        ("name", "found"),
        [("chats.jsonl.xz", ("jsonl", "snapshot", "xz")), ("chats.parquet", ("parquet", "snapshot", "none"))],
    )
    def test_the_ending_says_it(self, name, found):
        layout = Files(path=name).layout

        assert (layout.format, layout.mode, layout.compression) == found

    def test_one_file_in_xz(self, tmp_path):
        sink = Files(path=tmp_path / "chats.jsonl.xz")
        archive(sink, some())

        with lzma.open(sink.path) as stream:
            assert lines(record_from_json(line, None) for line in stream) == lines(some())
        assert stored(sink) == lines(some())


class DyingStorage(LocalStorage):
    """A folder whose process dies before a step that makes something visible or durable."""

    steps_left: ClassVar[float] = math.inf

    def publish(self, token, name, *, if_absent=False):
        self._step()
        super().publish(token, name, if_absent=if_absent)

    def sync(self):
        self._step()
        super().sync()

    def _step(self):
        if not DyingStorage.steps_left:
            os._exit(9)
        DyingStorage.steps_left -= 1


@frozen(kw_only=True)
class DyingFiles(Files):
    def storage(self):
        return DyingStorage(self.path)


@pytest.mark.parametrize(
    "options",
    [
        {"key": "chats/{year_month}/{part}.jsonl", "part": PartLimits(max_records=1), "latest": True},
        {"format": "parquet", "part": PartLimits(max_records=2)},
    ],
    ids=["folders", "parquet"],
)
def test_a_killed_process_is_resumed(tmp_path, options):
    """Killed for good before every publish and sync in turn: nothing lost, doubled or left over."""
    step = 0
    while True:
        folder = tmp_path / str(step)
        sink = Files(path=folder, **options)
        archive(sink, some(1))
        if not _dies(DyingFiles(path=folder, **options), some(4), step):
            break
        archive(sink, some(4))

        assert stored(sink) == lines(some(4)), f"killed at step {step}"
        with sink.open_target(Context(run="r")) as target:
            assert list(target.orphans()) == []
        assert not list((folder / ".muniment" / "staging").iterdir())
        step += 1

    assert step > 6


def _dies(sink, records, step):
    child = os.fork()
    if child == 0:
        DyingStorage.steps_left = step
        try:
            archive(sink, records)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(version.*?)```", PAGE.read_text(), re.DOTALL))
def test_the_pipelines_of_the_page_work(text, tmp_path):
    """As they stand there, on a small archive."""
    archive(Files(path=tmp_path / "all.jsonl"), some())
    plan = parse(text, file="pipeline.yaml", base=tmp_path, registry=load_registry())
    report = run(plan, Silent())

    assert all(counts.stored == 6 for counts in report.sinks.values())
