"""The sink `gcs` where the network and the store fail: retried within a budget, then resumed."""

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from muniment import Context, FatalError, TransientError
from muniment.canonical import to_json
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.gcs import GCS
from muniment_plugins.sinks.gcs.objects import ObjectOptions
from muniment_plugins.sinks.gcs.upload import Session, crc32c_of
from services.http_proxy import ThrottlingProxy
from services.proxy import ChaosProxy, Faults

GRAIN = 256 * 2**10


class Hasty(GCS):
    """The sink, without waiting between attempts."""

    def storage(self):
        storage = super().storage()
        storage.sleep = lambda seconds: None
        return storage


def hasty(endpoint, bucket, **options):
    return Hasty(bucket=bucket, endpoint_url=endpoint, anonymous=True, part_bytes=2 * GRAIN, **options)


def some(count=6, size=300_000):
    generator = random.Random(count)
    return [make_record(f"c{i}", [generator.randbytes(size // 2).hex()], title=f"Talk {i}") for i in range(count)]


def plain(records):
    return sorted(to_json((r.conversation, r.raw)) for r in records)


def stored(sink, state_dir):
    with sink.open_target(Context(run="reader", state_dir=state_dir)) as target:
        return plain(target.read_back())


def attempt_until_done(sink, records, state_dir, limit=40):
    """Run again as a user would, until a run has gone through."""
    for _ in range(limit):
        try:
            return archive(sink, records, state_dir=state_dir)
        except (FatalError, TransientError):
            continue
    raise AssertionError("no run went through")


@pytest.fixture
def bucket(strict):
    requests.post(f"{strict.endpoint}/storage/v1/b", json={"name": "b"}, timeout=10)
    return "b"


def survive(strict, bucket, tmp_path, seed):
    """Archive while a fifth of the requests go wrong, in runs that are repeated until one goes through."""
    mode = "mirror" if seed % 3 == 0 else "append"
    sink, records = hasty(strict.endpoint, bucket, mode=mode), some()
    faults = strict.random_faults(seed, 0.2)
    strict.before, strict.behind = faults.before, faults.behind
    report = attempt_until_done(sink, records, tmp_path)
    strict.before = strict.behind = lambda method, target: None

    counts = report.sinks["contract"]
    assert (counts.stored + counts.unchanged, counts.quarantined) == (len(records), 0)
    assert faults.count > 0
    assert stored(sink, tmp_path) == plain(records)


class TestRandomFaults:
    """Requests and answers are lost, chunks are kept in part, the store is busy."""

    @pytest.mark.parametrize("seed", range(10))
    def test_nothing_is_lost_doubled_or_torn(self, strict, bucket, tmp_path, seed):
        survive(strict, bucket, tmp_path, seed)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(10, 100))
    def test_nothing_is_lost_doubled_or_torn_in_many_runs(self, strict, bucket, tmp_path, seed):
        survive(strict, bucket, tmp_path, seed)


class TestKill:
    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_a_run_killed_in_the_middle_of_an_upload_leaves_nothing_to_see(self, strict, bucket, tmp_path, number):
        """SIGKILL while a chunk is on its way; the next run stores everything once."""
        (tmp_path / "run.py").write_text(
            "import sys\n"
            "from pathlib import Path\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from test_faults import hasty, some\n"
            "from muniment.testing.runs import archive\n"
            "archive(hasty(sys.argv[2], 'b'), some(), state_dir=Path(sys.argv[3]))\n"
        )
        arguments = [str(Path(__file__).parent), strict.endpoint, str(tmp_path)]
        services = str(Path(__file__).parents[3])
        started = threading.Event()
        left = [number]

        def kill(method, target):
            if method == "PUT":
                left[0] -= 1
                if left[0] == 0:
                    started.wait()
                    child.send_signal(signal.SIGKILL)
                    raise strict.lost

        strict.before = kill
        child = subprocess.Popen(
            [sys.executable, str(tmp_path / "run.py"), *arguments], env={"PYTHONPATH": services, "PATH": ""}
        )
        started.set()
        status = child.wait(timeout=60)
        seen = [n for n in strict.names("b") if not n.startswith(".muniment/")]
        strict.before = lambda method, target: None
        named = len([n for n in strict.names("b") if n.startswith(".muniment/manifests/")])
        archive(hasty(strict.endpoint, "b"), some(), state_dir=tmp_path)

        assert status == -signal.SIGKILL
        assert len(seen) == named
        assert stored(hasty(strict.endpoint, "b"), tmp_path) == plain(some())


class TestBusy:
    @pytest.mark.parametrize("mode", ["append", "mirror"])
    def test_503_is_retried(self, fake_gcs, new_bucket, tmp_path, mode):
        """A third of all requests is told to come later; the run does not notice.

        But for the chunks of large uploads: asked for the state of one, this emulator ends it.
        """
        bucket = new_bucket(fake_gcs.extra["endpoint"])
        with ThrottlingProxy(
            fake_gcs.host, fake_gcs.port, share=0.3, seed=4, only=lambda method, target: method != "PUT"
        ) as proxy:
            report = archive(hasty(proxy.endpoint, bucket, mode=mode), some(), state_dir=tmp_path)

            assert report.exit_code == 0 and len(proxy.refused) > 3
        assert stored(hasty(fake_gcs.extra["endpoint"], bucket, mode=mode), tmp_path / "other") == plain(some())

    def test_a_store_that_stays_busy_ends_the_run(self, fake_gcs, new_bucket):
        """After six attempts, with one clear sentence."""
        bucket = new_bucket(fake_gcs.extra["endpoint"])
        with ThrottlingProxy(fake_gcs.host, fake_gcs.port) as proxy:
            with hasty(proxy.endpoint, bucket).storage() as storage, pytest.raises(TransientError) as caught:
                storage.exists("a")

            assert str(caught.value) == (
                f"`gs://{bucket}/`: object `a` is not available for the moment: it answers 503"
            )
            assert len(proxy.refused) == 6


class TestNetwork:
    def test_an_upload_goes_on_from_what_the_store_holds(self, gcs_emulator, new_bucket):
        """The emulator that knows the state of an upload is asked for it, as often as it takes.

        But for one that holds nothing yet: there it says that it holds one byte.
        """
        data = random.Random(1).randbytes(20 * GRAIN + 7)
        endpoint = gcs_emulator.extra["endpoint"]
        bucket = new_bucket(endpoint)
        with (
            ThrottlingProxy(gcs_emulator.host, gcs_emulator.port, share=0.4, seed=1) as proxy,
            hasty(endpoint, bucket).storage() as storage,
        ):
            address = storage.api.start("part", ObjectOptions(), "mark", "")
            Session(storage.api, "part", address).send(data[: 2 * GRAIN], 0)
            session = Session(storage.api, "part", address.replace(endpoint, proxy.endpoint), lambda seconds: None)
            for start in range(2 * GRAIN, 20 * GRAIN, 2 * GRAIN):
                session.send(data[start : start + 2 * GRAIN], start)
            session.finish(data[20 * GRAIN :], 20 * GRAIN, crc32c_of(data))

            assert len(proxy.refused) > 3
            with storage.open("part") as stream:
                assert stream.read() == data

    def test_an_upload_that_the_store_ends_too_early_is_noticed(self, fake_gcs, new_bucket):
        """As the other emulator does when it is asked how far it is; the object is never taken for the whole."""
        endpoint = fake_gcs.extra["endpoint"]
        with (
            ThrottlingProxy(
                fake_gcs.host, fake_gcs.port, times=1, only=lambda method, target: method == "PUT"
            ) as proxy,
            hasty(proxy.endpoint, new_bucket(endpoint)).storage() as storage,
        ):
            staged = storage.stage("part")
            with pytest.raises(FatalError, match="has ended the upload of `part` before its end"):
                staged.write(bytes(10 * GRAIN))

    def test_a_download_goes_on_where_a_connection_broke(self, fake_gcs, new_bucket):
        """With the same version of the object."""
        data = random.Random(2).randbytes(20 * GRAIN + 7)
        endpoint = fake_gcs.extra["endpoint"]
        bucket = new_bucket(endpoint)
        with hasty(endpoint, bucket).storage() as storage:
            staged = storage.stage("part")
            staged.write(data)
            staged.close()
            storage.sync()
            storage.publish(staged.token, "part", if_absent=True)
        with ChaosProxy(fake_gcs.host, fake_gcs.port, Faults(direction="down", cut_after=5 * GRAIN)) as proxy:
            with hasty(proxy.endpoint, bucket).storage() as storage, storage.open("part") as stream:
                assert stream.read() == data

            assert proxy.cuts > 2

    def test_nobody_there_is_said_so(self, sink_on):
        """With the place, and the kind of error."""
        with ChaosProxy("127.0.0.1", 9, Faults(refuse=True)) as proxy:
            storage = hasty(proxy.endpoint, "b").storage()
            with storage, pytest.raises(TransientError) as caught:
                storage.exists("a")

        assert str(caught.value) == ("`gs://b/`: object `a` cannot be reached for the moment (ConnectionError)")

    def test_a_server_that_stands_still_is_not_waited_for_without_end(self, own_fake_gcs, tmp_path, new_bucket):
        """SIGSTOP: each answer is waited for as long as the option says; the next run stores everything once."""
        server = own_fake_gcs()
        endpoint = server.extra["endpoint"]
        sink = hasty(endpoint, new_bucket(endpoint), timeout_seconds=0.3)
        server.pause()

        with pytest.raises(TransientError, match="cannot be reached for the moment"):
            archive(sink, some(), state_dir=tmp_path)
        server.resume()
        archive(sink, some(), state_dir=tmp_path)
        assert stored(sink, tmp_path) == plain(some())

    def test_a_server_killed_and_started_again_has_what_was_committed(self, own_fake_gcs, tmp_path, new_bucket):
        """SIGKILL between two runs' units: the run ends, the next one goes on."""
        server = own_fake_gcs()
        endpoint = server.extra["endpoint"]
        sink = hasty(endpoint, new_bucket(endpoint))
        archive(sink, some(4), state_dir=tmp_path)
        server.kill()
        with pytest.raises(TransientError):
            archive(sink, some(6), state_dir=tmp_path)
        server.restart()
        report = archive(sink, some(6), state_dir=tmp_path)

        assert report.exit_code == 0
        assert [k for k in stored(sink, tmp_path) if k in plain(some(6))] == plain(some(6))
