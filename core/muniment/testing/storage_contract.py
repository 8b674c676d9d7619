"""What must every storage do?  Tests to inherit.

A test class for a storage is a fixture and a line::

    from muniment.testing import StorageContract

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage_factory(self, bucket):
            return lambda: MyStorage(bucket)

``storage_factory`` gives a new session each time it is called, on one place that was empty before the
test.  What `Capabilities` leaves out is not asked for.
"""

import threading
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from muniment.storage import Staged, Storage

StorageFactory = Callable[[], Storage]

NAMES = (
    "plain.txt", "a b.txt", " lead and trail ", "ü/数据/😀.md", "100%.txt", "%41%2F", "a+b=c&d?e#f", "~tilde~",
    "quote'\"`", "star*[x]{y}", "semi;colon,comma", "-dash", "a.b..c", ".hidden/file", "ends.", "x" * 180,
    "deep/" * 12 + "end", "Case", "case", "e\u0301", "\u00e9",
)  # fmt: skip
"""Names that some place spells in another way."""
BAD_NAMES = ("", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\0b", "a\\b")
PUBLISHERS = 8


class StorageContract:
    """Staged, then published whole; confined; the same in every session."""

    many: ClassVar[int] = 1100
    """How many objects the listing is tried with: more than a page of any service; fewer where that takes minutes."""
    large_bytes: ClassVar[int] = 20 * 2**20
    write_bytes: ClassVar[int] = 64 * 2**10 - 7

    @pytest.fixture
    def storage(self, storage_factory: StorageFactory) -> Iterator[Storage]:
        """A session on the place."""
        with storage_factory() as storage:
            yield storage

    # --- how an object comes to be -------------------------------------------------------------

    def put(self, storage: Storage, name: str, data: bytes = b"data", *, if_absent: bool = False) -> None:
        """Stage and publish an object, in the order that makes it safe."""
        staged = self.stage(storage, name, data)
        storage.publish(staged.token, name, if_absent=if_absent)
        storage.sync()

    def stage(self, storage: Storage, name: str, data: bytes = b"data") -> Staged:
        """Stage an object up to where it can be published."""
        staged = storage.stage(name)
        staged.write(data)
        staged.close()
        storage.sync()
        return staged

    def read(self, storage: Storage, name: str) -> bytes:
        with storage.open(name) as stream:
            return stream.read()

    def names(self, storage: Storage, prefix: str = "") -> list[str]:
        return sorted(s.name for s in storage.list(prefix))

    # --- the checks ----------------------------------------------------------------------------

    def test_it_shows_nothing_before_publish(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """A staged object has no name, in no session."""
        self.stage(storage, "a/b")

        with storage_factory() as other:
            for one in (storage, other):
                assert list(one.list()) == [], "a staged object is listed; it must be invisible until `publish`"
                assert not one.exists("a/b")
                with pytest.raises(FileNotFoundError):
                    one.open("a/b")

    def test_it_gives_back_what_was_published(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """All the bytes, under the name, in every session; nothing is staged any more."""
        self.put(storage, "a/b.txt", b"some\0bytes\xff")

        with storage_factory() as other:
            for one in (storage, other):
                assert self.read(one, "a/b.txt") == b"some\0bytes\xff"
                assert one.exists("a/b.txt") and not one.exists("a/b") and not one.exists("a")
                assert [(s.name, s.size) for s in one.list()] == [("a/b.txt", 11)]
                assert list(one.staged()) == [], "what was published is no longer staged"

    def test_it_stores_nothing_but_zero_bytes(self, storage: Storage) -> None:
        """An object may be empty, written to or not."""
        self.put(storage, "empty", b"")
        staged = storage.stage("untouched")
        staged.close()
        storage.sync()
        storage.publish(staged.token, "untouched")
        storage.sync()

        assert self.read(storage, "empty") == self.read(storage, "untouched") == b""
        assert {(s.name, s.size) for s in storage.list()} == {("empty", 0), ("untouched", 0)}

    def test_it_takes_a_large_object_in_small_writes(self, storage: Storage) -> None:
        """Pieces of any size, many of them, make one object."""
        piece = bytes(range(256)) * (self.write_bytes // 256) + b"x" * (self.write_bytes % 256)
        count = -(-self.large_bytes // len(piece))
        staged = storage.stage("large.bin")
        for _ in range(count):
            staged.write(piece)
        staged.close()
        storage.sync()
        storage.publish(staged.token, "large.bin")
        storage.sync()

        assert [s.size for s in storage.list()] == [count * len(piece)]
        with storage.open("large.bin") as stream:
            for number in range(count):
                assert stream.read(len(piece)) == piece, f"piece {number} came back changed"
            assert stream.read(1) == b""

    def test_it_writes_several_objects_at_once(self, storage: Storage) -> None:
        """Up to `Capabilities.max_open` of them, in turns."""
        count = min(storage.capabilities.max_open, 12)
        staged = [storage.stage(f"o{i}") for i in range(count)]
        for turn in range(3):
            for i, one in enumerate(staged):
                one.write(b"%d-%d " % (i, turn))
        for one in staged:
            one.close()
        storage.sync()
        for i, one in enumerate(staged):
            storage.publish(one.token, f"o{i}")
        storage.sync()

        for i in range(count):
            assert self.read(storage, f"o{i}") == b"%d-0 %d-1 %d-2 " % (i, i, i)

    def test_it_takes_any_name(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """Blanks, signs, other alphabets: what was given is what is listed, and names that look alike stay apart."""
        for name in NAMES:
            self.put(storage, name, name.encode())

        with storage_factory() as other:
            assert set(self.names(other)) == set(NAMES)
            for name in NAMES:
                assert self.read(other, name) == name.encode(), f"`{name}` holds the bytes of another name"
                assert other.exists(name)
                assert self.names(other, name) == sorted(n for n in NAMES if n.startswith(name))

    @pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
    def test_it_refuses_names_that_lead_out(self, storage: Storage, name: str) -> None:
        """No name reaches anything outside; `muniment.storage.check_name` says which."""
        with pytest.raises(ValueError, match="is no name of an object"):
            storage.stage(name)

    def test_it_lists_by_prefix(self, storage: Storage) -> None:
        """A prefix may end inside a name or a folder; it is text, not a pattern."""
        for name in ("part-1", "part-2", "parts/x/y", "other", "p*"):
            self.put(storage, name)

        assert self.names(storage, "part") == ["part-1", "part-2", "parts/x/y"]
        assert self.names(storage, "parts/") == ["parts/x/y"]
        assert self.names(storage, "p*") == ["p*"]
        assert self.names(storage, "none/") == []

    def test_it_lists_many(self, storage: Storage) -> None:
        """Every object once, however many pages the place needs."""
        names = [f"many/{i % 7}/{i:05}" for i in range(self.many)]
        for start in range(0, len(names), 50):
            some = names[start : start + 50]
            tokens = []
            for name in some:
                staged = storage.stage(name)
                staged.write(name.encode())
                staged.close()
                tokens.append(staged)
            storage.sync()
            for staged, name in zip(tokens, some, strict=True):
                storage.publish(staged.token, name)
            storage.sync()

        assert self.names(storage) == sorted(names)
        assert self.names(storage, "many/3/") == sorted(n for n in names if n.startswith("many/3/"))

    def test_it_replaces(self, storage: Storage) -> None:
        """Publishing under a taken name replaces the object."""
        if not storage.capabilities.replaces:
            pytest.skip("does not apply: this storage replaces nothing")
        self.put(storage, "a", b"the old bytes")
        staged = self.stage(storage, "a", b"new")
        assert self.read(storage, "a") == b"the old bytes"
        storage.publish(staged.token, "a")
        storage.sync()

        assert self.read(storage, "a") == b"new"
        assert [(s.name, s.size) for s in storage.list()] == [("a", 3)]

    def test_a_reader_sees_the_old_or_the_new_bytes(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """Who reads while an object is replaced never sees a mixture."""
        if not storage.capabilities.replaces:
            pytest.skip("does not apply: this storage replaces nothing")
        contents = [bytes([i]) * 200_000 for i in range(1, 7)]
        self.put(storage, "a", contents[0])
        torn: list[str] = []
        stopped = threading.Event()

        def look() -> None:
            with storage_factory() as other:
                while not stopped.is_set():
                    if self.read(other, "a") not in contents:
                        torn.append("torn")

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for data in contents[1:]:
                self.put(storage, "a", data)
        finally:
            stopped.set()
            reader.join()
        assert torn == [], "a reader saw bytes that were never an object"

    def test_a_second_publisher_of_an_absent_name_is_refused(self, storage: Storage) -> None:
        """It gets FileExistsError, and what it has staged is still there, to be deleted or kept."""
        self._require_if_absent(storage)
        self.put(storage, "a", b"first", if_absent=True)
        second = self.stage(storage, "a", b"second")
        with pytest.raises(FileExistsError):
            storage.publish(second.token, "a", if_absent=True)

        assert self.read(storage, "a") == b"first"
        storage.delete(second.token)
        storage.sync()
        assert self.read(storage, "a") == b"first" and list(storage.staged()) == []

    def test_of_many_publishers_of_an_absent_name_one_wins(self, storage_factory: StorageFactory) -> None:
        """Eight sessions at once: one name, one winner, and the bytes are the winner's."""
        with storage_factory() as storage:
            self._require_if_absent(storage)
        start = threading.Barrier(PUBLISHERS)
        won: list[bytes] = []
        wrong: list[BaseException] = []

        def publish(number: int) -> None:
            data = b"%d" % number * 1000
            try:
                with storage_factory() as own:
                    staged = self.stage(own, "the/one", data)
                    start.wait(30)
                    try:
                        own.publish(staged.token, "the/one", if_absent=True)
                        own.sync()
                        won.append(data)
                    except FileExistsError:
                        own.delete(staged.token)
            except BaseException as error:  # noqa: BLE001 - handed to the test
                wrong.append(error)

        threads = [threading.Thread(target=publish, args=(i,)) for i in range(PUBLISHERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong:
            raise wrong[0]

        assert len(won) == 1, (
            f"{len(won)} of {PUBLISHERS} publishers were told that they had won; make `if_absent` one atomic step of"
            " the place, or set `Capabilities(if_absent=False)`"
        )
        with storage_factory() as storage:
            assert self.read(storage, "the/one") == won[0]
            assert list(storage.staged()) == []

    def test_another_session_can_publish(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """The token is all that it needs, also when the session that staged it has ended."""
        with storage_factory() as own:
            token = self.stage(own, "a", b"from another").token

        assert isinstance(token, str)
        storage.publish(token, "a")
        storage.sync()
        assert self.read(storage, "a") == b"from another"

    def test_it_reads_what_is_staged(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """A closed staged object can be opened by its token, where the storage says so."""
        if not storage.capabilities.reads_staged:
            pytest.skip("does not apply: this storage reads no staged objects")
        token = self.stage(storage, "a", b"staged").token

        with storage_factory() as other:
            assert self.read(storage, token) == self.read(other, token) == b"staged"

    def test_it_names_what_was_abandoned(self, storage: Storage, storage_factory: StorageFactory) -> None:
        """What a session that died has staged, closed or not, is found and removed by another one."""
        lost = storage_factory()
        self.stage(lost, "closed", b"x" * 1000)
        lost.stage("open").write(b"y" * 1000)

        found = list(storage.staged())
        assert found, "`staged` must name what other sessions have left, or it could never be removed"
        lost.close()
        for stored in list(storage.staged()):
            storage.delete(stored.name)
        storage.sync()
        assert list(storage.staged()) == [] and list(storage.list()) == []

    def test_it_discards(self, storage: Storage) -> None:
        """A discarded object leaves nothing, closed or not, and may be discarded twice."""
        one, other = storage.stage("a"), storage.stage("b")
        one.write(b"data")
        other.write(b"data")
        other.close()
        for staged in (one, other, one, other):
            staged.discard()
        storage.sync()

        assert list(storage.staged()) == [] and list(storage.list()) == []

    def test_it_deletes(self, storage: Storage) -> None:
        """Deleting what is not there is no error; what begins with the name stays."""
        self.put(storage, "a")
        self.put(storage, "ab")
        for _ in range(2):
            storage.delete("a")
            storage.sync()

        assert not storage.exists("a") and self.names(storage) == ["ab"]
        with pytest.raises(FileNotFoundError):
            storage.open("a")

    def test_a_token_of_what_was_published_removes_nothing(self, storage: Storage) -> None:
        """A clean-up that comes too late harms nothing."""
        staged = self.stage(storage, "a")
        storage.publish(staged.token, "a")
        storage.sync()
        storage.delete(staged.token)
        storage.sync()

        assert self.read(storage, "a") == b"data"

    def test_a_closed_session_can_be_followed_by_another(self, storage_factory: StorageFactory) -> None:
        """Sessions hold nothing that the next one needs."""
        for number in range(3):
            with storage_factory() as storage:
                self.put(storage, f"n{number}", b"%d" % number)
        with storage_factory() as storage:
            assert [self.read(storage, n) for n in self.names(storage)] == [b"0", b"1", b"2"]

    def _require_if_absent(self, storage: Storage) -> None:
        if not storage.capabilities.if_absent:
            pytest.skip("does not apply: this storage cannot publish only if a name is absent")
