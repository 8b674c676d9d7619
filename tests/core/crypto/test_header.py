"""Headers: one way to write them, and everything else is refused before it costs anything."""

import base64
import io
import json
import re
import time
import tracemalloc

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.crypto import MAGIC, Fixed, Key, Keyring, Passphrase, encrypt_bytes, is_encrypted
from muniment.crypto import header as headers
from muniment.crypto.chunks import seal_message
from muniment.errors import DamagedError

RING = Keyring([Key(bytes(range(32)))])
DATA = encrypt_bytes(b"text", RING, content_type="text/plain", about={"archive": "a"})


def header_of(data: bytes = DATA) -> dict:
    return json.loads(headers.read(io.BytesIO(data)).data)


def framed(text: bytes) -> bytes:
    return MAGIC + len(text).to_bytes(4, "big") + text + bytes(32) + bytes(72)


def refusal(text: bytes | dict) -> str:
    data = framed(text if isinstance(text, bytes) else headers.canonical(text))
    with pytest.raises(DamagedError) as caught:
        headers.read(io.BytesIO(data))
    return str(caught.value).removeprefix("the header of the encrypted data is refused: ")


class TestReading:
    def test_gives_what_was_written(self):
        header = headers.read(io.BytesIO(DATA))

        assert (header.fixed.content_type, header.fixed.about) == ("text/plain", {"archive": "a"})
        assert [(s.alg, s.params) for s in header.slots] == [("raw", {})]
        assert DATA[: header.size] == headers.as_bytes(header)

    def test_a_framed_header_is_one(self):
        """The refusals below are for what they say."""
        headers.read(io.BytesIO(framed(headers.canonical(header_of()))))

    def test_names_files_differently(self):
        assert len({Fixed().file for _ in range(100)}) == 100

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(60), MAGIC[:6]])
    def test_refuses_what_is_not_encrypted(self, data):
        assert not is_encrypted(data)
        with pytest.raises(DamagedError, match="^this is not encrypted by muniment$"):
            headers.read(io.BytesIO(data))

    def test_says_that_a_version_is_newer(self):
        data = MAGIC[:-1] + b"\x02" + DATA[8:]

        assert is_encrypted(data)
        with pytest.raises(DamagedError, match="^the encrypted data is of version 2; a newer muniment may read it$"):
            headers.read(io.BytesIO(data))

    @pytest.mark.parametrize("cut", range(len(headers.as_bytes(headers.read(io.BytesIO(DATA))))))
    def test_refuses_a_header_that_is_cut_off(self, cut):
        with pytest.raises(DamagedError):
            headers.read(io.BytesIO(DATA[:cut]))


class TestBombs:
    """A header is a stranger's text."""

    def test_too_long(self):
        data = MAGIC + (2**32 - 1).to_bytes(4, "big") + bytes(100)

        with pytest.raises(DamagedError, match="too long"):
            headers.read(io.BytesIO(data))

    @pytest.mark.parametrize("text", [b"[" * 60_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 6 + b"]" * 6])
    def test_too_deep(self, text):
        tracemalloc.start()
        started = time.monotonic()
        said = refusal(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert said == "it is nested too deeply"
        assert time.monotonic() - started < 1
        assert peak < 8 * 2**20

    @pytest.mark.parametrize(
        "text",
        [b"", b"{", b"\xff", b"NaN", b'{"fixed":' + b"9" * 60_000 + b"}", b'"' + b"\\" * 60_001 + b'"', b"]" * 9],
    )
    def test_no_json(self, text):
        assert refusal(text) in ("it is not JSON", "it is not canonical JSON")

    def test_a_field_twice(self):
        text = headers.canonical(header_of())

        assert refusal(text.replace(b'{"fixed"', b'{"fixed":1,"fixed"', 1)) == "it is not canonical JSON"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (rb'","', rb'", "'),
            (rb"^\{", b"{ "),
            (rb'"version":1', b'"version":1.0'),
            (rb'"version":1', b'"version":1e0'),
            (rb"text/plain", rb"text/\\u0070lain"),
            (rb"text/plain", rb"text\\/plain"),
            (rb"text/plain", "täxt/plain".encode()),
            (rb"\}$", b"}\n"),
        ],
    )
    def test_written_in_another_way(self, old, new):
        """Two texts for one header would let anybody change a file that he cannot read."""
        text = re.sub(old, new, headers.canonical(header_of()), count=1)

        assert refusal(text) in ("it is not canonical JSON", "its version is not known")

    def test_too_many_keys(self):
        value = header_of()
        value["slots"] = [dict(value["slots"][0], kid=f"{i:016x}") for i in range(17)]

        assert refusal(value) == "it must name 1 to 16 keys"

    def test_no_key(self):
        assert refusal({**header_of(), "slots": []}) == "it must name 1 to 16 keys"

    def test_a_key_twice(self):
        value = header_of()

        assert refusal({**value, "slots": value["slots"] * 2}) == "it names a key twice"


def changed(path: str, value: object) -> dict:
    """Return the header with one field changed; ``...`` removes it."""
    whole = header_of()
    *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    at = whole
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return whole


class TestFields:
    @pytest.mark.parametrize("path", ["critical", "fixed.critical", "slots.0.critical", "slots.0.params.critical"])
    def test_an_unknown_one_is_refused(self, path):
        """Every field means something; what this version does not know it does not pass over."""
        assert refusal(changed(path, 1)) == "a field is missing or unknown"

    @pytest.mark.parametrize("path", ["slots", "fixed", "fixed.file", "fixed.about", "slots.0.wrapped", "slots.0.kid"])
    def test_a_missing_one_is_refused(self, path):
        assert refusal(changed(path, ...)) == "a field is missing or unknown"

    def test_facts_may_be_added(self):
        """`about` is for what a reader may leave aside."""
        headers.read(io.BytesIO(framed(headers.canonical(changed("fixed.about.new", "fact")))))

    @pytest.mark.parametrize("version", [0, 2, True, "1", None, 1.5])
    def test_another_version_is_refused(self, version):
        assert refusal(changed("fixed.version", version)) == "its version is not known"

    @pytest.mark.parametrize("path", ["fixed.file", "fixed.about", "slots.0.kid"])
    @pytest.mark.parametrize("value", [1, None, [1], "", "x" * 32])
    def test_a_wrong_type_is_refused(self, path, value):
        assert refusal(changed(path, value)) == "a field has the wrong type"

    @pytest.mark.parametrize("path", ["fixed.content_type", "fixed.about.x", "slots.0.alg"])
    @pytest.mark.parametrize("value", [1, None, [1]])
    def test_what_is_no_text_is_refused(self, path, value):
        assert refusal(changed(path, value)) == "a field has the wrong type"

    @pytest.mark.parametrize("value", ["A", "AAA=", "AB==", "A A=", "-_8=", "QQ==\n", "", "AAAA" * 35])
    def test_a_wrapped_key_has_one_form(self, value):
        assert refusal(changed("slots.0.wrapped", value)) in (
            "a field is not base64",
            "a wrapped key has the wrong length",
        )


GOOD = {"lanes": 1, "memory_kib": 19456, "passes": 2, "salt": base64.b64encode(bytes(16)).decode()}


def with_kdf(count: int = 1, **params: object) -> dict:
    value = header_of()
    slot = {**value["slots"][0], "alg": "argon2id", "params": {**GOOD, **params}}
    value["slots"] = [{**slot, "kid": f"{i:016x}"} for i in range(count)]
    return value


class TestPassphrases:
    """What a try costs has a floor and a ceiling."""

    def test_the_floor_is_allowed(self):
        headers.read(io.BytesIO(framed(headers.canonical(with_kdf()))))

    @pytest.mark.parametrize(
        "params",
        [
            {"memory_kib": 19455},
            {"memory_kib": 8, "passes": 16},
            {"passes": 1},
            {"passes": 0},
            {"passes": -1},
            {"lanes": 0},
            {"lanes": 17},
            {"passes": 17},
            {"memory_kib": 2**20 + 1, "passes": 1},
            {"memory_kib": 2**20, "passes": 5},
            {"memory_kib": 2**63},
        ],
    )
    def test_less_or_more_is_refused_untried(self, params, passphrase):
        """Weaker: a thief's header that makes guessing cheap.  Stronger: one that stops the machine."""
        started = time.monotonic()

        assert refusal(with_kdf(**params)) == "what a passphrase costs to try is out of bounds"
        assert time.monotonic() - started < 0.5

    def test_all_together_have_a_ceiling(self):
        assert refusal(with_kdf(16, memory_kib=2**20, passes=4)) == "what its passphrases cost to try is out of bounds"

    @pytest.mark.parametrize("salt", ["", "AAAA", base64.b64encode(bytes(65)).decode()])
    def test_a_salt_has_16_bytes_or_more(self, salt):
        assert refusal(with_kdf(salt=salt)) == "a salt has the wrong length"

    @pytest.mark.parametrize("value", ["2", 2.0, True, None])
    def test_numbers_are_whole(self, value):
        assert refusal(with_kdf(passes=value)) == "a field has the wrong type"

    def test_a_downgrade_is_noticed(self, cheap):
        """Weaker parameters that are allowed give another key, which opens nothing."""
        ring = Keyring([Passphrase("correct horse battery", evolve(cheap, passes=3))])
        data = encrypt_bytes(b"text", ring)
        weaker = data.replace(b'"passes":3', b'"passes":2')

        with pytest.raises(Exception, match="^no key that was given opens this"):
            ring.open(headers.read(io.BytesIO(weaker)))


class TestAnyBytes:
    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_are_refused(self, text):
        """With an error of ours."""
        with pytest.raises(DamagedError):
            headers.read(io.BytesIO(framed(text)))

    @settings(deadline=None)
    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(
        inner, max_size=3) | st.dictionaries(st.sampled_from(["fixed", "slots", "alg", "kid", "params", "wrapped",
        "about", "file", "version", "content_type"]), inner, max_size=5), max_leaves=20))  # fmt: skip
    def test_any_json_is_refused(self, value):
        refusal(headers.canonical(value))

    def test_a_wrapped_key_of_another_length_opens_nothing(self, key):
        """Even if its holder made it."""
        ring, fixed = Keyring([key]), Fixed()
        slot = ring.seal(bytes(32), fixed)[0]
        short = evolve(slot, wrapped=seal_message(bytes(32), b"", bytes(32)))

        with pytest.raises(Exception, match="^no key that was given opens this"):
            ring.open(headers.Header(fixed, (short,)))
