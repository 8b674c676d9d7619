"""What somebody without a key can do to encrypted bytes: be noticed.

Every attack is refused, and of the text at most a verified beginning was handed out before.
"""

import io
import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.crypto import Key, Keyring, Vault, decrypting, encrypt_bytes
from muniment.crypto import header as headers
from muniment.crypto.chunks import CHUNK_BYTES, PREFIX_BYTES, SEALED_BYTES, ChunkCipher, expand, open_message
from muniment.errors import DamagedError, WrongKeyError

KEY, OTHER = Key(bytes(range(32))), Key(bytes(range(32, 64)))
RING, BOTH = Keyring([KEY]), Keyring([KEY, OTHER])
MESSAGE = os.urandom(40_000)
DATA = encrypt_bytes(MESSAGE, BOTH)
BODY = headers.read(io.BytesIO(DATA)).size
"""Where the body begins."""


def refused(data: bytes, keyring: Keyring = RING, message: bytes = MESSAGE, size: int = CHUNK_BYTES) -> bool:
    """Whether reading ``data`` fails, and has handed out nothing but a beginning of ``message``."""
    out = b""
    try:
        with decrypting(io.BytesIO(data), keyring) as stream:
            while piece := stream.read(size):
                out += piece
    except (DamagedError, WrongKeyError):
        assert message.startswith(out)
        return True
    return False


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def chunks_of(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return what stands before the chunks, and the chunks."""
    start = headers.read(io.BytesIO(data)).size + PREFIX_BYTES
    return data[:start], [data[i : i + SEALED_BYTES] for i in range(start, len(data), SEALED_BYTES)]


def framed(value: dict, mac: bytes) -> bytes:
    text = headers.canonical(value)
    return headers.MAGIC + len(text).to_bytes(4, "big") + text + mac


def parsed(data: bytes) -> tuple[dict, bytes, bytes]:
    """Return the header's JSON, its MAC and the body."""
    import json

    header = headers.read(io.BytesIO(data))
    return json.loads(header.data), header.mac, data[header.size :]


class TestDamage:
    def test_the_whole_is_whole(self):
        """The attacks below are on something that opens."""
        assert not refused(DATA)

    @pytest.mark.parametrize("bit", range(8))
    def test_every_bit_of_the_header(self, bit):
        places = range(BODY + PREFIX_BYTES)

        assert [p for p in places if not refused(flipped(DATA, p, bit))] == []

    def test_bits_of_the_body(self):
        """Every 61st byte, and all round the ends of chunks."""
        first, second = BODY + PREFIX_BYTES + SEALED_BYTES, BODY + PREFIX_BYTES + 2 * SEALED_BYTES
        near = {e + d for e in (first, second) for d in range(-20, 20)}
        places = sorted({*range(BODY, len(DATA), 61), *near, *range(len(DATA) - 20, len(DATA))})

        assert [p for p in places if not refused(flipped(DATA, p, p % 8))] == []

    @pytest.mark.slow
    def test_every_byte_of_the_body(self):
        """Two bits of each."""
        assert [p for p in range(BODY, len(DATA)) for b in (0, 7) if not refused(flipped(DATA, p, b))] == []

    @settings(deadline=None)
    @given(st.binary(min_size=1, max_size=40), st.integers(0, len(DATA) - 1))
    def test_other_bytes_anywhere(self, junk, place):
        data = DATA[:place] + junk + DATA[place + len(junk) :]

        assert data == DATA or refused(data)


class TestCuts:
    def test_at_every_length_of_the_header(self):
        assert [n for n in range(BODY + PREFIX_BYTES + 20) if not refused(DATA[:n])] == []

    def test_near_the_ends_of_chunks(self):
        ends = [BODY + PREFIX_BYTES + i * SEALED_BYTES for i in range(3)]
        lengths = sorted({e + d for e in ends for d in range(-20, 40)} | set(range(BODY, len(DATA), 211)))

        assert [n for n in lengths if not refused(DATA[:n])] == []
        assert [n for n in lengths if not refused(DATA[:n], size=700)] == []

    @pytest.mark.slow
    def test_at_every_length(self):
        assert [n for n in range(len(DATA)) if not refused(DATA[:n])] == []

    @pytest.mark.parametrize("size", [0, CHUNK_BYTES, 2 * CHUNK_BYTES])
    def test_of_messages_of_whole_chunks(self, size):
        """Their last chunk is empty, and missed."""
        message = os.urandom(size)
        data = encrypt_bytes(message, RING)

        assert not refused(data, message=message)
        assert [n for n in range(len(data) - 40, len(data)) if not refused(data[:n], message=message)] == []

    @pytest.mark.parametrize(
        "more",
        [b"\0", bytes(16), bytes(SEALED_BYTES), DATA, DATA[-100:]],
        ids=["byte", "tag", "chunk", "file", "end"],
    )
    def test_and_additions(self, more):
        assert refused(DATA + more)


class TestChunks:
    """In another order, number or file."""

    other = encrypt_bytes(MESSAGE, BOTH)

    @pytest.mark.parametrize(
        "order", [[1, 0, 2], [0, 2], [2], [0, 1], [0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2], [0, 2, 1], [1, 2], []]
    )
    def test_of_the_same_file(self, order):
        start, chunks = chunks_of(DATA)

        assert refused(start + b"".join(chunks[i] for i in order))

    @pytest.mark.parametrize("place", range(3))
    def test_of_another_file_with_the_same_keys_and_text(self, place):
        start, chunks = chunks_of(DATA)
        chunks[place] = chunks_of(self.other)[1][place]

        assert refused(start + b"".join(chunks))

    def test_a_whole_body_of_another_file(self):
        """With its salt and commitment."""
        start = headers.read(io.BytesIO(self.other)).size

        assert refused(DATA[:BODY] + self.other[start:])
        assert refused(self.other[:start] + DATA[BODY:])


class TestSlots:
    """A header is changed by who holds a key, and by nobody else."""

    def test_one_that_is_removed(self):
        """To shut somebody out."""
        value, mac, body = parsed(DATA)

        for kept in (value["slots"][:1], value["slots"][1:]):
            assert refused(framed({**value, "slots": kept}, mac) + body, BOTH)

    def test_one_that_is_added(self):
        value, mac, body = parsed(DATA)
        stranger = parsed(encrypt_bytes(MESSAGE, Keyring([Key.new()])))[0]["slots"]

        assert refused(framed({**value, "slots": value["slots"] + stranger}, mac) + body)

    def test_one_of_another_file(self):
        """It belongs to that file, though the key is the same."""
        value, mac, body = parsed(DATA)
        theirs = parsed(encrypt_bytes(MESSAGE, BOTH))[0]["slots"]

        assert refused(framed({**value, "slots": theirs}, mac) + body)
        assert refused(framed({**value, "slots": [theirs[0], value["slots"][1]]}, mac) + body)

    def test_in_another_order(self):
        value, mac, body = parsed(DATA)

        assert refused(framed({**value, "slots": value["slots"][::-1]}, mac) + body)

    def test_that_exchange_their_keys(self):
        value, mac, body = parsed(DATA)
        first, second = value["slots"]
        swapped = [{**first, "wrapped": second["wrapped"]}, {**second, "wrapped": first["wrapped"]}]

        assert refused(framed({**value, "slots": swapped}, mac) + body, BOTH)

    @pytest.mark.parametrize("field", [{"content_type": "text/html"}, {"about": {"archive": "b"}}, {"file": "0" * 32}])
    def test_facts_that_are_changed(self, field):
        value, mac, body = parsed(DATA)

        assert refused(framed({**value, "fixed": {**value["fixed"], **field}}, mac) + body)

    @pytest.mark.parametrize("change", [{"alg": "none"}, {"alg": "argon2id"}, {"alg": "RAW"}, {"kid": "0" * 16}])
    def test_an_algorithm_that_is_changed(self, change):
        value, mac, body = parsed(encrypt_bytes(MESSAGE, RING))

        assert refused(framed({**value, "slots": [{**value["slots"][0], **change}]}, mac) + body)

    @pytest.mark.parametrize("version", range(256))
    def test_another_version(self, version):
        assert version == 1 or refused(DATA[:7] + bytes([version]) + DATA[8:])


class TestVault:
    def test_values_stay_in_their_place(self):
        vault = Vault.new(RING)
        one = vault.encrypt(b"text", b"row 1")

        assert Vault.open(vault.header, RING).decrypt(one, b"row 1") == b"text"
        for value, place in ((one, b"row 2"), (one[:-1], b"row 1"), (b"", b"row 1"), (flipped(one, 70, 1), b"row 1")):
            with pytest.raises(DamagedError):
                vault.decrypt(value, place)

    def test_values_of_another_vault_are_refused(self):
        one = Vault.new(RING).encrypt(b"text", b"row 1")

        with pytest.raises(DamagedError, match="^an encrypted value is damaged, or stands in the wrong place"):
            Vault.new(RING).decrypt(one, b"row 1")

    def test_its_header_opens_with_its_keys_only(self):
        vault = Vault.new(RING)

        with pytest.raises(WrongKeyError):
            Vault.open(vault.header, Keyring([OTHER]))
        with pytest.raises(DamagedError, match="something follows it$"):
            Vault.open(vault.header + b"\0", RING)

    def test_a_header_is_no_file_and_a_file_no_value(self):
        """Keys for bodies and for values differ."""
        vault = Vault.new(RING)
        header = headers.read(io.BytesIO(vault.header))
        value = vault.encrypt(MESSAGE, b"")

        assert refused(vault.header + value)
        assert open_message(expand(RING.open(header), b"muniment/v1/value"), headers.MAGIC + header.fixed.digest, value)


# --- one ciphertext, two keys ---------------------------------------------------------------------


def times(a: int, b: int) -> int:
    """Multiply in the field of GHASH: bit 127 is the coefficient of 1."""
    product = 0
    for i in range(127, -1, -1):
        if b >> i & 1:
            product ^= a
        a = a >> 1 ^ (0xE1 << 120 if a & 1 else 0)
    return product


def power(a: int, n: int) -> int:
    result = 1 << 127
    while n:
        if n & 1:
            result = times(result, a)
        a, n = times(a, a), n >> 1
    return result


def ecb(key: bytes, block: bytes) -> int:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block), "big")


def collide(keys: tuple[bytes, bytes], nonces: tuple[bytes, bytes], blocks: int = 4) -> bytes:
    """Return a ciphertext with its tag that AES-GCM accepts under either key."""
    body = [int.from_bytes(os.urandom(16), "big") for _ in range(blocks - 1)]
    lengths = blocks * 128
    h = [ecb(k, bytes(16)) for k in keys]
    mask = [ecb(k, n + b"\0\0\0\1") for k, n in zip(keys, nonces, strict=True)]
    # tag = C1*H^(n+1) + ... + Cn*H^2 + lengths*H + mask, under both keys; the last block is what solves it.
    known = [0, 0]
    for side in (0, 1):
        for i, block in enumerate(body):
            known[side] ^= times(block, power(h[side], blocks + 1 - i))
        known[side] ^= times(lengths, h[side]) ^ mask[side]
    factor = power(h[0], 2) ^ power(h[1], 2)
    last = times(known[0] ^ known[1], power(factor, 2**128 - 2))
    tag = known[0] ^ times(last, power(h[0], 2))
    return b"".join(n.to_bytes(16, "big") for n in [*body, last, tag])


def chunk_keys(key: bytes, context: bytes, salt: bytes) -> tuple[bytes, bytes]:
    made = expand(key, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context, 76)
    return made[:32], made[32:44]


class TestTwoKeysOneCiphertext:
    """AES-GCM alone lets one ciphertext be two messages; the commitment does not."""

    def test_is_refused(self):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        keys, salt = (os.urandom(32), os.urandom(32)), os.urandom(24)
        derived = [chunk_keys(k, b"", salt) for k in keys]
        chunk = collide((derived[0][0], derived[1][0]), (derived[0][1], derived[1][1]))
        texts = [AESGCM(k).decrypt(n, chunk, None) for k, n in derived]
        prefix = ChunkCipher._derived(keys[0], b"", salt).prefix

        assert texts[0] != texts[1]
        assert open_message(keys[0], b"", prefix + chunk) == texts[0]
        assert open_message(keys[1], b"", prefix + chunk) is None


# --- nonces ---------------------------------------------------------------------------------------


class TestNonces:
    @pytest.mark.parametrize(("files", "chunks"), [(100, 10), pytest.param(100, 1000, marks=pytest.mark.slow)])
    def test_none_is_used_twice(self, monkeypatch, files, chunks):
        """Over all chunks of many files of the same text and keys, slots included."""
        from cryptography.hazmat.primitives.ciphers import aead

        used: Counter[tuple[bytes, bytes]] = Counter()
        real = aead.AESGCM

        class Watched:
            def __init__(self, key):
                self._key, self._real = bytes(key), real(key)

            def encrypt(self, nonce, data, associated):
                used[self._key, nonce] += 1
                return self._real.encrypt(nonce, data, associated)

        monkeypatch.setattr(aead, "AESGCM", Watched)
        message = bytes(chunks * CHUNK_BYTES - 1)
        for _ in range(files):
            encrypt_bytes(message, BOTH)

        assert len(used) == used.total() == files * (chunks + 2)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_child_and_its_parent_make_their_own_keys(self):
        """Whatever both had read of randomness before the fork."""
        encrypt_bytes(b"", RING)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, encrypt_bytes(b"", RING))
            os._exit(0)
        mine = encrypt_bytes(b"", RING)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            theirs = pipe.read()
        os.waitpid(child, 0)
        keys = [RING.open(headers.read(io.BytesIO(data))) for data in (mine, theirs)]
        salts = [data[headers.read(io.BytesIO(data)).size :][:24] for data in (mine, theirs)]

        assert keys[0] != keys[1]
        assert salts[0] != salts[1]
