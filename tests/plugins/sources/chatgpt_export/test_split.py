import json
import os
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment_plugins.sources.chatgpt_export import ends as ends_module
from muniment_plugins.sources.chatgpt_export import split as split_module
from muniment_plugins.sources.chatgpt_export.split import (
    NotJSONError,
    Piece,
    Shape,
    find_start,
    is_conversation,
    split,
)

GOOD = {"title": "good", "mapping": {"a": {"id": "a", "message": None, "parent": None}}, "current_node": "a"}
FIRST = json.dumps(GOOD | {"title": "first"}).encode()
SECOND = json.dumps(GOOD | {"title": "second"}).encode()
THIRD = json.dumps(GOOD | {"title": "third"}).encode()


def in_blocks(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def cut(data: bytes, size: int = 1 << 20) -> list[Piece]:
    shape, start = find_start(in_blocks(data, size))
    return list(split(in_blocks(data[start:], size), shape, start))


def good(pieces: list[Piece]) -> list[bytes]:
    return [p.data for p in pieces if p.data is not None]


def bad(pieces: list[Piece]) -> list[tuple[int, int]]:
    return [(p.start, p.end) for p in pieces if p.data is None]


def conversations(n: int) -> list[dict[str, Any]]:
    texts = [
        '}, {"title": "x"',
        '\\"}, {\\"title\\": \\"',
        "",
        '[[[{{{"',
        "\\",
        '\\\\"',
        "\u2028\U0001f600",
        "\ue200cite",
    ]
    lookalikes = [GOOD, GOOD | {"title": "y"}]
    return [GOOD | {"title": texts[i % 8], "extra": lookalikes, "text": "word " * (i * 7 % 50)} for i in range(n)]


LIST = conversations(40)
ADDED_SURROGATES = [c | {"title": "\ud83d" + str(i) + "\udc00"} for i, c in enumerate(LIST)]
LAYOUTS = {
    "default": json.dumps(LIST).encode(),
    "compact": json.dumps(LIST, separators=(",", ":")).encode(),
    "unescaped": json.dumps(LIST, ensure_ascii=False).encode(),
    "indented": json.dumps(LIST, indent=2).encode(),
    "tabs and CRLF": json.dumps(LIST, indent="\t").replace("\n", "\r\n").encode(),
    "keys in any order": json.dumps(
        [dict(random.Random(i).sample(sorted(c.items()), len(c))) for i, c in enumerate(LIST)]
    ).encode(),
    "BOM": b"\xef\xbb\xbf" + json.dumps(LIST).encode(),
    "blanks around": b" \n" + json.dumps(LIST).encode() + b"\n \r\n",
    "lone surrogates": json.dumps(ADDED_SURROGATES).encode(),
    "one": json.dumps(LIST[:1]).encode(),
    "empty": b"[]",
    "empty with blanks": b" [ \n ] \n",
}


class TestLayouts:
    @pytest.mark.parametrize("size", [1, 7, 1009, 1 << 20])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_gives_every_value_however_the_array_is_written(self, layout: str, size: int) -> None:
        """Each slice parses to the value that json sees, and nothing is rejected."""
        data = LAYOUTS[layout]

        pieces = cut(data, size)

        assert [json.loads(d) for d in good(pieces)] == json.loads(data.decode("utf-8-sig"))
        assert bad(pieces) == []

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_does_without_the_offset_in_the_error(self, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Should msgspec word its error differently, brackets are followed, with the same result."""
        expected = cut(LAYOUTS[layout])
        monkeypatch.setattr(ends_module, "_ERROR_NAMES_END", False)

        assert cut(LAYOUTS[layout], 1009) == expected

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_places_are_those_of_the_data(self, layout: str) -> None:
        """``data[start:end]`` is the slice."""
        data = LAYOUTS[layout]

        assert all(data[p.start : p.end] == p.data for p in cut(data, 100))

    @pytest.mark.parametrize("size", [1, 1 << 20])
    def test_finds_the_array_in_a_wrapper(self, size: int) -> None:
        """``{"conversations": [...]}`` with other keys around."""
        data = b'{"version": [1, {"mapping": 2}], "conversations" : [ %s, %s ], "more": [3]}' % (FIRST, SECOND)

        assert good(cut(data, size)) == [FIRST, SECOND]

    def test_takes_a_single_conversation(self) -> None:
        assert good(cut(b" " + FIRST + b"\n")) == [FIRST]

    @pytest.mark.parametrize("data", [b"", b"   ", b"nonsense", b"<html>", b'"text"', b"12"])
    def test_refuses_what_is_no_array_or_object(self, data: bytes) -> None:
        with pytest.raises(NotJSONError):
            find_start(in_blocks(data))

    def test_yields_values_that_are_no_conversations(self) -> None:
        """Whoever decodes rejects them, with their place."""
        assert good(cut(b'[1, "\\ud83d", null, {"a": [2]}, [], 1e400]')) == [
            b"1", b'"\\ud83d"', b"null", b'{"a": [2]}', b"[]", b"1e400",
        ]  # fmt: skip

    def test_large_values_cost_what_they_weigh(self) -> None:
        """Values larger than any window come whole, also when brackets have to be followed."""
        large = json.dumps(GOOD | {"text": "word \u00e9 " * 400_000}).encode()
        odd = json.dumps(GOOD | {"text": "\ud83d" + "word \u00e9 " * 400_000, "list": [[1]] * 1000}).encode()

        assert good(cut(b"[%s,%s,%s]" % (large, odd, FIRST), 1 << 16)) == [large, odd, FIRST]

    def test_deep_nesting_is_cut_by_brackets(self) -> None:
        deep = b'{"mapping": ' + b'{"a":[' * 50_000 + b"]}" * 50_000 + b"}"

        assert good(cut(b"[%s,%s]" % (deep, FIRST))) == [deep, FIRST]


# Files of the kind that JSONTestSuite has, and what is wrong with them.
BROKEN = [
    b"", b" ", b",", b"]", b"}", b"[", b"{", b'"', b"'", b"[1", b'["x"]]', b'{"a":1}}', b"[1 true]",
    b"[1,]", b"[,1]", b"[1,,2]", b'["a', b'["a\n', b"[\x00]", b"\x00", b'{"a":"b"}#{}', b'{"a":"b"}/**/',
    b'["\\x00"]', b"[1.]", b"[-]", b'{"a":"a', b'{"a" b}', b"{a:1}", b'{"a":1,}', b'["\\ud83d',
    b'["\\ud83d\\"]', b'["\\ud83d\\u1"]', b"nul", b"[nul", b"[tru]", b"<null>", b"\xef\xbb\xbf", b"\xe5",
    b"[\xe5]", b'{"a":[1', b'{"title": "x", "mapping": {"n": {', b"[" * 5000, b'[{"":' * 5000, b"1]",
    b"[][]", b'{"a": true} "x"', b"2@", b"[1}", b"\xe2\x81\xa0", b"*", b'{"x": true,', b'[{"a":1},',
    b'{"extra": [{"mapping": {}}, {"mapping": {}}, {"mapping": {}}], "bad": nul}', b"[\x0c]",
    b'[\\u000A""]',
]  # fmt: skip


def around(broken: bytes) -> tuple[bytes, tuple[int, int]]:
    """Return an array with ``broken`` between two conversations, and where it stands without its blanks."""
    head = b"[%s, " % FIRST
    left = len(broken) - len(broken.lstrip(b" \t\r\n"))
    inner = broken.strip(b" \t\r\n")
    start = len(head) + left if inner else len(head) + len(broken)
    return b"%s%s, %s]" % (head, broken, SECOND), (start, start + len(inner))


def check_neighbours(broken: bytes, size: int) -> None:
    data, place = around(broken)

    pieces = cut(data, size)

    values = [p for p in pieces if p.data is not None]
    assert values[0].data == FIRST
    assert values[-1].data == SECOND
    rest = [p for p in pieces if p.data not in (FIRST, SECOND)]
    assert (rest[0].start, rest[-1].end) == place
    assert len(rest) == 1 or broken == b'[""],'  # a sound value, and nothing behind a comma
    if rest[-1].data is None:
        assert rest[-1].digest == sha256(data[rest[-1].start : place[1]]).hexdigest()
    else:
        with pytest.raises(ValueError):
            json.loads(rest[-1].data.decode())


def corpus() -> list[Path]:
    folder = Path(os.environ.get("MUNIMENT_CORPORA", "none"), "JSONTestSuite", "test_parsing")
    return sorted(folder.glob("n_*.json"))


class TestBrokenValues:
    @pytest.mark.parametrize("broken", BROKEN, ids=lambda b: repr(b[:20]))
    @pytest.mark.parametrize("size", [5, 1 << 20])
    def test_neighbours_survive_and_the_range_is_exact(self, broken: bytes, size: int) -> None:
        """What is no JSON is rejected with its bytes, between two conversations that are not."""
        check_neighbours(broken, size)

    def test_neighbours_survive_the_corpus(self) -> None:
        """The same for every file of JSONTestSuite that must be refused."""
        files = corpus()
        if not files:
            pytest.skip("MUNIMENT_CORPORA does not name a folder with JSONTestSuite")
        for file in files:
            check_neighbours(file.read_bytes(), 1 << 20)

    @pytest.mark.parametrize("broken", [b for b in BROKEN if b.strip()], ids=lambda b: repr(b[:20]))
    def test_neighbours_survive_when_two_are_broken(self, broken: bytes) -> None:
        data = b"[%s,%s,%s,%s,%s]" % (FIRST, broken, SECOND, broken, THIRD)

        pieces = cut(data)

        kept = [d for d in good(pieces) if d in (FIRST, SECOND, THIRD)]
        assert kept == [FIRST, SECOND, THIRD]

    def test_broken_neighbours_are_one_range(self) -> None:
        data = b"[%s, nul, {x}, 5, %s]" % (FIRST, SECOND)

        pieces = cut(data)

        assert good(pieces) == [FIRST, SECOND]
        assert [data[a:b] for a, b in bad(pieces)] == [b"nul, {x}, 5"]

    def test_survives_in_a_wrapper(self) -> None:
        data = b'{"conversations": [%s, ["x"]], %s, nul]}' % (FIRST, SECOND)

        pieces = cut(data)

        assert good(pieces) == [FIRST, SECOND]
        assert [data[a:b] for a, b in bad(pieces)] == [b'["x"]]', b"nul"]

    def test_a_missing_comma_loses_nothing(self) -> None:
        pieces = cut(b"[%s %s]" % (FIRST, SECOND))

        assert good(pieces) == [FIRST, SECOND]
        assert len(bad(pieces)) == 1

    def test_goes_on_with_a_conversation_that_has_lone_surrogates(self) -> None:
        odd = json.dumps(GOOD | {"title": "\ud83d"}).encode()

        assert good(cut(b"[%s, nul, %s]" % (FIRST, odd))) == [FIRST, odd]

    def test_a_long_broken_range_is_not_held(self) -> None:
        """Only its end is, so memory stays bounded; the digest is of the whole range."""
        junk = b"\x00" * 5_000_000
        data = b"[%s,%s,%s]" % (FIRST, junk, SECOND)

        pieces = cut(data, 1 << 16)

        assert good(pieces) == [FIRST, SECOND]
        assert pieces[1].digest == sha256(junk).hexdigest()

    def test_too_large_a_value_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(split_module, "MAX_CONVERSATION_BYTES", 100_000)
        large = json.dumps(GOOD | {"text": "word " * 100_000}).encode()

        pieces = cut(b"[%s, %s, %s]" % (FIRST, large, SECOND), 1 << 14)

        assert good(pieces) == [FIRST, SECOND]
        assert bad(pieces) == [(len(FIRST) + 3, len(FIRST) + 3 + len(large))]


class TestTruncation:
    def test_every_place_of_a_cut(self) -> None:
        """Whole conversations come; the rest is one rejected range up to the end."""
        data = b'[%s, %s, {"title": "x", "list": [{"a": 1}, {"b": [2]}]}]' % (FIRST, SECOND)
        values = good(cut(data))
        for end in range(1, len(data)):
            pieces = cut(data[:end])
            assert good(pieces) == values[: len(good(pieces))]
            assert [b for _, b in bad(pieces)] == [len(data[:end].rstrip(b" "))] or data[:end].endswith(b", ")
            assert len(bad(pieces)) == 1

    def test_data_behind_the_array_is_rejected(self) -> None:
        data = b"[%s]\x00\x00" % FIRST

        pieces = cut(data)

        assert good(pieces) == [FIRST]
        assert bad(pieces) == [(len(FIRST) + 1, len(data))]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class TestLaws:
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(json_values, max_size=8),
        st.sampled_from([None, 1, "\t"]),
        st.booleans(),
        st.integers(1, 64),
    )
    def test_any_array_comes_apart_into_its_values(
        self, values: list[Any], indent: Any, ascii_only: bool, size: int
    ) -> None:
        # A lone surrogate can stand there only as its escape.
        data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode(errors="backslashreplace")

        pieces = cut(data, size)

        assert [json.loads(d) for d in good(pieces)] == values
        assert bad(pieces) == []

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from([FIRST, SECOND, b"1", b"nul", b'["x"]]', b"", b"{", b'"a'])), st.integers(1, 500))
    def test_cutting_goes_on_from_every_place(self, values: list[bytes], size: int) -> None:
        """From each `Piece.next` exactly the pieces come that came behind it."""
        data = b"[" + b",".join(values) + b"]"
        pieces = cut(data)
        for i, piece in enumerate(pieces):
            if piece.next is not None:
                again = split(in_blocks(data[piece.next :], size), Shape.ARRAY, piece.next, resumed=True)
                assert list(again) == pieces[i + 1 :]

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from([FIRST, SECOND, THIRD]), min_size=1), st.data())
    def test_no_byte_is_forgotten(self, values: list[bytes], data: st.DataObject) -> None:
        """Whatever happens to a byte, all of the data is in a piece or between two."""
        whole = bytearray(b"[" + b", ".join(values) + b"]")
        whole[data.draw(st.integers(1, len(whole) - 1))] = data.draw(st.integers(0, 255))

        pieces = cut(bytes(whole))

        ends = [1] + [p.end for p in pieces]
        starts = [p.start for p in pieces] + [len(whole)]
        assert all(bytes(whole[a:b]).strip(b" \t\r\n,]") == b"" for a, b in zip(ends, starts, strict=True))


class TestIsConversation:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (FIRST, True),
            (b'{"conversation_id": "x", "title": null, "create_time": 1}', True),
            (b'{"current_node": null}', True),
            (b'{"title": "\\ud83d", "mapping": {}}', True),
            (b'{"title": "\\ud83d"}', False),
            (b'{"id": "x", "message": {"mapping": {}}}', False),
            (b'[{"mapping": {}}]', False),
            (b'{"mapping": {}', False),
            (b"1", False),
        ],
    )
    def test_by_the_keys_of_the_object(self, data: bytes, expected: bool) -> None:
        assert is_conversation(data) is expected
