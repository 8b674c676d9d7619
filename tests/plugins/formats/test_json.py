"""A JSON array is one record per line when we write it, and anything when others lay it out anew."""

import io
import json

import pytest
from msgspec.structs import replace

from muniment import Message, Origin, RecordError, TextPart
from muniment_plugins.formats import cut
from muniment_plugins.formats.json import JSONArray

ORIGIN = Origin("all.json", "p")


def encode(*records):
    form = JSONArray()
    pieces = form.separator().join(form.encode(r, lambda _: "") for r in records)
    return form.header() + pieces + form.footer()


def decode(data):
    return [replace(r, origin=ORIGIN) for r in JSONArray().decode(io.BytesIO(data), ORIGIN)]


@pytest.fixture
def several(full, make_record):
    awkward = make_record(
        Message(id="m", role="user", parts=(TextPart('a "]},{[\\" \n \ud800 \x00'),)), id="c2", title="]"
    )
    return [replace(r, origin=ORIGIN) for r in (full, awkward, make_record(id="c3"))]


LAYOUTS = {
    "minified": lambda v: json.dumps(v, separators=(",", ":")),
    "spaced": json.dumps,
    "indented": lambda v: json.dumps(v, indent=2),
    "no indent": lambda v: json.dumps(v, indent=0),
    "in a row": lambda v: "\n".join(json.dumps(x, indent=2) for x in v),
}


class TestJSONArray:
    def test_is_json(self, several):
        assert [c["id"] for c in json.loads(encode(*several))] == ["c1", "c2", "c3"]

    def test_round_trip(self, several):
        """Everything comes back, raw JSON byte for byte."""
        assert decode(encode(*several)) == several

    def test_an_empty_array_holds_nothing(self):
        assert decode(encode()) == decode(b"[]") == decode(b" [ ] ") == []

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("window", [16, 1 << 18])
    def test_reads_what_another_tool_laid_out(self, several, layout, window, monkeypatch):
        """Blanks between tokens make no difference, nor where the windows end."""
        monkeypatch.setattr(cut, "_WINDOW", window)
        data = LAYOUTS[layout](json.loads(encode(*several))).encode()

        assert [r.conversation for r in decode(data)] == [r.conversation for r in several]

    def test_a_broken_line_spoils_no_other(self, several):
        """Each record of ours has a line, so damage stays in it."""
        lines = encode(*several).split(b"\n")
        lines[2] = lines[2][:20] + b'"' + lines[2][20:]

        pieces = list(cut.cut_array(io.BytesIO(b"\n".join(lines))))

        assert [p.decode(ORIGIN).key for p in (pieces[0], pieces[2])] == ["chatgpt:c1", "chatgpt:c3"]
        with pytest.raises(RecordError, match=rf"^all.json: bytes {pieces[1].start} to {pieces[1].end}: "):
            pieces[1].decode(ORIGIN)

    @pytest.mark.parametrize("junk", ["1", '"text"', "null", "[]", "{}"])
    def test_what_is_no_record_is_an_error(self, several, junk):
        """Nothing between two records is passed over."""
        with pytest.raises(RecordError):
            decode(f"[{junk}, {several[2].conversation.id!r}]".replace("'", '"').encode())

    @pytest.mark.parametrize("layout", ["ours", "indented"])
    def test_an_array_that_is_cut_off_is_an_error(self, several, layout):
        """Half a file is never taken for a whole one."""
        data = encode(*several) if layout == "ours" else json.dumps(json.loads(encode(*several)), indent=1).encode()

        for end in (len(data) // 2, len(data) - 2):
            with pytest.raises(RecordError):
                decode(data[:end])
