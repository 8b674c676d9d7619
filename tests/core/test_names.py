"""File names from titles: confined, safe on every system, and the same each time."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muniment.names import MAX_BYTES, asset_name, clean, confined, slug, stem

NAUGHTY = [
    "", "..", "../../etc/passwd", "/abs", "C:\\x", "CON", "nul.txt", "a\0b", "\u202egnp.exe", "\ud800", "\ue000",
    "-rf", ".hidden", "trailing. ", "a\nb\tc", "<>:\"|?*", "\u200b", "e\u0301", "\u2028", "~", "x" * 500, "日" * 200,
]  # fmt: skip
titles = st.one_of(st.text(), st.text("./\\~ -:\0\n\u202e\u0301e\ud800日", max_size=300), st.sampled_from(NAUGHTY))


class TestClean:
    @given(titles)
    @example("x" * 199 + "e\u0301\u0301")
    def test_it_is_confined_and_safe(self, title):
        """Nothing that it returns can leave a folder, hide, or upset a file system."""
        name = clean(title)

        assert 0 < len(name.encode()) <= MAX_BYTES
        assert not set(name) & set('/\\:*?"<>|\0')
        assert not {unicodedata.category(c) for c in name} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        assert name[0] not in " .-" and name[-1] not in " ."
        assert unicodedata.is_normalized("NFC", name)

    @given(titles)
    def test_it_is_idempotent(self, title):
        """A clean name stays as it is."""
        assert clean(clean(title)) == clean(title)

    def test_it_keeps_what_people_write(self):
        """Words, accents and other scripts stay readable."""
        assert clean("Größe: 5/6 – 日本語?") == "Größe 5 6 – 日本語"

    def test_it_does_not_cut_a_character(self):
        """A letter whose accents do not fit goes whole."""
        assert clean("a" + "q\u0301\u0302", 4) == "a"


class TestSlug:
    @given(titles, st.text(min_size=1))
    def test_it_is_short_enough(self, title, key):
        """At most 200 bytes, the suffix counted, and its stem can be found again."""
        name = slug(title, key, ".md.zst")

        assert len(name.encode()) <= MAX_BYTES
        assert name.endswith(".md.zst")
        assert stem(name) + ".md.zst" == name

    def test_it_tells_equal_titles_apart(self):
        """The key decides, and is the same in every process."""
        assert slug("New chat", "chatgpt:1", ".md") == "New chat-170f73401327.md"
        assert slug("New chat", "chatgpt:2", ".md") != slug("New chat", "chatgpt:1", ".md")

    @pytest.mark.parametrize("title", ["con", "NUL", "com1.txt", "lpt\u00b9", "aux .x", "CONIN$"])
    def test_it_is_no_device_of_windows(self, title):
        """Whatever stands behind the dot, such a name opens a device there."""
        assert clean(title).startswith("_")
        assert clean("console") == "console"
        assert confined("nul") == "%6Eul" and confined("null") == "null"

    def test_it_names_what_has_no_title(self):
        """No title at all is as good as an empty one."""
        assert slug(None, "k").startswith("untitled-")


class TestAssetName:
    def test_it_is_the_digest(self):
        """A harmless ending is kept, for viewers; no other part of the name is."""
        assert asset_name("ab" * 32, "../x/Photo.PNG") == f"ab/{'ab' * 32}.png"
        assert asset_name("ab" * 32, "a.b/c", "image/jpeg") == f"ab/{'ab' * 32}.jpg"
        assert asset_name("ab" * 32) == f"ab/{'ab' * 32}"

    @pytest.mark.parametrize("digest", ["", "../x", "AB" * 32, "ab" * 31])
    def test_it_refuses_what_is_no_digest(self, digest):
        """A forged digest cannot choose a path."""
        with pytest.raises(ValueError, match="64 hex digits"):
            asset_name(digest)
