"""How the storage of the sink `gcs` behaves at the edges, on a server that refuses what Google's refuses."""

import json
import os
import threading

import pytest
import requests

from muniment.errors import ConfigError, FatalError, TargetBusyError, TransientError

GRAIN = 256 * 2**10


@pytest.fixture
def bucket(strict):
    """A bucket of the strict server whose objects can be retained."""
    requests.post(f"{strict.endpoint}/storage/v1/b", json={"name": "b", "objectRetention": True}, timeout=10)
    return "b"


@pytest.fixture
def open_storage(strict, bucket, sink_on):
    opened = []

    def open_(**options):
        storage = sink_on(strict.endpoint, bucket, part_bytes=2 * GRAIN, **options).storage()
        storage.sleep = lambda seconds: None
        storage.check_conditions()
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


BIG = os.urandom(5 * GRAIN + 12345)


class TestStaging:
    """What waits is not seen."""

    @pytest.mark.parametrize("data", [b"", b"small", BIG, BIG[: 4 * GRAIN]], ids=["empty", "small", "big", "even"])
    def test_it_shows_nothing_before_it_is_published(self, storage, strict, bucket, data):
        """Neither a listing nor a look at the bucket knows of it; then it is there, whole."""
        token = staged(storage, "part", data)
        before = (list(storage.list()), strict.names(bucket))
        storage.publish(token, "part", if_absent=True)

        assert before == ([], [".muniment/probe"])
        assert read(storage, "part") == data

    def test_it_is_published_by_another_session(self, open_storage):
        """The token is all that it takes, and it is text."""
        token = staged(open_storage(), "part", BIG)
        other = open_storage()
        other.publish(json.loads(json.dumps(token)), "part", if_absent=True)

        assert read(other, "part") == BIG

    def test_it_keeps_in_its_token_only_what_completes_a_large_object(self, storage):
        """The rest is in the session, of which the token holds the address."""
        assert len(staged(storage, "part", BIG)) < GRAIN * 4 / 3 + 1000

    def test_it_ends_a_session_that_is_discarded(self, storage, strict):
        """Nothing is left to expire."""
        made = storage.stage("part")
        made.write(BIG)
        made.discard()

        assert len(strict.cancelled) == 1
        assert list(storage.staged()) == []

    def test_it_ends_the_session_of_a_token_that_is_deleted(self, open_storage, strict):
        """In another process, too."""
        token = staged(open_storage(), "part", BIG)
        other = open_storage()
        other.delete(token)
        other.delete(token)

        assert (len(strict.uploads), len(strict.cancelled)) == (0, 1)

    def test_it_sends_no_more_than_a_chunk_ahead(self, storage, strict):
        """Memory holds two chunks, whatever the size of the object."""
        made = storage.stage("part")
        for _ in range(40):
            made.write(bytes(GRAIN))
            assert made._held <= storage.part_bytes + 2 * GRAIN
        made.close()
        storage.sync()

        assert len(strict.uploads["u0"].data) == 39 * GRAIN


class TestPublishing:
    """One wins, and publishing twice is publishing once."""

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

    @pytest.mark.parametrize("size", [20, 3 * GRAIN], ids=["small", "big"])
    def test_it_lets_one_of_many_win(self, open_storage, size):
        """All staged before the first was published, then published at one time."""
        storages = [open_storage() for _ in range(6)]
        data = [bytes([i]) * size for i in range(6)]
        tokens = [staged(s, "part", d) for s, d in zip(storages, data, strict=True)]
        won = []

        def publish(i):
            try:
                storages[i].publish(tokens[i], "part", if_absent=True)
                won.append(i)
            except FileExistsError:
                pass

        threads = [threading.Thread(target=publish, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(won) == 1
        assert read(storages[0], "part") == data[won[0]]

    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    def test_it_replaces(self, storage, data):
        storage.publish(staged(storage, "part", b"first"), "part")
        storage.sync()
        storage.publish(staged(storage, "part", data), "part")
        storage.sync()

        assert read(storage, "part") == data

    def test_it_replaces_only_what_it_has_seen(self, open_storage):
        """A large object is bound to what stood at its name when its upload began."""
        one, other = open_storage(), open_storage()
        token = staged(one, "chat", BIG)
        other.publish(staged(other, "chat", b"newer"), "chat")
        other.sync()
        one.publish(token, "chat")

        with pytest.raises(TargetBusyError, match="was written by another run meanwhile"):
            one.sync()
        assert read(other, "chat") == b"newer"

    def test_it_takes_the_same_bytes_from_another_for_its_own(self, open_storage):
        """As two runs that store one asset do."""
        one, other = open_storage(), open_storage()
        token = staged(one, "asset", BIG)
        other.publish(staged(other, "asset", BIG), "asset")
        other.sync()
        one.publish(token, "asset")
        one.sync()

        assert read(one, "asset") == BIG


class TestLostAnswers:
    """What is not known is asked."""

    @pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    @pytest.mark.parametrize("if_absent", [False, True])
    def test_it_publishes_once(self, storage, strict, bucket, data, behind, if_absent):
        """Whether the request was lost or its answer."""
        token = staged(storage, "part", data)
        lose_next(strict, "POST" if data == b"small" else "PUT", behind=behind)
        storage.publish(token, "part", if_absent=if_absent)
        storage.sync()

        assert read(storage, "part") == data
        assert strict.resource(bucket, "part")["generation"] == "1002"

    @pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
    @pytest.mark.parametrize("number", [1, 2])
    def test_it_goes_on_with_a_chunk(self, storage, strict, behind, number):
        """From what the session says that it holds."""
        lose_next(strict, "PUT", behind=behind, number=number)
        storage.publish(staged(storage, "part", BIG), "part", if_absent=True)

        assert read(storage, "part") == BIG

    def test_it_goes_on_where_a_part_of_a_chunk_was_kept(self, storage, strict):
        """The server may keep less than was sent."""
        strict.keeps_at_most = GRAIN
        storage.publish(staged(storage, "part", BIG), "part", if_absent=True)

        assert read(storage, "part") == BIG

    def test_it_goes_on_with_a_download(self, storage, strict):
        """With the same version, from where it was."""
        storage.publish(staged(storage, "part", BIG), "part", if_absent=True)
        with storage.open("part") as stream:
            start = stream.read(1000)
            stream.raw._response.raw._fp.close()
            rest = stream.read()

        assert start + rest == BIG

    @pytest.mark.parametrize("seed", range(10))
    def test_it_stores_all_of_it_under_random_faults(self, open_storage, strict, bucket, seed):
        """Nothing is lost, doubled or torn."""
        run_with_faults(open_storage, strict, bucket, seed)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(100, 190))
    def test_it_stores_all_of_it_under_many_random_faults(self, open_storage, strict, bucket, seed):
        """Nothing is lost, doubled or torn."""
        run_with_faults(open_storage, strict, bucket, seed)


class TestRefusals:
    """What is refused is told, with the remedy."""

    def test_it_says_that_there_is_no_bucket(self, sink_on, strict):
        with sink_on(strict.endpoint, "nowhere").storage() as storage, pytest.raises(FatalError) as caught:
            list(storage.list())

        assert str(caught.value) == (
            "`gs://nowhere/`: there is no such bucket, or it is not shown to these credentials; make it first"
        )

    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    def test_it_names_the_permission_that_is_lacking(self, storage, strict, data):
        strict.denied.add("storage.objects.create")

        with pytest.raises(FatalError) as caught:
            storage.publish(staged(storage, "part", data), "part", if_absent=True)
        assert str(caught.value).endswith(
            ": the credentials lack the permission `storage.objects.create` (403); grant it, then run the same command"
            " again"
        )

    def test_it_says_that_credentials_are_not_valid(self, storage, strict):
        refuse_all(strict, 401, "authError")

        with pytest.raises(FatalError, match=r"the credentials are not valid \(401\); renew them"):
            storage.exists("part")

    @pytest.mark.parametrize(("status", "reason"), [(429, "rateLimitExceeded"), (403, "userRateLimitExceeded")])
    def test_it_waits_as_long_as_a_limit_asks_for(self, storage, strict, status, reason):
        waited = []
        storage.sleep = waited.append
        refuse_all(strict, status, reason, headers={"Retry-After": "7"})

        with pytest.raises(TransientError, match="it limits the rate of requests"):
            storage.exists("part")
        assert waited == [7.0] * 5

    def test_it_says_that_a_retention_policy_keeps_what_it_would_replace(self, strict, sink_on):
        """The policy is the bucket's."""
        policy = {"name": "kept", "retentionPolicy": {"retentionPeriod": "3600"}}
        requests.post(f"{strict.endpoint}/storage/v1/b", json=policy, timeout=10)
        with sink_on(strict.endpoint, "kept").storage() as storage:
            storage.publish(staged(storage, "chat", b"1"), "chat")
            storage.sync()
            storage.publish(staged(storage, "chat", b"2"), "chat")

            with pytest.raises(FatalError, match=r"is kept by a retention policy or a hold.*use `mode: append`"):
                storage.sync()

    def test_it_needs_no_right_to_delete(self, open_storage, strict):
        """Neither staged nor published objects leave anything to remove."""
        strict.denied.add("storage.objects.delete")
        storage = open_storage()
        for name, data in (("a", b"small"), ("b", BIG)):
            storage.publish(staged(storage, name, data), name, if_absent=True)

        assert strict.names("b")[-2:] == ["a", "b"]
        assert not [target for method, target in strict.seen if method == "DELETE"]

    def test_it_does_not_take_bytes_that_changed_on_their_way(self, storage, monkeypatch):
        """The server compares the checksum of the whole object."""
        token = json.loads(staged(storage, "part", BIG))
        token["crc32c"] = "AAAAAA=="

        with pytest.raises(FatalError, match="the bytes that arrived are not those that were sent"):
            storage.publish(json.dumps(token), "part", if_absent=True)
        assert not storage.exists("part")

    def test_it_does_not_give_damaged_bytes(self, storage, strict, bucket):
        """A download is compared with the checksum of the object."""
        storage.publish(staged(storage, "part", BIG), "part", if_absent=True)
        resource, data = strict.objects[bucket, "part"]
        strict.objects[bucket, "part"] = (resource, data[:-1] + bytes([data[-1] ^ 1]))

        with pytest.raises(FatalError, match="object `part` is damaged"):
            read(storage, "part")

    def test_it_says_that_an_upload_is_gone(self, storage, strict):
        """As after a week."""
        token = staged(storage, "part", BIG)
        strict.uploads.clear()

        with pytest.raises(FatalError, match="the upload of `part` is not known any more"):
            storage.publish(token, "part", if_absent=True)

    def test_it_never_shows_the_address_of_an_upload(self, storage, strict):
        """It is all that it takes to write."""
        token = staged(storage, "part", BIG)
        refuse_all(strict, 503, "backendError")

        with pytest.raises(TransientError) as caught:
            storage.publish(token, "part", if_absent=True)
        assert "upload_id" not in str(caught.value)
        assert caught.value.__cause__ is None


class TestOptions:
    """What new objects are given."""

    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    def test_it_gives_objects_what_the_options_say(self, open_storage, strict, bucket, data):
        storage = open_storage(
            prefix="chats", storage_class="NEARLINE", kms_key_name="projects/p/k", metadata={"team": "legal"},
            object_lock=lock(mode="locked", retain_days=30), temporary_hold=True, event_based_hold=True,
        )  # fmt: skip
        storage.publish(staged(storage, "part-1.jsonl.zst", data), "part-1.jsonl.zst", if_absent=True)
        resource = strict.resource(bucket, "chats/part-1.jsonl.zst")

        assert resource["storageClass"] == "NEARLINE"
        assert resource["kmsKeyName"] == "projects/p/k/cryptoKeyVersions/1"
        assert resource["metadata"]["team"] == "legal"
        assert resource["retention"]["mode"] == "Locked"
        assert (resource["temporaryHold"], resource["eventBasedHold"]) == (True, True)
        assert resource["contentType"] == "application/zstd"

    def test_it_leaves_manifests_in_the_class_of_the_bucket(self, open_storage, strict, bucket):
        """Every run reads them."""
        storage = open_storage(storage_class="ARCHIVE")
        name = ".muniment/manifests/00000001.json"
        storage.publish(staged(storage, name, b"{}"), name, if_absent=True)

        assert strict.resource(bucket, name)["storageClass"] == "STANDARD"

    def test_it_lists_many_pages(self, open_storage, strict):
        """Names below the prefix, and no others."""
        strict.page_size = 3
        open_storage().publish(staged(open_storage(), "other", b"x"), "other", if_absent=True)
        storage = open_storage(prefix="chats/")
        for i in range(8):
            storage.publish(staged(storage, f"c{i}", b"x" * i), f"c{i}")
        storage.sync()

        assert {(s.name, s.size) for s in storage.list("c")} == {(f"c{i}", i) for i in range(8)}

    def test_it_asks_a_store_once_whether_it_honours_preconditions(self, open_storage, strict):
        """By an object of its own that stays, and is in no listing."""
        storage = open_storage()
        before = len(strict.seen)
        storage.check_conditions()

        assert (before, len(strict.seen)) == (3, 3)
        assert list(storage.list()) == []

    def test_it_refuses_a_store_that_ignores_preconditions(self, gcs_emulator, new_bucket, sink_on):
        endpoint = gcs_emulator.extra["endpoint"]
        with (
            sink_on(endpoint, new_bucket(endpoint)).storage() as storage,
            pytest.raises(ConfigError, match="does not honour `ifGenerationMatch`"),
        ):
            storage.check_conditions()

    def test_it_goes_on_with_such_a_store_where_it_is_told_to(self, gcs_emulator, new_bucket, sink_on, caplog):
        endpoint = gcs_emulator.extra["endpoint"]
        with sink_on(endpoint, new_bucket(endpoint), conditional_writes="auto").storage() as storage:
            storage.publish(staged(storage, "part", b"1"), "part", if_absent=True)
            token = staged(storage, "part", b"2")

            with pytest.raises(FileExistsError):
                storage.publish(token, "part", if_absent=True)
        assert "does not honour `ifGenerationMatch`; going on" in caplog.text


def lock(**options):
    from muniment_plugins.sinks._retention import Retention

    return Retention(**options)


def lose_next(strict, method, *, behind, number=1):
    """Cut the connection of the ``number``-th request of a method: before it is carried out, or behind."""
    left = [number]

    def fault(found, target):
        if found == method:
            left[0] -= 1
            if left[0] == 0:
                raise strict.lost

    setattr(strict, "behind" if behind else "before", fault)


def refuse_all(strict, status, reason, headers=None):

    def fault(method, target):
        raise strict.refused(status, reason, "Later.", headers)

    strict.before = fault


def run_with_faults(open_storage, strict, bucket, seed):
    """Publish objects of all sizes while a tenth of the requests go wrong."""
    import random

    drawn = random.Random(seed)
    faults = strict.random_faults(seed, 0.1)
    strict.before, strict.behind = faults.before, faults.behind
    storage = open_storage()
    expected = {}
    for i in range(6):
        data = drawn.randbytes(drawn.choice([0, 10, GRAIN, GRAIN + 1, 3 * GRAIN, 900_000]))
        token = staged(storage, f"o{i}", data)
        for _ in range(drawn.choice([1, 2])):
            storage.publish(token, f"o{i}", if_absent=i % 2 == 0)
        expected[f"o{i}"] = data
    storage.sync()
    strict.before = strict.behind = lambda method, target: None

    assert {n: read(storage, n) for n in expected} == expected
    assert strict.names(bucket) == sorted([*expected, ".muniment/probe"])
