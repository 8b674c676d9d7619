"""Files of every version open for ever, with us and without us."""

import base64
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from muniment.crypto import Key, Keyring, Passphrase, Vault, decrypt_bytes, encrypt_bytes, encrypting

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "data" / "encrypted" / "golden"
DECODER = ROOT / "docs" / "formats" / "reference_decoder.py"
LISTED = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))


def ways():
    """Yield every golden file with everything that opens it."""
    for one in LISTED["files"]:
        for kind in ("keys", "passphrases"):
            for number, secret in enumerate(one[kind]):
                yield pytest.param(one, kind, secret, id=f"{one['file']}-{kind}-{number}")


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference_decoder", DECODER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestGolden:
    @pytest.mark.parametrize(("one", "kind", "secret"), list(ways()))
    def test_opens(self, one, kind, secret):
        holder = Key.parse(secret) if kind == "keys" else Passphrase(secret)
        data = (GOLDEN / one["file"]).read_bytes()

        plain = decrypt_bytes(data, Keyring([holder]), context=one["context"].encode())

        assert (len(plain), hashlib.sha256(plain).hexdigest()) == (one["size"], one["sha256"])

    def test_values_open(self):
        value = LISTED["value"]
        vault = Vault.open((GOLDEN / value["header"]).read_bytes(), Keyring([Key.parse(value["key"])]))

        assert vault.decrypt(bytes.fromhex(value["hex"]), value["context"].encode()) == value["plain"].encode()

    def test_every_file_is_listed(self):
        listed = {one["file"] for one in LISTED["files"]} | {LISTED["value"]["header"]}

        assert {path.name for path in GOLDEN.glob("*.enc")} == listed


class TestTheReferenceDecoder:
    @pytest.mark.parametrize(("one", "kind", "secret"), list(ways()))
    def test_opens_the_golden_files(self, reference, one, kind, secret):
        data = (GOLDEN / one["file"]).read_bytes()
        given = {"key_line": secret} if kind == "keys" else {"passphrase": secret}

        plain = reference.decode(data, context=one["context"].encode(), **given)

        assert hashlib.sha256(plain).hexdigest() == one["sha256"]

    def test_opens_what_is_written_today(self, reference, key, cheap):
        phrase = Passphrase("correct horse battery", cheap)
        data = encrypt_bytes(bytes(70_000), Keyring([phrase, key]))

        assert reference.decode(data, key_line=key.text()) == bytes(70_000)
        assert reference.decode(data, passphrase="correct horse battery") == bytes(70_000)

    def test_refuses_what_was_changed(self, reference, key):
        """It checks all that the specification says; it is no shortcut."""
        data = encrypt_bytes(bytes(20_000), Keyring([key]))
        places = [0, 7, 11, 40, 100, 390, 420, 480, 500, 9000, len(data) - 1]

        for broken in [*(data[:p] + bytes([data[p] ^ 1]) + data[p + 1 :] for p in places), data[:-1], data + b"\0"]:
            with pytest.raises((Exception, SystemExit)):
                reference.decode(broken, key_line=key.text())
        with pytest.raises(SystemExit):
            reference.decode(data, key_line=Key.new().text())

    def test_is_a_program_of_under_100_lines_that_needs_nothing_of_ours(self, tmp_path):
        text = DECODER.read_text()
        key_file = tmp_path / "a.key"
        key_file.write_text(LISTED["files"][1]["keys"][0] + "\n")
        command = [sys.executable, str(DECODER), str(GOLDEN / "raw.enc"), str(key_file)]
        done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)

        assert hashlib.sha256(done.stdout).hexdigest() == LISTED["files"][1]["sha256"]
        assert text.count("\n") < 100
        assert "import muniment" not in text
        assert "from muniment" not in text


class TestTheSpecification:
    page = (ROOT / "docs" / "formats" / "encryption.md").read_text(encoding="utf-8")

    def blocks(self, kind: str) -> list[str]:
        return [block.split("\n```")[0] for block in self.page.split(f"```{kind}\n")[1:]]

    def example(self) -> tuple[str, bytes]:
        key, data = self.blocks("text")[-2:]
        return key, base64.b64decode(data)

    def test_its_example_opens(self):
        """What stands there in base64 is a file."""
        key, data = self.example()

        assert decrypt_bytes(data, Keyring([Key.parse(key)])) == b"Where is the receipt for the roof?\n"

    def test_its_header_is_the_one_of_the_example(self):
        _, data = self.example()
        length = int.from_bytes(data[8:12], "big")

        assert json.loads(self.blocks("json")[0]) == json.loads(data[12 : 12 + length])


def test_a_stream_and_a_value_are_one_format(key):
    """What is written in pieces is read as one, and the other way round."""

    class End(io.BytesIO):
        def close(self):
            pass

    end = End()
    stream = encrypting(Keyring([key]))(end)
    stream.write(b"te")
    stream.write(b"xt")
    stream.close()

    assert decrypt_bytes(end.getvalue(), Keyring([key])) == b"text"
