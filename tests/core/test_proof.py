"""Signed checkpoints: as other tools write them, and nothing else."""

import base64
import stat

import pytest

from muniment.errors import FatalError
from muniment.proof import SignedHead, SigningKey, TreeHead, VerifierKey, create_signing_key, sign_head

HEAD = TreeHead("muniment/log/abc", 7, bytes(range(32)))
KEY = SigningKey("example.org/archive", b"\x05" * 32)
OTHER = SigningKey("example.org/other", b"\x06" * 32)

# The example of the signed-note specification: a key, and a note that it has signed.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


class TestTreeHead:
    def test_it_is_three_lines(self):
        """Origin, size, root in base64."""
        assert HEAD.text() == "muniment/log/abc\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"

    def test_it_comes_back(self):
        """Also without a signature."""
        assert SignedHead.parse(sign_head(HEAD)).head == HEAD

    @pytest.mark.parametrize(
        "note",
        [
            b"", b"\n", b"a\n1\n\n", b"a\n01\n" + base64.b64encode(bytes(32)) + b"\n\n",
            b"a\n1\n" + base64.b64encode(bytes(31)) + b"\n\n", b"a\n-1\n" + base64.b64encode(bytes(32)) + b"\n\n",
            b"a\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n\n", b"\xff\n1\n\n", b"a" * 70000,
            sign_head(HEAD)[:-1], sign_head(HEAD) + b"\xe2\x80\x94 no signature\n", sign_head(HEAD) + b"x\n",
        ],
    )  # fmt: skip
    def test_nothing_else_is_one(self, note):
        """Cut off, in another base64, with a line that is no signature."""
        with pytest.raises(ValueError):
            SignedHead.parse(note)


class TestSigning:
    def test_the_key_is_that_of_the_specification(self):
        """A key of the C2SP signed-note text reads, and verifies its note."""
        text, _, signature = NOTE.rpartition("\n\u2014 PeterNeumann ")
        key = VerifierKey.parse(PETER)

        assert str(key) == PETER
        assert key.verifies(text.encode(), base64.b64decode(signature)[4:])

    def test_it_is_signed_by_its_key_alone(self):
        """Not by another one, and not under another name."""
        signed = SignedHead.parse(sign_head(HEAD, [KEY]))

        assert signed.is_signed_by(KEY.verifier)
        assert not signed.is_signed_by(OTHER.verifier)
        assert not signed.is_signed_by(SigningKey("example.org/else", b"\x05" * 32).verifier)

    def test_every_bit_counts(self):
        """A flipped bit anywhere makes it none, or not signed."""
        note = sign_head(HEAD, [KEY])
        for place in range(len(note)):
            for bit in range(8):
                changed = bytearray(note)
                changed[place] ^= 1 << bit
                try:
                    found = SignedHead.parse(bytes(changed))
                except ValueError:
                    continue
                assert not found.is_signed_by(KEY.verifier)

    def test_two_can_sign(self):
        """Each is found."""
        signed = SignedHead.parse(sign_head(HEAD, [KEY, OTHER]))

        assert signed.is_signed_by(KEY.verifier) and signed.is_signed_by(OTHER.verifier)


class TestKeys:
    def test_they_come_back_from_their_text(self):
        """Private and public."""
        assert SigningKey.parse(KEY.text()).verifier == KEY.verifier
        assert VerifierKey.parse(f"{KEY.verifier}\n") == KEY.verifier

    @pytest.mark.parametrize(
        "text", ["", "x", "PRIVATE+KEY+a+00000000+AQ==", KEY.text()[:-3], KEY.text().replace("B", "C")]
    )
    def test_a_damaged_one_is_refused(self, text):
        """Without repeating it."""
        with pytest.raises(ValueError) as caught:
            SigningKey.parse(text)
        assert not text or text not in str(caught.value)

    @pytest.mark.parametrize("name", ["", "a b", "a+b"])
    def test_a_name_has_no_spaces_and_no_plus(self, name):
        """It would not come back."""
        with pytest.raises(ValueError, match="no spaces and no plus"):
            SigningKey.new(name)

    def test_it_is_never_shown_or_sent(self):
        """Its repr is the public key."""
        import pickle

        assert KEY.text() not in repr(KEY) and str(KEY.verifier) in repr(KEY)
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(KEY)

    def test_its_file_is_private_and_never_overwritten(self, tmp_path):
        """0600, and what is there stays."""
        key = create_signing_key(tmp_path / "sign.key", "example.org")

        assert stat.S_IMODE((tmp_path / "sign.key").stat().st_mode) == 0o600
        assert SigningKey.parse((tmp_path / "sign.key").read_text()).verifier == key.verifier
        with pytest.raises(FatalError, match="there is a file"):
            create_signing_key(tmp_path / "sign.key", "example.org")
