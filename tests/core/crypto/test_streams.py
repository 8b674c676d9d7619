"""Streams: what is written comes back, at any place, and nothing ends quietly."""

import hashlib
import io
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from muniment.crypto import Key, Keyring, encrypt_bytes, encrypting
from muniment.crypto import decrypting as open_stream
from muniment.crypto.chunks import CHUNK_BYTES
from muniment.errors import DamagedError, FatalError, WrongKeyError
from muniment.local_storage import LocalStorage
from muniment.objects import SUFFIXES, ObjectStream, compressing, decompressing

RING = Keyring([Key(bytes(range(32)))])
EDGES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 5 * CHUNK_BYTES, 5 * CHUNK_BYTES + 9]


def decrypting(data: bytes, keyring: Keyring = RING):
    return open_stream(io.BytesIO(data), keyring)


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives what it likes."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self):
        return True

    def read(self, size=-1):
        return self._data.read(min(size, self._most))


class TestEncrypting:
    @pytest.mark.parametrize("size", EDGES)
    def test_what_was_written_comes_back(self, encrypt, keyring, size):
        message = os.urandom(size)

        with decrypting(encrypt(message), keyring) as stream:
            assert stream.read() == message

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 40_000), max_size=8))
    def test_the_sizes_of_the_writes_do_not_matter(self, sizes):
        pieces = [os.urandom(n) for n in sizes]
        end = io.BytesIO()
        end.close = lambda: None
        stream = encrypting(RING)(end)
        for piece in pieces:
            stream.write(piece)
        stream.close()

        with decrypting(end.getvalue()) as plain:
            assert plain.read() == b"".join(pieces)

    def test_writes_nothing_before_it_is_written_to(self, below, keyring):
        """A stream that is thrown away has not asked a key service for anything."""
        encrypting(keyring)(below)

        assert below.getvalue() == b""

    def test_closes_what_lies_below_once(self, below, keyring):
        stream = encrypting(keyring)(below)

        stream.close()
        size = len(below.getvalue())
        stream.close()

        assert (below.closed_by_writer, len(below.getvalue())) == (True, size)
        with pytest.raises(FatalError, match="was not written to its end"):
            stream.write(b"more")

    def test_never_goes_on_after_an_error(self, keyring):
        """What was encrypted once is not encrypted again under the same nonce, and no end is written."""

        class Broken:
            def write(self, data):
                raise OSError

            def close(self):
                raise AssertionError

        stream = encrypting(keyring)(Broken())
        with pytest.raises(OSError):
            stream.write(bytes(CHUNK_BYTES))

        for again in (lambda: stream.write(b"x"), stream.close):
            with pytest.raises(FatalError, match="^an encrypted object was not written to its end"):
                again()

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_is_written_by_one_process(self, below, keyring):
        """A fork that went on would encrypt other text under the same key and nonce."""
        stream = encrypting(keyring)(below)
        stream.write(b"before")
        child = os.fork()
        if not child:
            try:
                stream.write(bytes(CHUNK_BYTES))
            except FatalError:
                os._exit(7)
            os._exit(0)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stream.close()

    def test_needs_somebody_to_encrypt_for(self):
        with pytest.raises(Exception, match="^nothing says whom to encrypt for"):
            encrypting(Keyring())

    def test_memory_does_not_grow_with_the_object(self, keyring):
        class Null:
            def write(self, data):
                pass

            def close(self):
                pass

        piece = bytes(2**20)
        stream = encrypting(keyring)(Null())
        stream.write(piece)
        tracemalloc.start()
        for _ in range(20):
            stream.write(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        stream.close()

        assert peak < 2**20


class TestDecrypting:
    @pytest.mark.parametrize("size", EDGES)
    @pytest.mark.parametrize("most", [1000, 2**20])
    def test_reads_what_cannot_seek(self, size, most):
        message = os.urandom(size)

        with open_stream(Pipe(encrypt_bytes(message, RING), most), RING) as stream:
            assert not stream.seekable()
            assert stream.read() == message

    @pytest.mark.parametrize("size", EDGES)
    def test_knows_its_length_by_the_last_chunk(self, size):
        with decrypting(encrypt_bytes(bytes(size), RING)) as stream:
            assert stream.seek(0, io.SEEK_END) == size

    @pytest.mark.parametrize("size", EDGES[1:])
    def test_behind_the_end_is_nothing(self, size):
        """As in any file, once the last chunk was verified."""
        with decrypting(encrypt_bytes(bytes(size), RING)) as stream:
            stream.seek(size + 3 * CHUNK_BYTES)
            assert stream.read() == b""

    def test_reads_lines(self):
        """As formats do that are made of lines."""
        lines = [b"%d" % i * (i % 90) + b"\n" for i in range(2000)]

        with decrypting(encrypt_bytes(b"".join(lines), RING)) as stream:
            assert list(stream) == lines

    def test_closes_what_lies_below(self):
        below = io.BytesIO(encrypt_bytes(b"x", RING))

        open_stream(below, RING).close()

        assert below.closed

    def test_refuses_every_other_key(self):
        with pytest.raises(WrongKeyError) as caught:
            decrypting(encrypt_bytes(b"x", RING), Keyring([Key.new()]))

        assert caught.value.exit_code == 12
        assert str(caught.value) == (
            "no key that was given opens this; it was encrypted for other keys, or its header was changed"
        )

    def test_a_context_must_be_the_same(self):
        data = encrypt_bytes(b"x", RING, context=b"row 1")

        assert open_stream(io.BytesIO(data), RING, context=b"row 1").read() == b"x"
        with pytest.raises(DamagedError, match="^the encrypted data does not belong to its header"):
            open_stream(io.BytesIO(data), RING, context=b"row 2")

    def test_a_reader_that_sought_to_a_cut_end_fails(self):
        """The length is not believed before the last chunk was verified."""
        data = encrypt_bytes(bytes(5 * CHUNK_BYTES + 9), RING)
        for cut in (25, CHUNK_BYTES, CHUNK_BYTES + 16 + 25, 2 * CHUNK_BYTES):
            stream = decrypting(data[:-cut])
            with pytest.raises(DamagedError):
                stream.seek(0, io.SEEK_END)
            stream = decrypting(data[:-cut])
            stream.seek(4 * CHUNK_BYTES)
            with pytest.raises(DamagedError):
                while stream.read(100):
                    pass


class TestInAnObject:
    """Compressed inside, encrypted outside, staged and published."""

    @pytest.mark.parametrize("compression", ["none", "gzip", "zstd", "xz"])
    def test_comes_back(self, tmp_path, compression):
        lines = b"".join(b'{"id": %d}\n' % i for i in range(20_000))
        with LocalStorage(tmp_path) as storage:
            staged = storage.stage("part-1.enc")
            stream = ObjectStream(staged, [compressing(compression), encrypting(RING)])
            stream.write(lines)
            stream.close()
            storage.sync()
            storage.publish(stream.token, "part-1.enc")
            stored = (tmp_path / "part-1.enc").read_bytes()
            with storage.open("part-1.enc") as raw:
                plain = decompressing(open_stream(raw, RING), f"part-1{SUFFIXES[compression]}").read()

        assert plain == lines
        assert (stream.size, stream.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
        assert b'"id"' not in stored

    def test_parquet_reads_only_what_it_needs(self):
        """It begins at the end and jumps to columns."""
        parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        table = arrow.table({"id": list(range(50_000)), "text": ["x" * (i % 50) for i in range(50_000)]})
        end = io.BytesIO()
        parquet.write_table(table, end)

        with decrypting(encrypt_bytes(end.getvalue(), RING)) as stream:
            assert parquet.read_table(stream, columns=["text"]).equals(table.select(["text"]))


class LikeAFile(RuleBasedStateMachine):
    """A decrypting stream is read as the file of its text is."""

    @initialize(chunks=st.integers(0, 5), more=st.integers(0, CHUNK_BYTES - 1), seed=st.integers(0, 9))
    def begin(self, chunks, more, seed):
        text = (seed.to_bytes(3, "big") + b"-muniment-") * 10_000
        text = text[: chunks * CHUNK_BYTES + more]
        self.model = io.BytesIO(text)
        self.stream = decrypting(encrypt_bytes(text, RING))

    @rule(size=st.integers(0, 50_000))
    def read(self, size):
        assert self.stream.read(size) == self.model.read(size)

    @rule(offset=st.integers(0, 120_000))
    def seek(self, offset):
        assert self.stream.seek(offset) == self.model.seek(offset)

    @rule(back=st.integers(0, 40_000))
    def seek_back_from_the_end(self, back):
        size = len(self.model.getvalue())
        assert self.stream.seek(-min(back, size), io.SEEK_END) == self.model.seek(-min(back, size), io.SEEK_END)

    @rule()
    def read_the_rest(self):
        assert self.stream.read() == self.model.read()

    @invariant()
    def stand_at_the_same_place(self):
        if hasattr(self, "stream"):
            assert self.stream.tell() == self.model.tell()


TestLikeAFile = LikeAFile.TestCase
TestLikeAFile.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
