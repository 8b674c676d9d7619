"""JSON that parsers disagree about: refused or kept whole, never half."""

import json
from typing import Any

import pytest

from muniment import Origin, RecordError
from muniment_plugins.sources.chatgpt_export import vendors
from muniment_plugins.sources.chatgpt_export.assets import Assets
from muniment_plugins.sources.chatgpt_export.decode import decode_conversation
from muniment_plugins.sources.chatgpt_export.sidecars import Sidecars
from muniment_plugins.sources.chatgpt_export.split import Piece, Shape, is_conversation, split


class NoExport:
    def open(self, name: str) -> None:
        raise FileNotFoundError(name)

    def read_json(self, name: str) -> None:
        return None

    def find_asset(self, asset_id: str) -> None:
        return None


def decode(data: bytes, **limits: int) -> Any:
    sidecars = Sidecars(NoExport())  # type: ignore[arg-type]
    assets = Assets(NoExport(), sidecars)  # type: ignore[arg-type]
    return decode_conversation(data, Origin("x", "p"), sidecars, assets, **limits)


def reason(data: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        decode(data)
    return caught.value.reason


TWICE = "a key stands twice in one object, so nobody can say which value counts"


class TestKeysThatStandTwice:
    """Every parser keeps the last, and says nothing of the first."""

    @pytest.mark.parametrize("indent", [None, 1])
    def test_of_nodes(self, indent: int | None, talk: Any) -> None:
        """A message would be lost."""
        value = talk()
        value["mapping"] = {"m": value["mapping"]["m"], "n": {"id": "n", "message": None}}
        data = json.dumps(value, indent=indent).replace('"n"', '"m"').encode()

        assert reason(data) == TWICE

    def test_of_whole_mappings(self, talk: Any) -> None:
        """Of one length, and of two."""
        data = json.dumps(talk()).encode()
        mapping = json.dumps(talk()["mapping"]).encode()

        assert reason(data[:-1] + b', "mapping": ' + mapping + b"}") == TWICE
        assert reason(b'{"mapping": {}, ' + data[1:]) == TWICE

    def test_anywhere_where_the_raw_json_is_written_anew(self, talk: Any) -> None:
        """Text with lone surrogates is, so that of two values one would be gone."""
        data = json.dumps(talk(title="\ud83d", metadata={"a": 1, "b": 2})).replace('"b"', '"a"').encode()

        assert reason(data) == TWICE

    def test_within_a_node_both_stay_in_the_raw_json(self, talk: Any) -> None:
        """The last one counts, as for everybody; the evidence has both."""
        data = json.dumps(talk()).replace('"role": "user"', '"role": "user", "role": "tool"').encode()

        record = decode(data)

        assert [m.role for m in record.conversation.messages] == ["tool"]
        assert b'"role": "user", "role": "tool"' in record.raw.messages[0]


class TestDepth:
    @pytest.mark.parametrize("levels", [50, 90, 200, 800])
    def test_some_is_kept_whole(self, levels: int, talk: Any) -> None:
        """Content of a kind that nobody knows may be nested as deeply as JSON's users go."""
        deep: Any = 1
        for _ in range(levels):
            deep = [deep]
        value = talk()
        value["mapping"]["m"]["message"]["content"] = {"content_type": "odd", "x": deep}

        assert decode(json.dumps(value).encode()).conversation.messages[0].parts

    @pytest.mark.parametrize("levels", [2_000, 1_000_000])
    def test_too_much_is_refused(self, levels: int, talk: Any) -> None:
        data = json.dumps(talk(extra="x")).replace('"x"', "[" * levels + "]" * levels).encode()
        try:
            decode(data)
        except RecordError as error:
            assert error.reason in ("nested too deeply", "not JSON: nested too deeply")


class TestNumbers:
    @pytest.mark.parametrize(
        "number", ["1e400", "-1e400", "9" * 400, "9" * 5000, "1e-999", "-0", "0.1e1", "2" + "0" * 30]
    )
    def test_of_any_size_are_kept_or_refused(self, number: str, talk: Any) -> None:
        """Never infinity, never another number."""
        data = json.dumps(talk(create_time="N", odd="N")).replace('"N"', number).encode()
        try:
            record = decode(data)
        except RecordError as error:
            assert "number" in error.reason or "digits" in error.reason or "not JSON" in error.reason
        else:
            assert number.encode() in record.raw.envelope

    @pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x1", "1_0", "nul"])
    def test_that_are_none_are_refused(self, word: str, talk: Any) -> None:
        data = json.dumps(talk(odd="N")).replace('"N"', word).encode()

        assert reason(data).startswith("not JSON")


class TestSize:
    """Of what only Python's parser takes, which makes a multiple of it."""

    @pytest.fixture
    def odd(self, talk: Any) -> Any:
        return lambda size: json.dumps(talk(title="\ud83d", more="x" * size)).encode()

    def test_up_to_16_mebibytes_are_read(self, odd: Any) -> None:
        assert decode(odd(15 << 20)).conversation.title == "\ud83d"

    def test_more_is_refused_unless_it_is_allowed(self, odd: Any) -> None:
        data = odd(16 << 20)

        said = reason(data)
        assert "16,777,216 bytes" in said and "raise `max_conversation_bytes`" in said
        assert decode(data, max_bytes=8 * len(data)).conversation.title == "\ud83d"

    def test_it_is_still_known_for_what_it_is(self, odd: Any) -> None:
        """So that a file which holds nothing else is not taken for a stranger's."""
        data = odd(16 << 20)

        assert (vendors.of_value(data), is_conversation(data)) == (vendors.CHATGPT, True)
        assert vendors.of_value(data.replace(b"mapping", b"messages")) is None


class TestText:
    @pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80"])
    def test_that_is_no_utf8_is_refused(self, bad: bytes, talk: Any) -> None:
        """Also where it stands in what is skipped, and overlong or surrogate forms."""
        for key in ("title", "skipped"):
            data = json.dumps(talk(**{key: "@"})).encode().replace(b'"@"', b'"' + bad + b'"')

            assert reason(data).startswith("not JSON: not UTF-8 at byte ")

    def test_with_a_nul_is_kept(self, talk: Any) -> None:
        assert decode(json.dumps(talk(title="a\0b")).encode()).conversation.title == "a\0b"

    @pytest.mark.parametrize("control", ["\n", "\0", "\x1f"])
    def test_with_a_bare_control_is_refused(self, control: str, talk: Any) -> None:
        data = json.dumps(talk(title="@")).replace("@", control).encode()

        assert reason(data).startswith("not JSON")


class TestDensity:
    def pieces(self, value: Any) -> list[Piece]:
        data = json.dumps([value]).replace('"@"', "[" + "[]," * 1_000_000 + "[]]").encode()
        return list(split([data[1:]], Shape.ARRAY, 1))

    def test_more_values_than_text_is_refused(self, talk: Any) -> None:
        """Decoded they would take thirty times the memory."""
        (piece,) = self.pieces(talk(voice="@"))

        assert (piece.data, piece.reason) == (None, "it holds more values than any conversation of its size")
        assert len(piece.digest) == 64

    def test_text_about_values_is_text(self, talk: Any) -> None:
        """A million commas that were said."""
        value = talk()
        value["mapping"]["m"]["message"]["content"]["parts"] = ["1,2,[{" * 500_000]

        (piece,) = self.pieces(value)

        assert len(decode(piece.data or b"").conversation.messages) == 1
