"""How the storage of the sink `azure_blob` behaves at the edges, on Microsoft's emulator."""

import json
import os
import random
import threading

import pytest

from muniment import FatalError, TransientError
from muniment.canonical import to_json
from muniment.components import Context
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.azure_blob import AzureBlob
from services.http_proxy import ThrottlingProxy
from services.proxy import ChaosProxy, Faults

MIB = 2**20
BIG = os.urandom(3 * MIB + 12345)


@pytest.fixture
def open_storage(container, sink_on):
    opened = []

    def open_(**options):
        storage = sink_on(container, part_bytes=MIB, **options).storage()
        storage.sleep = lambda seconds: None
        opened.append(storage)
        return storage

    yield open_
    for storage in opened:
        storage.close()


@pytest.fixture
def storage(open_storage):
    return open_storage()


def staged(storage, name, data, step=100_000):
    """Return the token of an object that was staged and synced."""
    made = storage.stage(name)
    for start in range(0, len(data), step):
        made.write(data[start : start + step])
    made.close()
    storage.sync()
    return made.token


def read(storage, name):
    with storage.open(name) as stream:
        return stream.read()


class TestStaging:
    @pytest.mark.parametrize("data", [b"", b"small", BIG, BIG[: 2 * MIB]], ids=["empty", "small", "big", "even"])
    def test_it_shows_nothing_before_it_is_published(self, storage, data):
        token = staged(storage, "part", data)
        before = list(storage.list())
        storage.publish(token, "part", if_absent=True)

        assert before == []
        assert read(storage, "part") == data

    def test_it_is_published_by_another_session(self, open_storage):
        token = staged(open_storage(), "part", BIG)
        other = open_storage()
        other.publish(json.loads(json.dumps(token)), "part", if_absent=True)

        assert read(other, "part") == BIG

    def test_it_lists_names_at_which_others_have_only_blocks(self, open_storage):
        """They cannot be removed, but they are told."""
        staged(open_storage(), "part", BIG)
        other = open_storage()
        (found,) = other.staged()
        other.delete(found.name)

        assert json.loads(found.name) == {"name": "part"}
        assert list(other.staged()) == []

    def test_it_reads_what_stands_there_while_blocks_wait_beside_it(self, storage):
        storage.publish(staged(storage, "chat", b"first"), "chat")
        storage.sync()
        token = staged(storage, "chat", BIG)
        before = read(storage, "chat")
        storage.publish(token, "chat")
        storage.sync()

        assert (before, read(storage, "chat")) == (b"first", BIG)


class TestPublishing:
    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    def test_it_is_not_published_where_the_name_is_taken(self, storage, data):
        storage.publish(staged(storage, "part", b"first"), "part", if_absent=True)
        token = staged(storage, "part", data)

        with pytest.raises(FileExistsError):
            storage.publish(token, "part", if_absent=True)
        assert read(storage, "part") == b"first"

    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    def test_it_may_be_published_again(self, storage, data):
        """As after an answer that was lost."""
        token = staged(storage, "part", data)
        for _ in range(3):
            storage.publish(token, "part", if_absent=True)

        assert read(storage, "part") == data

    def test_it_lets_one_of_many_win(self, open_storage):
        """All staged before the first was published, then published at one time."""
        storages = [open_storage() for _ in range(5)]
        tokens = [staged(s, "part", bytes([i]) * 20) for i, s in enumerate(storages)]
        won = []

        def publish(i):
            try:
                storages[i].publish(tokens[i], "part", if_absent=True)
                won.append(i)
            except FileExistsError:
                pass

        threads = [threading.Thread(target=publish, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(won) == 1
        assert read(storages[0], "part") == bytes(won) * 20

    def test_it_gives_objects_what_the_options_say(self, open_storage, service, container):
        """Manifests stay in the tier of the account."""
        storage = open_storage(access_tier="Cool", metadata={"team": "legal"}, prefix="chats")
        names = ("part-1.jsonl", ".muniment/manifests/00000001.json")
        for name in names:
            storage.publish(staged(storage, name, b"x"), name, if_absent=True)
        part, manifest = (service.get_blob_client(container, f"chats/{n}").get_blob_properties() for n in names)

        assert (part.blob_tier, part.metadata["team"]) == ("Cool", "legal")
        assert manifest.blob_tier != "Cool"


class TestFaults:
    @pytest.mark.parametrize("mode", ["append", "mirror"])
    def test_503_is_retried(self, azurite, container, sink_on, tmp_path, mode):
        """A third of all requests is told to come later; the run does not notice."""
        records = some()
        with ThrottlingProxy(azurite.host, azurite.port, share=0.3, seed=4) as proxy:
            report = archive(hasty(proxy.endpoint, azurite, container, mode=mode), records, state_dir=tmp_path)

            assert report.exit_code == 0 and len(proxy.refused) > 3
        assert stored(sink_on(container, mode=mode), tmp_path) == plain(records)

    @pytest.mark.parametrize("seed", range(10))
    def test_cut_connections_lose_and_double_nothing(self, azurite, container, sink_on, tmp_path, seed):
        """After random numbers of bytes, in both directions, in runs that are repeated until one goes through."""
        drawn, records = random.Random(seed), some()
        mode = "mirror" if seed % 3 == 0 else "append"
        with ChaosProxy(azurite.host, azurite.port) as proxy:
            for number in range(20):
                cut = drawn.randrange(2_000, 900_000) if number < 15 else None
                proxy.faults = Faults(direction=drawn.choice(["up", "down"]), cut_after=cut)
                try:
                    archive(hasty(proxy.endpoint, azurite, container, mode=mode), records, state_dir=tmp_path)
                    break
                except (FatalError, TransientError):
                    continue

        assert stored(sink_on(container, mode=mode), tmp_path) == plain(records)

    def test_it_says_that_there_is_no_container(self, sink_on):
        with sink_on("nowhere").storage() as storage, pytest.raises(FatalError) as caught:
            list(storage.list())

        assert str(caught.value) == (
            "`azure container nowhere/`: there is no such container; make it first, or correct `container`, then run"
            " the same command again"
        )

    def test_it_says_that_a_key_is_wrong(self, container, sink_on, monkeypatch):
        monkeypatch.setenv("WRONG", "d3Jvbmc=")
        sink = sink_on(container, account_key=Secret("env:WRONG"))
        with sink.storage() as storage, pytest.raises(FatalError, match="the credentials are refused") as caught:
            storage.exists("a")

        assert "d3Jvbmc=" not in str(caught.value)

    def test_it_shows_no_signature_when_nobody_is_there(self, monkeypatch):
        """The client library would."""
        monkeypatch.setenv("SAS", "sv=2024-01-01&sig=hidden")
        with ChaosProxy("127.0.0.1", 9, Faults(refuse=True)) as proxy:
            sink = AzureBlob(account_url=f"{proxy.endpoint}/me", container="box", sas_token=Secret("env:SAS"))
            storage = sink.storage()
            storage.sleep = lambda seconds: None
            with storage, pytest.raises(TransientError) as caught:
                storage.exists("a")

        assert "cannot be reached for the moment" in str(caught.value)
        assert "hidden" not in str(caught.value) and caught.value.__cause__ is None


class Hasty(AzureBlob):
    """The sink, without waiting between attempts."""

    def storage(self):
        storage = super().storage()
        storage.sleep = lambda seconds: None
        return storage


def hasty(endpoint, server, container, **options):
    return Hasty(
        account_url=f"{endpoint}/{server.user}", container=container, part_bytes=MIB // 2,
        account_key=Secret("env:MUNIMENT_TEST_AZURE_KEY"), **options,
    )  # fmt: skip


def some(count=6, size=400_000):
    generator = random.Random(count)
    return [make_record(f"c{i}", [generator.randbytes(size // 2).hex()], title=f"Talk {i}") for i in range(count)]


def plain(records):
    return sorted(to_json((r.conversation, r.raw)) for r in records)


def stored(sink, state_dir):
    with sink.open_target(Context(run="reader", state_dir=state_dir)) as target:
        return plain(target.read_back())
