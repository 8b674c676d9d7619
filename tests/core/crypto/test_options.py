"""What a pipeline file says about encryption."""

from pathlib import Path

import pytest
from attrs import frozen

from muniment import ConfigError, Context, Secret, Sink, option
from muniment.crypto import Encryption, Key, Keyring, decrypt_bytes, encrypt_bytes, open_keyring
from muniment.errors import PluginError
from muniment.structure import OptionsError, anchored, structure

CONTEXT = Context(run="r", path="sinks[0] (files)")


@frozen(kw_only=True)
class Store(Sink):
    """Store."""

    encryption: Encryption | None = option("E.", default=None)


def key_file(folder: Path, name: str) -> tuple[Key, Secret]:
    key = Key.new()
    (folder / name).write_text(f"{key.text()}\n")
    (folder / name).chmod(0o600)
    return key, Secret(f"file:{folder / name}", f"sinks[0].{name}")


class TestEncryption:
    def test_stands_in_the_options_of_a_sink(self, tmp_path):
        """With paths that are relative to the pipeline file."""
        options = {"encryption": {"key": Secret("file:a.key"), "recipients": ["kms:archive"]}}
        store = anchored(structure(Store, options), tmp_path)

        assert store.encryption == Encryption(key=Secret(f"file:{tmp_path}/a.key"), recipients=("kms:archive",))

    def test_refuses_a_key_in_the_file(self):
        with pytest.raises(OptionsError) as caught:
            structure(Store, {"encryption": {"key": Key.new().text()}})
        assert "muniment-key-1" not in str(caught.value.problems)

    def test_needs_somebody_who_can_read(self, tmp_path):
        _, old = key_file(tmp_path, "old.key")

        assert list(Encryption(old_keys=(old,)).check()) == [
            "`encryption` names nobody who could read it; give `key`, `passphrase` or `recipients`"
        ]
        assert list(Encryption(key=old).check()) == []

    @pytest.mark.parametrize("recipient", ["archive", ":x", "kms:", "1:x"])
    def test_a_recipient_is_a_service_and_a_key(self, recipient):
        assert list(Encryption(recipients=(recipient,)).check()) == [
            f"`recipients` must be `SERVICE:KEY`, not `{recipient}`"
        ]


class TestOpenKeyring:
    def test_writes_for_its_keys_and_reads_with_all(self, tmp_path):
        (key, key_secret), (safe, safe_secret), (old, old_secret) = (key_file(tmp_path, n) for n in ("k", "s", "o"))
        ring = open_keyring(Encryption(key=key_secret, also_for=(safe_secret,), old_keys=(old_secret,)), CONTEXT)
        data = encrypt_bytes(b"text", ring)

        assert [decrypt_bytes(data, Keyring([one])) for one in (key, safe)] == [b"text"] * 2
        assert decrypt_bytes(encrypt_bytes(b"old", Keyring([old])), ring) == b"old"

    def test_takes_a_passphrase(self, monkeypatch):
        monkeypatch.setenv("PASSPHRASE", "correct horse battery")
        encryption = Encryption(passphrase=Secret("env:PASSPHRASE"))
        data = encrypt_bytes(b"text", open_keyring(encryption, CONTEXT))

        assert decrypt_bytes(data, open_keyring(encryption, CONTEXT)) == b"text"

    def test_refuses_a_short_passphrase(self, monkeypatch):
        monkeypatch.setenv("PASSPHRASE", "hunter2")

        with pytest.raises(ConfigError) as caught:
            open_keyring(Encryption(passphrase=Secret("env:PASSPHRASE", "sinks[0].encryption.passphrase")), CONTEXT)
        assert str(caught.value) == (
            "sinks[0].encryption.passphrase: a passphrase has at least 12 characters; six random words are a good one"
        )

    def test_names_the_option_that_holds_no_key(self, monkeypatch):
        monkeypatch.setenv("KEY", "hunter2")

        with pytest.raises(ConfigError) as caught:
            open_keyring(Encryption(key=Secret("env:KEY")), CONTEXT)
        assert str(caught.value) == (
            "sinks[0] (files): this secret holds no key: it does not begin with `muniment-key-1:`;"
            " `muniment key new` makes one"
        )

    def test_a_service_must_be_installed(self):
        with pytest.raises(PluginError, match="^no key service `nowhere` is installed"):
            open_keyring(Encryption(recipients=("nowhere:x",)), CONTEXT)
