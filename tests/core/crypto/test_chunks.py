"""Cobblestone-256: the published vectors, the arithmetic, and another implementation."""

import hashlib
import io
import json
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.crypto.chunks import (
    CHUNK_BYTES,
    MAX_CHUNKS,
    PREFIX_BYTES,
    SEALED_BYTES,
    ChunkCipher,
    last_chunk,
    open_message,
    seal_message,
    sealed_offset,
)
from muniment.crypto.streams import DecryptingStream
from muniment.errors import DamagedError, FatalError

VECTORS = Path(__file__).parents[2] / "data" / "wycheproof" / "c2sp_chunked_encryption_aes_256_gcm_test.json"
KEY = bytes(range(32))


def vectors():
    for group in json.loads(VECTORS.read_text())["testGroups"]:
        for test in group["tests"]:
            yield pytest.param(test, id=f"{test['tcId']}-{test['comment']}")


def prefix_of(key: bytes, context: bytes, sealed: bytes, size: int = CHUNK_BYTES) -> tuple[bytes, bool]:
    """Return what a reader of a stream was handed out, and whether it came to an end."""
    try:
        cipher = ChunkCipher.find(key, context, sealed[:PREFIX_BYTES])
    except ValueError:
        return b"", False
    if cipher is None:
        return b"", False
    source = io.BytesIO(sealed)
    source.seek(PREFIX_BYTES)
    stream, out = DecryptingStream(source, cipher), b""
    try:
        while data := stream.read(size):
            out += data
    except DamagedError:
        # It keeps failing.
        with pytest.raises(DamagedError):
            stream.read(1)
        return out, False
    return out, True


class TestVectors:
    def test_all_are_there(self):
        assert len(list(vectors())) == 35

    @pytest.mark.parametrize("test", list(vectors()))
    @pytest.mark.parametrize("size", [1000, CHUNK_BYTES, 2**20])
    def test_agree(self, test, size):
        """Valid messages come back; of invalid ones at most the part that was verified."""
        key, context = bytes.fromhex(test["key"]), bytes.fromhex(test["ctx"])
        sealed = zlib.decompress(bytes.fromhex(test["ct"]))

        plain, whole = prefix_of(key, context, sealed, size)

        assert whole == (test["result"] == "valid")
        assert len(plain) == (test.get("msgLength") or 0)
        if plain or whole:
            assert hashlib.sha512(plain).hexdigest() == test["msgSha512"]

    @pytest.mark.parametrize("test", list(vectors()))
    def test_agree_in_memory(self, test):
        key, context = bytes.fromhex(test["key"]), bytes.fromhex(test["ctx"])
        sealed = zlib.decompress(bytes.fromhex(test["ct"]))

        try:
            plain = open_message(key, context, sealed)
        except (DamagedError, ValueError):
            plain = None

        assert (plain is not None) == (test["result"] == "valid")


class TestMessages:
    @settings(deadline=None)
    @given(st.binary(max_size=100), st.integers(0, 3), st.integers(-2, 2))
    def test_come_back(self, context, chunks, more):
        message = os.urandom(max(0, chunks * CHUNK_BYTES + more))

        sealed = seal_message(KEY, context, message)

        assert open_message(KEY, context, sealed) == message
        assert len(sealed) == sealed_offset(len(message) // CHUNK_BYTES) + len(message) % CHUNK_BYTES + 16

    @pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
    def test_are_read_and_written_alike_by_another_implementation(self, size):
        """`cryptography` has one of its own from version 50 on."""
        other = pytest.importorskip("cryptography.cobblestone")
        message = os.urandom(size)
        encryptor = other.Cobblestone256Encryptor(KEY, context=b"here")
        theirs = bytes(encryptor.update(message) + encryptor.finalize())
        decryptor = other.Cobblestone256Decryptor(KEY, context=b"here")

        assert open_message(KEY, b"here", theirs) == message
        assert decryptor.update(seal_message(KEY, b"here", message)) + decryptor.finalize() == message

    def test_of_another_key_or_context_are_none(self):
        sealed = seal_message(KEY, b"here", b"text")

        assert open_message(os.urandom(32), b"here", sealed) is None
        assert open_message(KEY, b"there", sealed) is None

    def test_are_never_encrypted_alike(self):
        assert len({seal_message(KEY, b"", b"text") for _ in range(100)}) == 100


class Endless(io.RawIOBase):
    """An encrypted message of a hundred TiB, made where it is read: chunk ``i`` holds ``i`` again and again."""

    def __init__(self, cipher: ChunkCipher, chunks: int) -> None:
        self._cipher = cipher
        self._size = (chunks - 1) * SEALED_BYTES + 24
        self._at = 0

    def seekable(self):
        return True

    def tell(self):
        return self._at

    def seek(self, offset, whence=0):
        self._at = offset if whence == 0 else self._size + offset
        return self._at

    def read(self, size=-1):
        end = min(self._at + size, self._size)
        data = b""
        while self._at < end:
            index, within = divmod(self._at, SEALED_BYTES)
            last = (index + 1) * SEALED_BYTES > self._size
            sealed = self._cipher.seal(index, index.to_bytes(8, "big") * (1 if last else 2048))
            piece = sealed[within : within + end - self._at]
            data += piece
            self._at += len(piece)
        return data


class TestArithmetic:
    @settings(deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from([0, 2**32, 2**37]))
    def test_a_nonce_has_a_number_of_its_own(self, low, high):
        """Beyond 2**32 chunks, too: no part of the counter is cut away."""
        cipher = ChunkCipher.new(KEY, b"")
        difference = int.from_bytes(cipher.nonce(high + low)) ^ int.from_bytes(cipher.nonce(0))

        assert difference == high + low

    @settings(deadline=None)
    @given(st.integers(0, MAX_CHUNKS - 1), st.integers(0, CHUNK_BYTES - 1))
    def test_the_last_chunk_follows_from_the_length(self, index, rest):
        assert last_chunk(sealed_offset(index) + rest + 16) == index

    @settings(deadline=None)
    @given(st.integers(0, MAX_CHUNKS - 1), st.integers(0, 15))
    def test_other_lengths_are_cut_off(self, index, rest):
        with pytest.raises(DamagedError, match="^the encrypted data is cut off$"):
            last_chunk(sealed_offset(index) + rest)

    def test_reads_beyond_four_thousand_million_chunks(self):
        """At any place, without what stands before it, and up to the verified end."""
        cipher, chunks = ChunkCipher.new(KEY, b""), 2**32 + 3
        stream = DecryptingStream(Endless(cipher, chunks), cipher)

        assert stream.seek(0, io.SEEK_END) == (chunks - 1) * CHUNK_BYTES + 8
        stream.seek((2**32 + 1) * CHUNK_BYTES - 8)
        assert stream.read(16) == (2**32).to_bytes(8, "big") + (2**32 + 1).to_bytes(8, "big")
        assert stream.readall() == (2**32 + 1).to_bytes(8, "big") * 2047 + (2**32 + 2).to_bytes(8, "big")

    def test_no_message_is_longer_than_four_pib(self):
        cipher = ChunkCipher.new(KEY, b"")

        cipher.seal(MAX_CHUNKS - 1, b"")
        with pytest.raises(FatalError, match="^an encrypted object is at most 4 PiB long"):
            cipher.seal(MAX_CHUNKS, b"")
        with pytest.raises(DamagedError):
            cipher.open(MAX_CHUNKS, bytes(16))
