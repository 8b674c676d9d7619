"""How is text cut into words for the index, and a query into phrases?

SQLite's ``unicode61`` takes a run of Chinese, Japanese or Korean for one word.  So each such
character becomes a word of its own, on both sides, and a run of them in a query becomes a phrase:
any substring is found, from one character up, in an index that is no larger.
"""

import re
import unicodedata

# Han with its extensions and compatibility forms, kana, hangul, bopomofo; marks like the prolonged
# sound mark belong to kana words.
_RANGES = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30ff\u3100-\u312f"
    "\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U000323af"
)
_CHARACTER = re.compile(f"[{_RANGES}]")
_RUN = re.compile(f"[{_RANGES}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Only what stands in words: full-width letters and digits, half-width kana and hangul, squared and
# compatibility characters; not the full-width punctuation that every Chinese text has.
_COMPATIBILITY = re.compile(
    "[\u3131-\u318e\u3200-\u33ff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc\U0002f800-\U0002fa1f]"
)
_WORD = re.compile(r'"([^"]*)"|(\S+)')


def index_text(text: str) -> str:
    """Return ``text`` as the index takes it."""
    if text.isascii() or not _CHARACTER.search(text):
        return text
    return _RUN.sub(_spread, fold(text))


def fold(text: str) -> str:
    """Return ``text`` with full-width and half-width forms made alike (NFKC, where it can matter)."""
    if text.isascii() or not _COMPATIBILITY.search(text):
        return text
    return unicodedata.normalize("NFKC", text)


def scrub(text: str) -> str:
    """Return ``text`` as SQLite takes it: lone surrogates become U+FFFD (the record keeps them)."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def match_expression(query: str) -> str:
    """Return the FTS5 expression of what a person typed; empty where nothing of it can be searched.

    All words must occur, the last one may be the beginning of a word; ``"..."`` is a phrase; a
    leading ``-`` leaves out.  No character of the query has a meaning of FTS5's own.
    """
    wanted: list[str] = []
    unwanted: list[str] = []
    found = list(_WORD.finditer(query))
    for i, match in enumerate(found):
        phrase, word = match.group(1), match.group(2)
        text = word if phrase is None else phrase
        negative = phrase is None and len(text) > 1 and text.startswith("-")
        cut = index_text(text[1:] if negative else text).replace('"', " ").replace("\0", " ").strip()
        if not any(c.isalnum() for c in cut):
            continue
        prefix = i == len(found) - 1 and phrase is None and cut[-1:].isalnum() and not _CHARACTER.match(cut[-1])
        term = f'"{scrub(cut)}"{"*" if prefix else ""}'
        (unwanted if negative else wanted).append(term)
    if not wanted:
        return ""
    expression = " AND ".join(wanted)
    return f"({expression}) NOT ({' OR '.join(unwanted)})" if unwanted else expression


def terms(query: str) -> list[str]:
    """Return the words and phrases of a query, plain, for marking them in a snippet."""
    texts = [m.group(1) if m.group(1) is not None else m.group(2) for m in _WORD.finditer(query)]
    return [plain(t) for t in texts if t and not (t.startswith("-") and len(t) > 1)]


def unwanted(query: str) -> list[str]:
    """Return what a query leaves out, plain."""
    words = (m.group(2) for m in _WORD.finditer(query))
    return [plain(w[1:]) for w in words if w and len(w) > 1 and w.startswith("-")]


def plain(text: str) -> str:
    """Return ``text`` without case, diacritics and compatibility forms: alike is found by alike."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))


def _spread(run: re.Match[str]) -> str:
    return f" {' '.join(run[0])} "
