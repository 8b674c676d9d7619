"""Words for the index, phrases for a query."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment_plugins.sinks.sqlite.text import index_text, match_expression, scrub

WORDS = [
    "hello",
    "wörld",
    "数据库",
    "ひらがな",
    "한국어",
    "-x",
    '"a b"',
    "*",
    "OR",
    "NEAR(",
    "\0",
    "\ud83d",
    "''",
    "():^",
]


@pytest.fixture(scope="module")
def fts():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(title, text, content='', tokenize='unicode61')")
    return connection


def finds(fts, text, query):
    fts.execute("INSERT INTO t(rowid, title, text) VALUES(1, '', ?)", (index_text(text),))
    try:
        return fts.execute("SELECT rowid FROM t WHERE t MATCH ?", (match_expression(query),)).fetchall() == [(1,)]
    finally:
        fts.execute("INSERT INTO t(t, rowid, title, text) VALUES('delete', 1, '', ?)", (index_text(text),))


class TestIndex:
    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("会话归档工具", "档"),
            ("会话归档工具", "归档"),
            ("会话归档工具", "话归档工"),
            ("データベースを検索", "タベ"),
            ("한국어 검색", "국어"),
            ("𠀀𠀁", "𠀁"),
            ("a数据b", "数据b"),
            ("ﾃﾞｰﾀ", "データ"),
            ("Café in Straßburg", "cafe"),
            ("поиск по архиву", "архи"),
            ("tax return 2025", "return tax"),
        ],
    )
    def test_it_finds(self, fts, text, query):
        """Words, prefixes of the last word, and any substring of Chinese, Japanese and Korean."""
        assert finds(fts, text, query)

    @pytest.mark.parametrize(
        ("text", "query"), [("会话归档", "档归"), ("hello", "-hello x"), ("hello world", '"world hello"')]
    )
    def test_it_does_not_find(self, fts, text, query):
        """A phrase is in order; what is left out is left out."""
        assert not finds(fts, text, query)

    @given(text=st.text(alphabet="数据库归档한국어ひらがなカタ", min_size=1, max_size=12), data=st.data())
    def test_every_substring_of_cjk_is_found(self, fts, text, data):
        """From one character up."""
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))

        assert finds(fts, text, text[start:end])


class TestMatchExpression:
    @given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), max_size=5).map(" ".join))
    def test_no_query_is_an_error(self, fts, query):
        """Whatever a person types, SQLite takes it."""
        if expression := match_expression(query):
            fts.execute("SELECT rowid FROM t WHERE t MATCH ?", (expression,)).fetchall()

    def test_nothing_to_search_for_is_empty(self):
        """Marks alone are no words."""
        assert match_expression(' "" * - () ') == ""


class TestScrub:
    def test_it_replaces_lone_surrogates_alone(self):
        """Whole characters stay."""
        assert scrub("a\ud83db😀数") == "a\ufffdb😀数"
