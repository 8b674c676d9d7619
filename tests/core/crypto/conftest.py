"""Keys, and something to encrypt."""

import io

import pytest

from muniment.crypto import Cost, Key, Keyring, Passphrase, encrypting

CHEAP = Cost(19 * 1024, 2, 1)


class Sink(io.BytesIO):
    """The end of a stream: it stays readable."""

    closed_by_writer = False

    def close(self) -> None:
        self.closed_by_writer = True


@pytest.fixture
def key() -> Key:
    return Key.new()


@pytest.fixture
def keyring(key) -> Keyring:
    return Keyring([key])


@pytest.fixture
def cheap() -> Cost:
    """Return the least that a passphrase may cost to try."""
    return CHEAP


@pytest.fixture
def passphrase() -> Passphrase:
    return Passphrase("correct horse battery", CHEAP)


@pytest.fixture
def below() -> Sink:
    return Sink()


@pytest.fixture
def encrypt(keyring):
    """Return a function that encrypts pieces as a stream, for the keyring or another one."""

    def run(*pieces: bytes, keyring: Keyring = keyring, **extra: object) -> bytes:
        end = Sink()
        stream = encrypting(keyring, **extra)(end)
        for piece in pieces:
            stream.write(piece)
        stream.close()
        return end.getvalue()

    return run
