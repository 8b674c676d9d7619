"""The sink `s3` where the network and the store fail: retried within a budget, then resumed."""

import contextlib
import random
import signal
import subprocess
import sys
import time

import pytest

from muniment import FatalError, TransientError
from muniment.canonical import to_json
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.s3 import client as client_module
from services.http_proxy import ThrottlingProxy
from services.proxy import ChaosProxy, Faults

MIB = 2**20
SIZE = 60_000


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    """A tenth of a second for each attempt; what the store itself asks for is waited for."""
    monkeypatch.setattr(client_module, "_back_off", lambda attempt: 0.1 * min(attempt, 10))


def some(count=6):
    generator = random.Random(count)
    return [make_record(f"c{i}", [generator.randbytes(SIZE // 2).hex()], title=f"Talk {i}") for i in range(count)]


def stored(sink, state_dir):
    from muniment import Context

    with sink.open_target(Context(run="reader", state_dir=state_dir)) as target:
        return sorted(to_json((r.conversation, r.raw)) for r in target.read_back())


def plain(records):
    return sorted(to_json((r.conversation, r.raw)) for r in records)


def attempt_until_done(sink, records, state_dir, limit=40):
    """Run again as a user would, until a run has gone through."""
    for number in range(1, limit):
        try:
            archive(sink, records, state_dir=state_dir)
        except (FatalError, TransientError):
            continue
        return number
    raise AssertionError("no run went through")


def put(storage, name, data, *, if_absent=False):
    staged = storage.stage(name)
    for start in range(0, len(data), MIB):
        staged.write(data[start : start + MIB])
    staged.close()
    storage.sync()
    storage.publish(staged.token, name, if_absent=if_absent)
    storage.sync()


def uploads(client, bucket, prefix):
    return client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])


class TestBusy:
    @pytest.mark.parametrize("mode", ["append", "mirror"])
    def test_503_is_retried(self, seaweedfs, bucket, prefix, sink_on, tmp_path, mode):
        """A third of all requests is told to slow down; the run does not notice."""
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, share=0.3, seed=4) as proxy:
            sink = sink_on(seaweedfs, bucket, prefix=prefix, mode=mode, endpoint=proxy.endpoint, max_attempts=20)
            report = archive(sink, some(), state_dir=tmp_path)

            assert report.exit_code == 0 and len(proxy.refused) > 3
        assert stored(sink_on(seaweedfs, bucket, prefix=prefix, mode=mode), tmp_path) == plain(some())

    def test_a_store_that_stays_busy_ends_the_run(self, seaweedfs, bucket, prefix, make_storage):
        """One clear sentence, after `max_attempts`."""
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port) as proxy:
            storage = make_storage(endpoint_url=proxy.endpoint, max_attempts=2)
            with pytest.raises(
                TransientError, match=f"^bucket `{bucket}` at http://.* is busy or failing for the moment .503.$"
            ):
                storage.exists("a")

            assert len(proxy.refused) == 2

    def test_it_waits_as_long_as_the_store_asks(self, seaweedfs, bucket, prefix, make_storage):
        """`Retry-After` counts, up to a minute."""
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, times=1, retry_after=1) as proxy:
            storage = make_storage(endpoint_url=proxy.endpoint)
            begun = time.monotonic()
            assert not storage.exists("a")

            assert time.monotonic() - begun >= 1

    def test_sync_does_again_what_failed_for_the_moment(self, seaweedfs, bucket, prefix, make_storage):
        """A name that could not be published is published by the next sync; nobody has to ask again."""
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, times=1, only=lambda m, t: m == "PUT") as proxy:
            storage = make_storage(endpoint_url=proxy.endpoint, max_attempts=1)
            staged = storage.stage("a.bin")
            staged.write(b"1")
            staged.close()
            storage.publish(staged.token, "a.bin")
            with pytest.raises(TransientError):
                storage.sync()
            storage.sync()

            assert storage.exists("a.bin")

    def test_a_lost_answer_is_no_other_run(self, seaweedfs, bucket, prefix, make_storage):
        """The store has put the object, its answer is lost: the second attempt finds its own."""
        with ChaosProxy(seaweedfs.host, seaweedfs.port) as proxy:
            storage = make_storage(endpoint_url=proxy.endpoint)
            staged = storage.stage(".muniment/manifests/00000001.json")
            staged.write(b"{}")
            staged.close()
            proxy.faults = Faults(direction="down", cut_after=10)
            storage.bucket = _healing(storage.bucket, proxy)
            storage.publish(staged.token, ".muniment/manifests/00000001.json", if_absent=True)

            assert proxy.cuts >= 1
            assert make_storage().open(".muniment/manifests/00000001.json").read() == b"{}"


def _healing(bucket, proxy):
    """Return the bucket with a sleep that ends the fault instead of waiting."""
    import attrs

    def sleep(seconds):
        proxy.faults = Faults()

    return attrs.evolve(bucket, sleep=sleep)


class TestBrokenConnections:
    def test_an_upload_survives_resets(self, seaweedfs, bucket, prefix, make_storage):
        """Each connection dies after 9 MiB; parts are sent again, and the object is whole."""
        data = random.Random(1).randbytes(20 * MIB)
        with ChaosProxy(seaweedfs.host, seaweedfs.port, Faults(direction="up", cut_after=9 * MIB)) as proxy:
            put(make_storage(endpoint_url=proxy.endpoint, part_bytes=5 * MIB, max_attempts=20), "a.bin", data)

            assert proxy.cuts > 0
        with make_storage().open("a.bin") as stream:
            assert stream.read() == data

    def test_a_download_goes_on_where_it_broke(self, seaweedfs, bucket, prefix, make_storage):
        """By range, and the checksum is still that of the whole."""
        data = random.Random(2).randbytes(12 * MIB)
        put(make_storage(), "a.bin", data)
        with ChaosProxy(seaweedfs.host, seaweedfs.port, Faults(direction="down", cut_after=3 * MIB)) as proxy:
            with make_storage(endpoint_url=proxy.endpoint).open("a.bin") as stream:
                assert stream.read() == data

            assert proxy.cuts >= 3

    def test_an_object_that_was_replaced_meanwhile_is_not_mixed(self, seaweedfs, bucket, prefix, make_storage):
        """The rest of another object is no rest."""
        put(make_storage(), "a.bin", bytes(6 * MIB))
        with (
            ChaosProxy(seaweedfs.host, seaweedfs.port, Faults(direction="down", cut_after=3 * MIB)) as proxy,
            make_storage(endpoint_url=proxy.endpoint).open("a.bin") as stream,
        ):
            stream.read(MIB)
            put(make_storage(), "a.bin", b"1" * 6 * MIB)

            with pytest.raises(FatalError, match="replaced while it was read"):
                stream.read()


WRITE = """
import json, sys, time
from muniment.secrets import Secret
from muniment_plugins.sinks.s3 import S3
sink = S3(access_key_id=Secret("env:A"), secret_access_key=Secret("env:B"), **json.loads(sys.argv[1]))
staged = sink.storage().stage("part-00000001-r.jsonl")
for _ in range(12):
    staged.write(bytes(2**20))
staged._storage.background.settle()
print("sent", flush=True)
time.sleep(60)
"""


def test_a_kill_leaves_an_upload_that_is_aborted_when_it_is_old(seaweedfs, bucket, prefix, client, sink_on, tmp_path):
    """Nothing is visible; a run of today leaves the upload alone, one for which it is old aborts it."""
    import json
    import os

    options = {
        "bucket": bucket, "prefix": prefix, "endpoint_url": seaweedfs.extra["endpoint"], "path_style": True,
        "region": "us-east-1", "part_bytes": 5 * MIB,
    }  # fmt: skip
    keys = {"A": seaweedfs.user, "B": seaweedfs.password}
    command = [sys.executable, "-c", WRITE, json.dumps(options)]
    child = subprocess.Popen(command, env={**os.environ, **keys}, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout.readline() == "sent\n"
        child.send_signal(signal.SIGKILL)

    assert len(uploads(client, bucket, prefix)) == 1
    assert not client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents")
    archive(sink_on(seaweedfs, bucket, prefix=prefix), some(1), state_dir=tmp_path)
    assert len(uploads(client, bucket, prefix)) == 1
    archive(sink_on(seaweedfs, bucket, prefix=prefix, abort_uploads_after_days=0), some(1), state_dir=tmp_path)
    assert uploads(client, bucket, prefix) == []


class TestRandomFaults:
    """Connections that die anywhere, requests that are refused: run again until a run goes through."""

    @pytest.mark.parametrize("mode", ["append", "mirror"])
    def test_ten(self, seaweedfs, bucket, prefix, sink_on, tmp_path, mode):
        """Nothing lost, nothing doubled, nothing torn."""
        self._disturb(seaweedfs, bucket, prefix, sink_on, tmp_path, mode, 5)

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    @pytest.mark.parametrize("mode", ["append", "mirror"])
    def test_a_hundred(self, seaweedfs, bucket, prefix, sink_on, tmp_path, mode):
        """The same, longer."""
        self._disturb(seaweedfs, bucket, prefix, sink_on, tmp_path, mode, 50)

    def _disturb(self, seaweedfs, bucket, prefix, sink_on, tmp_path, mode, rounds):
        dice, cuts, records = random.Random(rounds), 0, []
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, share=0.05, seed=rounds) as proxy:
            sink = sink_on(
                seaweedfs, bucket, prefix=prefix, mode=mode, endpoint=proxy.endpoint, part_bytes=5 * MIB, max_attempts=3
            )
            for number in range(rounds):
                records += [make_record(f"r{number}-{i}", [dice.randbytes(SIZE).hex()]) for i in range(3)]
                proxy.faults = Faults(
                    direction=dice.choice(["up", "down", "both"]), cut_after=dice.randrange(1_000, 500_000)
                )
                proxy.reset()
                before = proxy.cuts
                with contextlib.suppress(FatalError, TransientError):
                    archive(sink, records, state_dir=tmp_path, max_unit_records=2)
                cuts += proxy.cuts - before
                proxy.faults = Faults()
                attempt_until_done(sink, records, tmp_path)
            refused = len(proxy.refused)

        assert cuts + refused >= 2 * rounds
        clean = sink_on(seaweedfs, bucket, prefix=prefix, mode=mode)
        assert stored(clean, tmp_path) == plain(records)


class TestServer:
    def test_killed_and_back_within_the_budget(self, own_seaweedfs, client_of, sink_on, tmp_path):
        """A store that dies in the middle of a run and comes back is waited for."""
        import threading

        server = own_seaweedfs()
        client_of(server).create_bucket(Bucket="killed")
        sink = sink_on(server, "killed", part_bytes=5 * MIB, max_attempts=20)
        archive(sink, some(6)[:2], state_dir=tmp_path)
        server.kill()
        back = threading.Timer(1, server.restart)
        back.start()
        try:
            with sink.storage() as storage:
                put(storage, "late.bin", bytes(6 * MIB), if_absent=True)
        finally:
            back.join()
        archive(sink, some(6), state_dir=tmp_path)

        assert stored(sink, tmp_path) == plain(some(6))

    def test_paused_for_a_while(self, own_seaweedfs, client_of, sink_on, tmp_path):
        """A store that stands still is waited for."""
        import threading

        server = own_seaweedfs()
        client_of(server).create_bucket(Bucket="paused")
        sink = sink_on(server, "paused")
        with sink.storage() as storage:
            server.pause()
            back = threading.Timer(1, server.resume)
            back.start()
            put(storage, "a.bin", b"1", if_absent=True)
            back.join()

            assert storage.exists("a.bin")
