"""Names and values that MongoDB refuses become ones that it takes."""

import bson
from hypothesis import given
from hypothesis import strategies as st

from muniment_plugins.sinks.mongodb.keys import (
    LEAD,
    MAX_DEPTH,
    document_id,
    escape_key,
    scrubbed,
    storable,
    unescape_key,
)

SPECIAL = f"$.\0{LEAD}\uff04\uff0e\u2400\ud800\udfffd8a"
names = st.text(st.one_of(st.characters(codec=None), st.sampled_from(SPECIAL)))
# What comes back from a server is a name that it takes: no surrogates, which it could not send.
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(st.characters(codec="utf-8"))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(names, inner)),
)


def unescaped(value):
    if isinstance(value, dict):
        return {unescape_key(k): unescaped(v) for k, v in value.items()}
    return [unescaped(v) for v in value] if isinstance(value, list) else value


class TestNames:
    @given(names)
    def test_come_back_and_are_taken(self, name):
        """Escaping is reversible, and gives a name that no version of the server refuses."""
        escaped = escape_key(name)

        assert unescape_key(escaped) == name
        assert escaped and not escaped.startswith("$") and "." not in escaped and "\0" not in escaped
        escaped.encode()

    @given(values)
    def test_come_back_from_within_a_document(self, value):
        """Whole JSON values survive BSON."""
        document = bson.decode(bson.encode({"value": storable(value)}))

        assert unescaped(document["value"]) == value

    def test_plain_ones_stay_as_they_are(self):
        """A value that needs no escaping is not even copied."""
        value = {"model": "gpt", "nested": [{"a_b-c": 1}]}

        assert storable(value) is value

    def test_read_well(self):
        """A person recognises an escaped name."""
        assert escape_key("a.b") == "a\uff0eb"
        assert escape_key("$ref") == "\uff04ref"
        assert escape_key("cost$") == "cost$"


class TestValues:
    def test_too_deep_becomes_json_text(self):
        """The server takes 180 levels; the rest is text."""
        value = []
        for _ in range(300):
            value = [value]

        found = storable(value)
        for _ in range(MAX_DEPTH):
            found = found[0]

        assert found == "[" * (301 - MAX_DEPTH) + "]" * (301 - MAX_DEPTH)

    def test_what_bson_lacks_is_shown_as_the_nearest(self):
        """Large integers keep their digits; lone surrogates become U+FFFD."""
        found = scrubbed({"big": 2**63, "huge": 10**40, "text": "a\ud800b", "list": [-(2**63) - 1]})

        assert str(found["big"]) == "9223372036854775808"
        assert found["huge"] == str(10**40)
        assert found["text"] == "a\ufffdb"
        assert str(found["list"][0]) == "-9223372036854775809"
        bson.encode(found)


class TestIds:
    def test_the_key_itself_where_it_can_be(self):
        """Also with NUL: BSON strings have their length."""
        assert document_id("chatgpt:abc\0d é") == "chatgpt:abc\0d é"

    def test_a_digest_where_it_cannot(self):
        """Long keys, lone surrogates, and what looks like such a digest."""
        for key in ("x" * 513, "é" * 257, "a\ud800", "sha256:1"):
            assert document_id(key).startswith("sha256:") and len(document_id(key)) == 71
        assert len({document_id(k) for k in ("a\ud800", "a\ud801", "a\ufffd")}) == 3
