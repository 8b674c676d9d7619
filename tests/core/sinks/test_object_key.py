"""Templates of names: values stay inside their folder, and mistakes are sentences."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.sinks._object_key import KeyTemplate, problems
from muniment.storage import check_name
from muniment.testing import make_record

TEXTS = st.text(max_size=300) | st.text("./\\ \0%~-CON:", max_size=20)


def fill(text, **fields):
    return KeyTemplate(text).fill(make_record("c1", **fields), "jsonl")


def wrong(text, *, mode="append", ending=".jsonl", tables=()):
    return list(problems(text, mode=mode, ending=ending, tables=tables))


class TestFill:
    def test_it_takes_values_from_the_conversation(self):
        """Source, account and the date of the beginning; parts are numbered later."""
        text = "chats/{source}/{account}/{year}/{month}/{day}/{year_month}/{format}-{part}.jsonl"
        name = fill(text, account="a@b.c")

        assert name == "chats/test/a%40b.c/2026/01/02/2026-01/jsonl-{part}.jsonl"

    def test_dates_are_utc(self):
        """A conversation does not change its folder with the time zone of its times."""
        late = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))

        assert fill("x/{year}-{month}-{day}/{part}", created_at=late) == "x/2025-12-31/{part}"
        assert fill("x/{year}/{part}", created_at=datetime(7, 1, 1, tzinfo=UTC)) == "x/0007/{part}"

    def test_what_is_missing_has_a_name(self):
        """No date and no account are folders, too."""
        assert fill("x/{account}/{year_month}/{part}", created_at=None) == "x/unknown/undated/{part}"

    def test_a_mirror_has_title_and_digits(self):
        """The digits are those of the default name."""
        assert re.fullmatch(r"2026/A talk-[0-9a-f]{12}\.md", fill("{year}/{title}-{id}.md"))

    @given(account=TEXTS, title=TEXTS, key=TEXTS)
    def test_no_value_leaves_its_place(self, account, title, key):
        """Whatever a stranger writes: the folders are those of the template, and the name is one of the storage."""
        record = make_record(key, account=account, title=title)
        name = KeyTemplate("a/{account}/b/{title}-{id}.md").fill(record, "markdown")

        check_name(name)
        pieces = name.split("/")
        assert (len(pieces), pieces[0], pieces[2]) == (4, "a", "b")
        assert all(len(p.encode()) <= 200 and p[0] not in ".-~" and p[-1] not in ". " for p in pieces)

    @given(one=TEXTS, other=TEXTS)
    def test_different_accounts_have_different_folders(self, one, other):
        """Nobody's conversations are filed under another's name."""
        same = fill("a/{account}/{part}", account=one) == fill("a/{account}/{part}", account=other)

        assert same == (one == other or {one, other} == {"", "unknown"})


class TestProblems:
    @pytest.mark.parametrize(
        ("text", "options"),
        [
            ("chats/{part}.jsonl", {}),
            ("chats-{source}/{year}/{part}.jsonl", {}),
            ("{title}-{id}.md", {"mode": "mirror", "ending": ".md"}),
            ("{year}/{id}.md.gz", {"mode": "mirror", "ending": ".md.gz"}),
            ("{table}/source={source}/{part}.parquet", {"ending": ".parquet", "tables": ("a", "b")}),
        ],
    )
    def test_a_good_one_has_none(self, text, options):
        assert wrong(text, **options) == []

    @pytest.mark.parametrize(
        ("text", "options", "message"),
        [
            ("x/{yaer}/{part}.jsonl", {}, "`key` has an unknown placeholder `{yaer}`; did you mean `{year}`?"),
            (
                "x/{zzz}/{part}.jsonl",
                {},
                "`key` has an unknown placeholder `{zzz}`; known are `{source}`, `{account}`, `{year}`, `{month}`,"
                " `{day}`, `{year_month}`, `{format}`, `{part}`",
            ),
            (
                "x/{title}/{part}.jsonl", {},
                "`key` has an unknown placeholder `{title}`; known are `{source}`, `{account}`, `{year}`, `{month}`,"
                " `{day}`, `{year_month}`, `{format}`, `{part}`",
            ),
            ("x/{part}{.jsonl", {}, "`key` has a brace that belongs to no placeholder"),
            ("x/{year}.jsonl", {}, "`key` must hold `{part}`, which keeps the parts apart"),
            ("x/{part}.json", {}, "`key` must end in `.jsonl`, as the format and the compression do"),
            ("{source}/{part}.jsonl", {}, "`key` must begin with a literal prefix, such as `chats/`"),
            (
                "x/../{part}.jsonl", {},
                "`key` must be a relative path with `/` between its pieces, none of them empty, `.` or `..`",
            ),
            (
                "/x/{part}.jsonl", {},
                "`key` must be a relative path with `/` between its pieces, none of them empty, `.` or `..`",
            ),
            (
                "assets/{part}.jsonl", {},
                "`key` must not stand in `assets`, which belongs to muniment; choose another folder",
            ),
            (
                "x/{source}{account}{source}{part}.jsonl", {},
                "a piece of `key` could have 270 bytes between two `/`; at most 200 are safe",
            ),
            (
                "{year}/{title}.md", {"mode": "mirror", "ending": ".md"},
                "`key` must end in `{id}.md` behind a `/` or `-`, which keeps conversations apart",
            ),
            (
                "x/{part}.parquet", {"ending": ".parquet", "tables": ("a", "b")},
                "`key` must hold `{table}`, which keeps the tables apart: `a`, `b`",
            ),
        ],
    )  # fmt: skip
    def test_each_mistake_is_a_sentence(self, text, options, message):
        assert wrong(text, **options) == [message]


class TestPrefixes:
    def test_they_are_the_literal_beginnings(self):
        """All names begin with one of them."""
        assert KeyTemplate("chats/x-{source}/{part}").prefixes() == ("chats/x-",)
        assert KeyTemplate("{table}/s={source}/{part}").prefixes(("a", "b")) == ("a/s=", "b/s=")
