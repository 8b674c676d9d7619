"""Commands on archives in folders that are encrypted, as they are typed."""

import json

import pytest

from muniment.crypto import Keyring, read_key_file
from muniment.crypto.envelope import Vault, encrypt_bytes
from muniment.crypto.folders import hidden_name


@pytest.fixture
def demo(muniment, folder):
    """Return a small plain archive, and make `a.key` and `b.key`."""
    assert muniment("demo", "--dir", "demo", "-q").exit_code == 0
    for name in ("a.key", "b.key"):
        assert muniment("key", "new", name).exit_code == 0
    return "demo/archive.db"


@pytest.fixture
def encrypted(muniment, demo, folder):
    """Return an encrypted folder of Markdown."""
    made = muniment("export", demo, "--format", "markdown", "--to", "chats", "--encrypt-key", "a.key", "-q")
    assert made.exit_code == 0, made.output
    return folder / "chats"


class TestDecryptFolder:
    def test_it_gives_back_names_and_links(self, muniment, demo, encrypted, folder):
        """Byte for byte what an export without encryption would have written."""
        assert muniment("export", demo, "--format", "markdown", "--to", "plain", "-q").exit_code == 0

        result = muniment("decrypt", "chats", "--key", "a.key", "--to", "readable")

        assert result.exit_code == 0, result.output
        assert _files(folder / "readable") == _files(folder / "plain")

    def test_without_the_vault_names_stay_as_they_are(self, muniment, encrypted, folder):
        (encrypted / ".muniment" / "vault").unlink()

        assert muniment("decrypt", "chats", "--key", "a.key", "--to", "readable").exit_code == 0

        expected = {p.relative_to(encrypted).as_posix().removesuffix(".enc") for p in encrypted.rglob("*.enc")}
        assert set(_files(folder / "readable")) == expected

    def test_another_key_opens_nothing(self, muniment, encrypted, folder):
        assert muniment("decrypt", "chats", "--key", "b.key", "--to", "readable").exit_code == 12
        assert not (folder / "readable").exists()

    def test_nothing_is_overwritten(self, muniment, encrypted, folder):
        (folder / "readable").mkdir()
        (folder / "readable" / "mine.md").write_text("mine")

        assert muniment("decrypt", "chats", "--key", "a.key", "--to", "readable").exit_code == 1
        assert _files(folder / "readable") == {"mine.md": b"mine"}

    @pytest.mark.parametrize("name", ["../outside.md", "/tmp/outside.md", ".muniment/state.db", "a//b", "x\0y"])
    def test_a_name_that_leaves_its_folder_is_refused(self, muniment, encrypted, folder, name):
        """Whoever has the keys can write any name; a reader takes none that leads elsewhere."""
        keyring = Keyring([read_key_file(folder / "a.key")])
        vault = Vault.open((encrypted / ".muniment" / "vault").read_bytes(), keyring)
        about = {"name": hidden_name(name, vault)}
        (encrypted / "evil.md.enc").write_bytes(encrypt_bytes(b"evil", keyring, about=about))

        result = muniment("decrypt", "chats", "--key", "a.key", "--to", "readable", "--json")

        assert result.exit_code == 1
        assert [f["path"] for f in json.loads(result.stdout)["failed"]] == ["chats/evil.md.enc"]
        assert b"evil" not in _files(folder / "readable").values()

    def test_a_changed_header_is_refused(self, muniment, encrypted, folder):
        """The name is part of what the file's key authenticates."""
        path = next(p for p in sorted(encrypted.glob("*.enc")))
        data = path.read_bytes()
        at = data.index(b'"name":"') + 8
        path.write_bytes(data[:at] + (b"B" if data[at : at + 1] != b"B" else b"C") + data[at + 1 :])

        result = muniment("decrypt", "chats", "--key", "a.key", "--to", "readable", "--json")

        assert result.exit_code != 0
        assert len(json.loads(result.stdout)["failed"]) == 1


class TestExport:
    def test_an_encrypted_archive_goes_out_and_in(self, muniment, demo, folder):
        """Folder, one file, and back: the same conversations."""
        assert muniment("import", demo, "--to", "parts", "--encrypt-key", "a.key", "-q").exit_code == 0
        steps = [
            ("export", "parts", "--key", "a.key", "--to", "all.jsonl.zst.enc", "--encrypt-key", "b.key"),
            ("export", "all.jsonl.zst.enc", "--key", "b.key", "--to", "all.jsonl"),
            ("export", demo, "--to", "expected.jsonl"),
        ]
        for step in steps:
            result = muniment(*step, "-q")
            assert result.exit_code == 0, result.output

        assert _lines(folder / "all.jsonl") == _lines(folder / "expected.jsonl")

    @pytest.mark.parametrize(("key", "code"), [((), 78), (("--key", "b.key"), 12)])
    def test_without_the_key_nothing_goes_out(self, muniment, demo, folder, key, code):
        assert muniment("import", demo, "--to", "parts", "--encrypt-key", "a.key", "-q").exit_code == 0

        assert muniment("export", "parts", *key, "--to", "all.jsonl").exit_code == code
        assert not (folder / "all.jsonl").exists()

    def test_the_name_of_an_encrypted_file_says_so(self, muniment, demo, folder):
        result = muniment("export", demo, "--to", "all.jsonl", "--encrypt-key", "a.key")

        assert result.exit_code == 2
        assert "must end in `.enc`" in result.stderr


class TestKeysOfAFolder:
    def test_verify_reads_with_a_key_and_compares_without(self, muniment, demo, folder):
        assert muniment("import", demo, "--to", "parts", "--encrypt-key", "a.key", "-q").exit_code == 0

        with_key = json.loads(muniment("verify", "parts", "--key", "a.key", "--json").stdout)
        without = json.loads(muniment("verify", "parts", "--json").stdout)

        assert (with_key["sound"], with_key["records"], with_key["not_decoded"]) == (True, 12, 0)
        assert (without["sound"], without["records"], without["not_decoded"] > 0) == (True, 0, True)
        assert muniment("verify", "parts", "--key", "b.key").exit_code == 12

    def test_rotation_stays_provable(self, muniment, encrypted):
        """Old and new key by turns; a checkpoint that was kept before still fits."""
        assert muniment("verify", "chats", "--save-checkpoint", "kept").exit_code == 0

        assert muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "chats").exit_code == 0

        assert muniment("verify", "chats", "--key", "b.key", "--since", "kept").exit_code == 0
        assert muniment("verify", "chats", "--key", "a.key").exit_code == 12
        assert muniment("decrypt", "chats", "--key", "b.key", "--to", "readable").exit_code == 0

    def test_a_key_is_added(self, muniment, encrypted):
        assert muniment("key", "add", "--key", "a.key", "--recipient", "b.key", "chats").exit_code == 0

        for key in ("a.key", "b.key"):
            assert muniment("verify", "chats", "--key", key).exit_code == 0

    def test_one_file_of_an_archive_is_not_changed_alone(self, muniment, encrypted):
        """Its manifests would no longer be true."""
        path = next(encrypted.glob("*.enc"))
        before = path.read_bytes()

        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", str(path))

        assert result.exit_code == 1 and "belongs to the archive" in result.stderr
        assert path.read_bytes() == before

    def test_a_pipeline_file_names_its_archives(self, muniment, demo, folder):
        """With the signing key that the command line cannot name."""
        assert muniment("key", "new", "sign.key", "--signing", "example.org").exit_code == 0
        (folder / "p.yaml").write_text(
            "version: 1\nsource: {type: archive, path: demo/archive.db}\nsinks:\n  - type: files\n    path: out\n"
            "    encryption: {key: '${secret:file:a.key}', old_keys: ['${secret:file:b.key}']}\n"
            "    proof: {key: '${secret:file:sign.key}'}\n"
        )
        assert muniment("run", "p.yaml").exit_code == 0
        assert muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "out").exit_code == 78

        result = muniment("key", "rotate", "--old", "a.key", "--new", "b.key", "p.yaml")

        assert result.exit_code == 0, result.output
        verified = json.loads(muniment("verify", "out", "--key", "b.key", "--json").stdout)
        assert verified["sound"] and verified["signed_by"]
        assert muniment("run", "p.yaml").exit_code == 0


def _files(folder):
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".muniment/")}


def _lines(path):
    return sorted(path.read_text().splitlines())
