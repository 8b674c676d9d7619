"""The sink `files`: a folder or one file, private, atomic, and resumed when killed."""

import gzip
import json
import math
import os
import stat
import subprocess
from typing import ClassVar

import pytest
from attrs import frozen

from muniment import Batch, Checkpoint, Context, Counts, FatalError, Fence, TargetBusyError, Unit
from muniment.canonical import to_json
from muniment.engine.local import Local
from muniment.engine.pool import Pool
from muniment.local_storage import LocalStorage
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.testing import ListSource, make_record
from muniment_plugins.sinks.files import Files


class Registry:
    def call_run_event(self, event):
        pass


def archive(sink, records, *, engine=None, max_unit_records=2, **source):
    path = SinkPath(step=Step("files", "sinks[0]", sink), name="files", max_unit_records=max_unit_records)
    step = Step("list", "source", ListSource(records=tuple(records), **source))
    return run(Plan(name="t", sources=(step,), sinks=(path,), engine=engine or Local()), Registry()).sinks["files"]


def some(count=5):
    return [make_record(f"c{i}", title=f"Talk {i}") for i in range(count)]


def stored(sink):
    with sink.open_target(Context(run="reader")) as target:
        return sorted(to_json((r.conversation, r.raw)) for r in target.read_back())


def plain(records):
    return sorted(to_json((r.conversation, r.raw)) for r in records)


def visible(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and ".muniment" not in p.parts)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "layout"),
        [
            ("chats", ("jsonl", "append", "none", "assets/")),
            ("chats.jsonl", ("jsonl", "snapshot", "none", "chats-assets/")),
            ("my chats.json.gz", ("json", "snapshot", "gzip", "my chats-assets/")),
            ("v1.2.jsonl.zst", ("jsonl", "snapshot", "zstd", "v1.2-assets/")),
        ],
    )
    def test_the_path_says_what_the_options_do_not(self, name, layout):
        """A path that ends like a file is one; its ending gives format and compression."""
        found = Files(path=name).layout

        assert (found.format, found.mode, found.compression, found.assets) == layout

    def test_options_win_over_the_path(self):
        """What is said is done; a folder may be called anything."""
        layout = Files(path="chats.json", format="jsonl", mode="append", compression="zstd").layout

        assert (layout.format, layout.mode, layout.compression) == ("jsonl", "append", "zstd")

    def test_an_ending_must_not_lie(self):
        """One compressed file is recognised by its name, so it must have it."""
        assert list(Files(path="chats.jsonl.zst").check()) == []
        assert list(Files(path="chats.jsonl", compression="zstd").check()) == [
            "`path` must end in .zst with `compression: zstd`"
        ]

    @pytest.mark.parametrize("name", ["chats", "chats.jsonl", "chats.jsonl.zst", "chats.json.gz"])
    def test_it_gives_back_what_it_stored(self, tmp_path, name):
        """Every record comes back whole."""
        sink = Files(path=tmp_path / "new" / name)

        assert archive(sink, some()) == Counts(5, 5)
        assert stored(sink) == plain(some())

    def test_a_snapshot_leaves_nothing_else(self, tmp_path):
        """One file, that other tools read; no state, no lock, no temporary file beside it."""
        archive(Files(path=tmp_path / "chats.json.gz"), some())

        assert visible(tmp_path) == ["chats.json.gz"]
        assert len(json.loads(gzip.decompress((tmp_path / "chats.json.gz").read_bytes()))) == 5

    def test_a_failed_snapshot_leaves_the_old_one(self, tmp_path):
        """Nothing changes before the end."""
        sink = Files(path=tmp_path / "chats.json")
        archive(sink, some(2))
        before = (tmp_path / "chats.json").read_bytes()
        with pytest.raises(RuntimeError):
            archive(sink, some(5), fail_at=3)

        assert visible(tmp_path) == ["chats.json"] and (tmp_path / "chats.json").read_bytes() == before

    def test_a_mirror_is_one_file_each(self, tmp_path):
        """Named after the title, in the folder itself."""
        sink = Files(path=tmp_path / "chats", mode="mirror")
        archive(sink, [make_record("c0", title="../../etc/passwd"), make_record("c1", title="../../etc/passwd")])

        names = visible(tmp_path / "chats")
        assert len(names) == 2 and all(n.startswith("etc passwd-") for n in names)
        assert stored(sink) == plain(
            [make_record("c0", title="../../etc/passwd"), make_record("c1", title="../../etc/passwd")]
        )

    @pytest.mark.parametrize("umask", [0, 0o077])
    @pytest.mark.parametrize("name", ["new/chats", "new/chats.json"])
    def test_everything_is_private(self, tmp_path, umask, name):
        """Files 0600, folders 0700, the state and the folders above too, whatever the umask."""
        before = os.umask(umask)
        try:
            archive(Files(path=tmp_path / name), some())
        finally:
            os.umask(before)

        for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    @pytest.mark.parametrize("name", ["chats", "chats.json"])
    def test_only_one_run_at_a_time(self, tmp_path, name):
        """The second is told to wait."""
        sink = Files(path=tmp_path / name)
        with (
            sink.open_target(Context(run="r1")),
            pytest.raises(TargetBusyError, match=f"another run writes to `{name}`"),
        ):
            sink.open_target(Context(run="r2"))

    def test_all_cores_make_the_same_files(self, tmp_path):
        """Worker processes encode; the bytes are those of one process."""
        for name, engine in (("one", Local()), ("two", Pool(workers=2))):
            archive(Files(path=tmp_path / name, mode="mirror", compression="zstd"), some(), engine=engine)

        one, two = tmp_path / "one", tmp_path / "two"
        assert visible(one) == visible(two)
        assert [(one / n).read_bytes() for n in visible(one)] == [(two / n).read_bytes() for n in visible(two)]

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
    @pytest.mark.parametrize("name", ["chats", "chats.jsonl"])
    def test_a_full_disk_is_survived(self, tmp_path, name):
        """The run stops with a clear error, what was committed stands, and more room lets it go on."""
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(tmp_path)], check=False)
        if mounted.returncode:
            pytest.skip("mounting is not allowed here")
        try:
            sink = Files(path=tmp_path / name)
            records = [make_record(f"c{i}", (os.urandom(20_000).hex(),)) for i in range(20)]
            with pytest.raises(FatalError, match="full"):
                archive(sink, records)
            subprocess.run(["mount", "-o", "remount,size=20m", str(tmp_path)], check=True)

            assert not [n for n in visible(tmp_path) if n.endswith(".tmp")]
            archive(sink, records)
            assert stored(sink) == plain(records)
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)


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


@pytest.mark.parametrize("mode", ["append", "mirror"])
def test_a_killed_process_is_resumed(tmp_path, mode):
    """Killed for good before every publish and sync in turn: nothing lost, doubled or left over."""
    step = 0
    while True:
        folder = tmp_path / str(step)
        sink = Files(path=folder, mode=mode)
        archive(sink, some(3))
        if not _dies(DyingFiles(path=folder, mode=mode), some(6), step):
            break
        archive(sink, some(6))

        assert stored(sink) == plain(some(6)), f"killed at step {step}"
        assert sum((folder / n).read_bytes().count(b'"title":"Talk') for n in visible(folder)) == 6
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


def test_strangers_files_are_left_alone(tmp_path):
    """A folder that lost its `.muniment` keeps its parts: they may be all that there is."""
    (tmp_path / "part-00000001-old.jsonl").write_text("precious\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    sink = Files(path=tmp_path)
    archive(sink, some())
    with sink.open_target(Context(run="r")) as target:
        assert [o.where for o in target.orphans()] == ["part-00000001-old.jsonl"]

    assert {"part-00000001-old.jsonl", "notes.txt"} < set(visible(tmp_path))


def test_a_failed_commit_leaves_no_part(tmp_path):
    """A part whose manifest could not be written is taken back."""
    sink, ctx = Files(path=tmp_path / "chats"), Context(run="r1")
    (tmp_path / "chats/.muniment").mkdir(parents=True)
    unit = Unit("r1", 1, Checkpoint("p", "f", 5, 1), Counts(5, 5))
    with sink.open_target(ctx) as target, sink.open(ctx) as writer:
        (tmp_path / "chats/.muniment/manifests").write_text("in the way")
        writer.write(sink.encode(Batch("p", 1, some())))
        prepared = writer.seal(unit)
        with pytest.raises(FatalError, match="move it away"):
            target.commit([prepared], Fence("r1"))

    assert visible(tmp_path / "chats") == []
