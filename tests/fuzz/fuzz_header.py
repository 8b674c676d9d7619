"""Fuzz the header of encrypted bytes, and what stands behind it."""

import io
from pathlib import Path

from targets import Target

from muniment import DamagedError, WrongKeyError
from muniment.crypto import header as headers
from muniment.crypto.envelope import decrypt_bytes
from muniment.crypto.keyring import Keyring

GOLDEN = Path(__file__).parents[1] / "data/encrypted/golden"


def make() -> Target:
    seeds = [p.read_bytes() for p in sorted(GOLDEN.glob("*.enc")) if p.stat().st_size < 20_000]
    words = [headers.MAGIC, b"\0\0\0\0", b"\xff\xff\xff\xff", b'"raw"', b'"argon2id"', b'"service"', b'"memory_kib":1']
    words += [b"{", b"}", b"[", b"]", b'"', b",", b":", b"[" * 2000, b'"slots":[]', b"\\ud800", b"1" * 5000]
    return Target(check, seeds, words, max_bytes=32 * 2**10)


def check(data: bytes) -> None:
    try:
        header = headers.read(io.BytesIO(data))
    except DamagedError as error:
        assert len(str(error)) < 300
        return
    assert headers.as_bytes(header) == data[: header.size]
    try:
        # No key at all: nothing that a header says may cost anything, or open anything.
        decrypt_bytes(data, Keyring())
    except (DamagedError, WrongKeyError):
        return
    raise AssertionError("it opened without a key")


if __name__ == "__main__":
    from engines import start

    start("header")
