"""Keys, passphrases and services: who opens what, and where the secrets are not."""

import io
import os
import pickle
import stat
from pathlib import Path

import pytest

from muniment import ConfigError, FatalError
from muniment.crypto import (
    Key,
    Keyring,
    Passphrase,
    ServiceKey,
    add_recipients,
    create_key_file,
    decrypt_bytes,
    encrypt_bytes,
    read_key_file,
)
from muniment.crypto import header as headers
from muniment.crypto.passphrases import COSTS, problem_with
from muniment.crypto.services import service_key
from muniment.errors import PluginError, TransientError, WrongKeyError


def kinds(data: bytes) -> list[str]:
    return [slot.alg for slot in headers.read(io.BytesIO(data)).slots]


class TestKey:
    def test_its_text_gives_it_back(self, key):
        assert Key.parse(key.text()).text() == key.text()
        assert len(key.text()) == len("muniment-key-1:") + 48

    def test_its_id_does_not_depend_on_the_file(self):
        """It is in headers for ever."""
        assert Key(bytes(range(32))).id == "92f6b19c533ac637"

    @pytest.mark.parametrize("place", range(15, 63))
    def test_a_typing_error_is_told(self, key, place):
        """And not taken for another key."""
        text = key.text()
        other = "A" if text[place] != "A" else "B"

        with pytest.raises(ValueError, match="^a character of it is wrong or missing; compare it with your copy$"):
            Key.parse(text[:place] + other + text[place + 1 :])

    @pytest.mark.parametrize("text", ["", "muniment-key-2:AAAA", "AGE-SECRET-KEY-1"])
    def test_other_text_is_no_key(self, text):
        with pytest.raises(ValueError, match="^it does not begin with `muniment-key-1:`"):
            Key.parse(text)

    def test_shows_its_id_only(self, key):
        ring = Keyring([key, Passphrase("correct horse battery")])

        assert repr(key) == str(key) == f"<key {key.id}>"
        assert repr(ring) == f"<keyring of <key {key.id}>, <passphrase>>"

    def test_does_not_travel(self, key, passphrase):
        """Workers are sent references."""
        for secret in (key, passphrase, Keyring([key]), ServiceKey("s", "k", None)):
            with pytest.raises(TypeError, match="never pickled"):
                pickle.dumps(secret)


class TestKeyFile:
    @pytest.mark.parametrize("umask", [0, 0o077, 0o777])
    def test_is_its_owners_only(self, tmp_path, umask):
        before = os.umask(umask)
        try:
            made = create_key_file(tmp_path / "a.key")
        finally:
            os.umask(before)

        assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
        assert read_key_file(tmp_path / "a.key").id == made.id

    def test_is_never_written_over(self, tmp_path):
        path = tmp_path / "a.key"
        create_key_file(path)
        before = path.read_bytes()

        with pytest.raises(FatalError, match="already; a key is never written over another$"):
            create_key_file(path)
        assert path.read_bytes() == before

    def test_follows_no_link(self, tmp_path):
        (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")

        with pytest.raises(FatalError):
            create_key_file(tmp_path / "a.key")
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
    def test_is_refused_when_others_may_open_it(self, tmp_path, mode):
        path = tmp_path / "a.key"
        create_key_file(path)
        path.chmod(mode)

        with pytest.raises(ConfigError, match=r"is open to others than its owner; make it private: `chmod 600 "):
            read_key_file(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_is_refused_when_it_belongs_to_another(self, tmp_path):
        path = tmp_path / "a.key"
        create_key_file(path)
        os.chown(path, 12345, -1)

        with pytest.raises(ConfigError, match="belongs to another user; take it over: `chown 0 "):
            read_key_file(path)

    def test_says_what_is_wrong_and_not_what_it_holds(self, tmp_path):
        path = tmp_path / "a.key"
        path.write_text("hunter2")
        path.chmod(0o600)

        with pytest.raises(ConfigError) as caught:
            read_key_file(path)
        assert str(caught.value) == (
            f"the key file `{path}` holds no key: it does not begin with `muniment-key-1:`;"
            " `muniment key new` makes one"
        )

    def test_may_be_a_pipe(self, key):
        """`--key <(pass show archive)`"""
        reader, writer = os.pipe()
        os.write(writer, key.text().encode())
        os.close(writer)

        assert read_key_file(Path(f"/dev/fd/{reader}")).id == key.id
        os.close(reader)


class TestPassphrase:
    def test_opens_however_its_letters_were_composed(self, cheap):
        data = encrypt_bytes(b"text", Keyring([Passphrase("Schl\u00fcssel genug lang", cheap)]))

        assert decrypt_bytes(data, Keyring([Passphrase("Schlu\u0308ssel genug lang", cheap)])) == b"text"

    def test_another_opens_nothing(self, passphrase, cheap):
        data = encrypt_bytes(b"text", Keyring([passphrase]))

        with pytest.raises(WrongKeyError):
            decrypt_bytes(data, Keyring([Passphrase("incorrect horse", cheap)]))

    def test_costs_once_for_many_files(self, passphrase, cheap):
        """All files of a run share the salt; their own keys are random."""
        ring = Keyring([passphrase])
        many = [encrypt_bytes(b"text", ring) for _ in range(50)]
        reader = Passphrase("correct horse battery", cheap)

        assert {decrypt_bytes(data, Keyring([reader])) for data in many} == {b"text"}
        assert (len(passphrase._keks), len(reader._keks)) == (1, 1)

    def test_goes_on_with_the_salt_of_an_archive_that_it_read(self, passphrase, cheap):
        """So that an archive of a thousand runs has not a thousand salts."""
        old = encrypt_bytes(b"text", Keyring([passphrase]))
        later = Passphrase("correct horse battery", cheap)
        decrypt_bytes(old, Keyring([later]))
        encrypt_bytes(b"text", Keyring([later]))

        assert len(later._keks) == 1

    def test_two_runs_have_two_salts(self, cheap):
        rings = [Keyring([Passphrase("correct horse battery", cheap)]) for _ in range(2)]
        slots = [headers.read(io.BytesIO(encrypt_bytes(b"", r))).slots[0] for r in rings]

        assert slots[0].params["salt"] != slots[1].params["salt"]
        assert slots[0].kid != slots[1].kid

    def test_by_default_it_takes_what_rfc_9106_recommends(self):
        """64 MiB, three passes, four lanes."""
        cost = COSTS["interactive"]

        assert (cost.memory_kib, cost.passes, cost.lanes) == (65536, 3, 4)

    @pytest.mark.parametrize("text", ["", "hunter2", "elevenchars", "aaaaaaaaaaaaaaaaaa", "12121212121212"])
    def test_a_weak_one_is_told(self, text):
        assert problem_with(text)

    def test_a_good_one_is_not(self):
        assert problem_with("correct horse battery staple") is None


class Kms:
    """A key service as a plugin has it: it wraps by a secret of its own, and counts its calls."""

    def __init__(self) -> None:
        self.calls = []
        self._keys = {"archive": Key.new(), "other": Key.new()}

    def wrap(self, key_name, key, context):
        self.calls.append("wrap")
        if key_name not in self._keys:
            raise FatalError(f"kms: there is no key `{key_name}`; create it")
        return encrypt_bytes(key, Keyring([self._keys[key_name]]), context=context)

    def unwrap(self, key_name, wrapped, context):
        self.calls.append("unwrap")
        if wrapped == b"busy":
            raise TransientError("kms: busy")
        return decrypt_bytes(wrapped, Keyring([self._keys[key_name]]), context=context)


class TestService:
    def test_opens_what_it_wrapped(self):
        """A keyring asks it once, whatever the number of files."""
        kms = Kms()
        writer, reader = (Keyring([ServiceKey("kms", "archive", kms)]) for _ in range(2))
        many = [encrypt_bytes(b"text", writer) for _ in range(20)]

        assert {decrypt_bytes(data, reader) for data in many} == {b"text"}
        assert kinds(many[0]) == ["service"]
        assert kms.calls == ["wrap", "unwrap"]

    def test_never_sees_the_key_of_a_file(self):
        seen = []

        class Spy(Kms):
            def wrap(self, key_name, key, context):
                seen.append(key)
                return super().wrap(key_name, key, context)

        ring = Keyring([ServiceKey("kms", "archive", Spy())])
        data = encrypt_bytes(b"text", ring)

        assert ring.open(headers.read(io.BytesIO(data))) not in seen

    def test_another_key_of_the_service_is_not_believed(self):
        """Whoever may use that one could make files that pass for ours."""
        kms = Kms()
        forged = encrypt_bytes(b"text", Keyring([ServiceKey("kms", "other", kms)]))
        kms.calls.clear()

        with pytest.raises(WrongKeyError):
            decrypt_bytes(forged, Keyring([ServiceKey("kms", "archive", kms)]))
        assert kms.calls == []

    def test_what_it_refuses_is_said(self):
        with pytest.raises(FatalError, match="^kms: there is no key `gone`; create it$"):
            encrypt_bytes(b"text", Keyring([ServiceKey("kms", "gone", Kms())]))

    def test_what_it_breaks_is_named_without_its_words(self):
        class Broken(Kms):
            def wrap(self, key_name, key, context):
                raise RuntimeError("token=hunter2")

        with pytest.raises(FatalError) as caught:
            encrypt_bytes(b"text", Keyring([ServiceKey("kms", "archive", Broken())]))
        assert str(caught.value) == "the key service `kms` failed to wrap with `archive`: RuntimeError"

    def test_stands_beside_other_keys(self, key):
        """A key in a safe opens what the service no longer does."""
        data = encrypt_bytes(b"text", Keyring([ServiceKey("kms", "archive", Kms()), key]))

        assert decrypt_bytes(data, Keyring([key])) == b"text"

    def test_is_found_among_the_installed(self, tmp_path, monkeypatch):
        info = tmp_path / "acme_kms-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-kms\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[muniment.key_services.v1]\nacme = acme_kms:Service\nbad = acme_kms:No\n"
        )
        (tmp_path / "acme_kms.py").write_text(
            "class Service:\n"
            "    def wrap(self, key_name, key, context): return bytes(b ^ 85 for b in key)\n"
            "    def unwrap(self, key_name, wrapped, context): return bytes(b ^ 85 for b in wrapped)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        ring = Keyring([service_key("acme:projects/a/keys/b")])

        assert decrypt_bytes(encrypt_bytes(b"text", ring), ring) == b"text"
        with pytest.raises(PluginError, match="^the key service `bad` of `acme-kms` cannot be loaded: AttributeError"):
            service_key("bad:x")

    def test_one_that_is_missing_is_named(self):
        with pytest.raises(PluginError, match="^no key service `nowhere` is installed; install the plugin"):
            service_key("nowhere:x")


class TestKeyring:
    def test_writes_for_all_and_opens_with_any(self, key, passphrase):
        data = encrypt_bytes(b"text", Keyring([key, passphrase]))

        assert kinds(data) == ["raw", "argon2id"]
        assert decrypt_bytes(data, Keyring([key])) == b"text"
        assert decrypt_bytes(data, Keyring([passphrase])) == b"text"

    def test_readers_open_and_are_not_written_for(self, key):
        old = Key.new()
        ring = Keyring([key], readers=[old])

        assert decrypt_bytes(encrypt_bytes(b"text", Keyring([old])), ring) == b"text"
        with pytest.raises(WrongKeyError):
            decrypt_bytes(encrypt_bytes(b"text", ring), Keyring([old]))

    def test_tries_no_passphrase_where_a_key_opens(self, key, passphrase, cheap):
        data = encrypt_bytes(b"text", Keyring([passphrase, key]))
        reader = Passphrase("correct horse battery", cheap)

        decrypt_bytes(data, Keyring([key, reader]))

        assert not reader._keks

    def test_at_most_sixteen_keys_open_one_object(self, key):
        data = encrypt_bytes(b"text", Keyring([key, *(Key.new() for _ in range(15))]))

        with pytest.raises(FatalError, match="^at most 16 keys open one object; rotate away one"):
            add_recipients(io.BytesIO(data), Keyring([key]), Keyring([Key.new()]))
